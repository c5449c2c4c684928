"""What the demo shows: a live table, and the summary in words."""

from __future__ import annotations

from typing import Any

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from edge_inspector.studies.tally import Tally, percentiles

COLOURS = {"pass": "green", "fail": "red", "uninspected": "yellow"}


def picture(tally: Tally, units: int, startup_s: float) -> RenderableType:
    """The live view: units, verdicts, defect classes, latency, engine beside rules."""
    head = Text(f"Edge Inspector demo: simulated BGA line, ready after {startup_s:.1f} s", "bold")
    return Panel(
        Group(
            head,
            ProgressBar(total=units, completed=tally.verdicts, width=72),
            Columns([_verdicts(tally), _latency(tally), _calls(tally)], padding=(0, 3)),
        ),
        width=112,
    )


def _verdicts(tally: Tally) -> Table:
    table = Table(title="verdicts", box=None, min_width=28)
    table.add_column("")
    table.add_column("units", justify="right")
    table.add_row("offered", str(len(tally.truth)))
    for outcome, colour in COLOURS.items():
        table.add_row(Text(outcome, colour), str(tally.outcomes[outcome]))
    for name, count in tally.classes.most_common(5):
        table.add_row(f"  {name}", str(count))
    return table


def _latency(tally: Tally) -> Table:
    table = Table(title="trigger to verdict", box=None, min_width=26)
    table.add_column("")
    table.add_column("ms", justify="right")
    for name, value in percentiles(tally.latencies_ms).items():
        table.add_row(name.replace("_", "."), f"{value:.1f}")
    table.add_row("budget", f"{tally.budget_ms:.0f}")
    table.add_row(Text("deadline misses", "red" if tally.timeouts else ""), str(tally.timeouts))
    return table


def _calls(tally: Tally) -> Table:
    table = Table(title="against the truth", box=None, min_width=34)
    table.add_column("")
    for name in ("engine", "rules"):
        table.add_column(name, justify="right")
    columns = (tally.engine, tally.rules)
    table.add_row("defective units", *(str(c.defective) for c in columns))
    table.add_row("escapes", *(_rate(c.escapes, c.defective) for c in columns))
    table.add_row("good units", *(str(c.good) for c in columns))
    table.add_row("overkill", *(_rate(c.overkill, c.good) for c in columns))
    return table


def _rate(count: int, of: int) -> str:
    return f"{count} ({100 * count / of:.1f} %)" if of else str(count)


def summary_text(summary: dict[str, Any]) -> str:
    """The end of the demo in a few lines."""
    latency, outcomes = summary["latency_ms"], summary["outcomes"]
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    classes = ", ".join(f"{n} {c}" for c, n in sorted(summary["defect_classes"].items()))
    lines = [
        f"offered {summary['offered']}, accepted {summary['accepted']}, verdicts "
        f"{summary['verdicts']} ({told}), lost {summary['lost']}, doubled {summary['doubled']}",
        f"defect classes: {classes or 'none'}",
        f"latency p50 {latency['p50']} ms, p99 {latency['p99']} ms, p99.9 {latency['p99_9']} ms, "
        f"max {latency['max']} ms; budget {summary['budget_ms']:.0f} ms; "
        f"timeouts {summary['timeouts']}",
        *(_calls_text(name, summary[name]) for name in ("engine", "rules")),
        f"pictures of the rejects: {summary['rejects']}",
    ]
    return "\n".join(lines)


def _calls_text(name: str, calls: dict[str, Any]) -> str:
    return (
        f"{name}: {calls['escapes']} escapes ({100 * calls['escape_rate']:.2f} %), "
        f"{calls['overkill']} overkill ({100 * calls['overkill_rate']:.2f} %)"
    )
