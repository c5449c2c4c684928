"""
Writes `docs/performance.md` and its plots from the benches' kept results, and measures nothing.

    python -m bench.performance_page bench/results/*.jsonl
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.performance_engines import peers, rules, runners
from bench.performance_goals import GOALS, PIPELINE, SWEEP, find, newest, sweeps
from bench.performance_plots import write_plots
from bench.performance_words import about, figure, in_ms, ran, times
from bench.results_columns import NONE
from bench.tables import markdown

Result = dict[str, Any]
PAGE = Path("docs/performance.md")
INTRO = """Every figure below is read from `bench/results/*.jsonl`; `make performance` writes this
page from there and measures nothing. With `--json bench/results/BOX.jsonl` the commands below keep
their results there. A result names its commit, its processor and its day; the newest one counts.
Ratios are of medians of one run, in which the rows took turns. Where it says *not run* there is no
result."""


def main(given: list[str] | None = None) -> int:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=PAGE)
    args = parser.parse_args(given)
    results = read(args.results)
    plots = write_plots(results, args.out.with_suffix(""))
    args.out.write_text(page(results, plots), encoding="utf-8")
    return 0


def read(files: Sequence[Path]) -> list[Result]:
    """The benches' lines, oldest first; tables of other pages have no bench."""
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    found = [result for line in lines if "bench" in (result := json.loads(line))]
    return sorted(found, key=lambda result: str(result["date"]))


def page(results: Sequence[Result], plots: Sequence[str]) -> str:
    """The whole page."""
    parts = ["# Performance", INTRO, "## Goals", _goals(results)]
    parts += ["## Engine against rules", *rules(results), *_shown(plots, "rules")]
    parts += ["## Other models", *peers(results), *_shown(plots, "speed")]
    parts += ["## Runtimes", *runners(results)]
    parts += ["## From the socket to the verdict", *_pipeline(results), *_shown(plots, "stages")]
    parts += ["## Scaling", *_scaling(results), *_shown(plots, "scaling")]
    parts += ["## GPU", *_gpu(results), "## Start and stop", *_startup(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _goals(results: Sequence[Result]) -> str:
    lines = []
    for goal in GOALS:
        finding = find(goal, results)
        wanted = f"{'≥' if goal.least else '≤'} {figure(goal.limit)} {goal.unit}".strip()
        if finding.figure is None or finding.result is None:
            lines.append([goal.what, wanted, "not run", "", NONE, f"`{goal.command}`"])
            continue
        met = "met" if goal.met(finding.figure) else "missed"
        found = f"{figure(finding.figure)} {goal.unit}".strip()
        lines.append([goal.what, wanted, found, met, about(finding.result), f"`{goal.command}`"])
    return markdown(["goal", "wanted", "found", "", "of", "command"], lines, "---")


def _pipeline(results: Sequence[Result]) -> list[str]:
    found = newest(results, "pipeline", rate_hz=100.0, socket_overhead_ms=...)
    if found is None:
        return [f"Not run: `{PIPELINE}`."]
    whole = {"total": found["total_ms"], "overhead": found["socket_overhead_ms"]}
    stages = {**found["stages_ms"], **whole}
    columns = ("p50", "p90", "p99", "p99_9", "p99_99", "max")
    lines = [
        [name, *(in_ms(spent.get(column)) for column in columns)] for name, spent in stages.items()
    ]
    head = ["stage, ms", *(column.replace("_", ".") for column in columns)]
    sync = found["sync_ms"]
    text = (
        f"{found['units']} units at {found['rate_hz']:g} a second: {found['lost']} lost, "
        f"{found['doubled']} doubled, {found['missed']} late, {found['shed']} shed. `overhead` is "
        "committed verdict received - socket in - inference; one sync of the disk alone takes "
        f"{sync['p50']} ms, p99 {sync['p99']} ms."
    )
    command = f"{PIPELINE} --units {found['units']} --workers {found['workers']}"
    return [ran(found, command), text, markdown(head, lines)]


def _scaling(results: Sequence[Result]) -> list[str]:
    found = sweeps(results)
    if not found:
        return [f"Not run: `{SWEEP}`."]
    lines = [
        [
            sweep["case"],
            sweep["runner"],
            str(sweep["workers"]),
            f"{sweep['at_most_hz']:g}",
            f"{sweep['overload_goodput']:.3f}",
            _cost(sweep),
            f"{sweep['memory_mb']:.0f}",
        ]
        for sweep in found
    ]
    head = ["case", "runner", "workers", "in time, units/s", "overload", "CPU ms a unit", "MiB"]
    text = (
        "The load generator and the controller run on the same cores. `overload` is what is "
        "inspected in time at three times that load over what it is at 0.9 times; cost is of all "
        "the daemon's processes at the rated load."
    )
    where = dict.fromkeys(about({**sweep, "runner": None}) for sweep in found)
    return [f"`{SWEEP}`: {'; '.join(where)}.", text, markdown(head, lines)]


def _cost(sweep: Result) -> str:
    rated = (sum(row["cpu_ms_per_unit"].values()) for row in sweep["rows"] if row["share"] == 0.9)
    return in_ms(next(rated, None))


def _gpu(results: Sequence[Result]) -> list[str]:
    found = newest(results, "gpu", wall_ms=...)
    if found is None:
        return ["Not run: no GPU was at hand. `edge-inspector bench gpu` measures it."]
    walls = {f"{name}, crop to answer": found["wall_ms"][name] for name in ("graph", "plain")}
    walls |= {f"paced, {name}": found["paced_ms"][name] for name in ("warm", "cold")}
    lines = [[name, *times(row)] for name, row in walls.items()]
    batches = [
        [size, in_ms(row["ms"]), f"{row['crops_per_s']:.0f}"]
        for size, row in found["batches"].items()
    ]
    return [
        ran(found, "edge-inspector bench gpu"),
        markdown(["way", "p50 ms", "p99 ms"], lines),
        markdown(["crops at a time", "ms", "crops/s"], batches),
    ]


def _startup(results: Sequence[Result]) -> list[str]:
    command = "edge-inspector bench startup"
    found = newest(results, "startup", ready_s=...)
    if found is None:
        return [f"Not run: `{command}`."]
    ready, stop = found["ready_s"]["p50"], found["stop_s"]["p50"]
    return [ran(found, command), f"Ready after {ready} s, gone {stop} s after SIGTERM (medians)."]


def _shown(plots: Sequence[str], name: str) -> list[str]:
    folder = PAGE.stem
    return [f"![{plot}]({folder}/{plot}.svg)" for plot in plots if plot.startswith(name)]


if __name__ == "__main__":
    raise SystemExit(main())
