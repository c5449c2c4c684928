"""The page of the results tables, from kept results alone: nothing is measured or rounded up here."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.results_goals import AT, goals_table

PAGE = Path("docs/results-anomaly.md")
PLOTS = Path("docs/results-anomaly")
Result = dict[str, Any]
NONE = "-"


def write_page(spec: dict[str, Any], results: Sequence[Result]) -> None:
    """Write `docs/results-anomaly.md`."""
    parts = [f"# {spec['title']}", spec["intro"].strip(), _machine(results)]
    head = ["goal", "data", "wanted", "found", ""]
    parts += ["## Goals", _table(head, goals_table(spec, results), "---")]
    for name, table in spec["table"].items():
        parts += [f"## {table['title']}", table["text"].strip()]
        for data in _data_of(spec, name):
            chosen = [r for r in results if (r["table"], r["data"]) == (name, data)]
            parts += _set(spec, name, data, chosen)
        parts += _pictures(name)
        parts += _commands(spec, name, [r for r in results if r["table"] == name])
    PAGE.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


def _machine(results: Sequence[Result]) -> str:
    there = [r for r in results if r["outcome"] == "ok"]
    dates = sorted({r["date"] for r in there}) or [NONE]
    cpus = sorted({r["cpu"] for r in there}) or [NONE]
    span = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return (
        f"{len(there)} results of {span}, one core of a two-core box ({', '.join(cpus)}) that did "
        "other work at the same time: times are upper bounds."
    )


def _data_of(spec: dict[str, Any], table: str) -> list[str]:
    """Names of a table's data sets, in the order in which they come."""
    return list(
        dict.fromkeys(name for run in spec["run"] if run["table"] == table for name in run["data"])
    )


def _rows_of(spec: dict[str, Any], table: str, data: str) -> list[tuple[str, dict[str, Any]]]:
    """Titles of a table's rows with the run that makes each."""
    return [
        (row, run)
        for run in spec["run"]
        if run["table"] == table and data in run["data"]
        for row in run.get("rows", {run["name"]: ""})
    ]


def _set(spec: dict[str, Any], table: str, data: str, results: Sequence[Result]) -> list[str]:
    """A data set's two tables: all classes together, and class by class."""
    of_data, columns = spec["data"][data], spec["table"][table]["columns"]
    head = ["row", *(COLUMNS[name][0] for name in columns)]
    lines, there = [], {}
    for row, run in _rows_of(spec, table, data):
        found = [r for r in results if r["row"] == row]
        fine = [r for r in found if r["outcome"] == "ok"]
        paper = run.get("paper", {}).get(row) if isinstance(run.get("paper"), dict) else None
        if fine:
            there[row] = fine
            lines.append([row, *(_cell(name, fine, run, paper) for name in columns)])
        else:
            why = found[0]["outcome"] if found else "not run"
            lines.append([row, why, *[NONE] * (len(columns) - 1)])
    return [
        f"### {of_data['title']}",
        of_data.get("text", ""),
        _table(head, lines),
        _by_class(there, of_data["title"]),
    ]


def _cell(column: str, fine: list[Result], run: dict[str, Any], paper: str | None) -> str:
    if column == "paper":
        return paper or NONE
    _, value, digits = COLUMNS[column]
    values = [value(result) for result in fine]
    return _mean([v for v in values if v is not None], digits)


def _mean(values: list[float], digits: int) -> str:
    """Mean ± sample deviation over seeds; the value where there is one seed."""
    if not values:
        return NONE
    text = f"{statistics.mean(values):.{digits}f}"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):.{digits}f}"
    return text


def _by_class(there: dict[str, list[Result]], title: str) -> str:
    """AUROC and recall of every class, one column a row of the table above."""
    rows = {name: fine for name, fine in there.items() if len(fine[0]["report"]["per_class"]) > 1}
    labels = sorted({c for fine in rows.values() for c in fine[0]["report"]["per_class"]})
    if not labels or len(rows) < 2:
        return ""
    lines = [[label, *(_of_class(fine, label) for fine in rows.values())] for label in labels]
    table = _table(["class", *rows], lines)
    note = "AUROC / recall at the threshold of 0.5 % overkill"
    return f"<details><summary>{title}, class by class: {note}</summary>\n\n{table}\n\n</details>"


def _of_class(fine: list[Result], label: str) -> str:
    reports = [result["report"] for result in fine]
    aurocs = [r["per_class"][label]["auroc"] for r in reports if label in r["per_class"]]
    recalls = [
        r["recall_at_overkill"][AT]["per_class"][label]
        for r in reports
        if AT in r.get("recall_at_overkill", {})
    ]
    parts = [f"{statistics.mean(v):.{d}f}" if v else NONE for v, d in ((aurocs, 3), (recalls, 2))]
    return " / ".join(parts)


def _pictures(table: str) -> list[str]:
    return [
        f"![{path.stem.replace('-', ' ')}]({path.relative_to(PAGE.parent).as_posix()})"
        for path in sorted((PAGE.parent.parent / PLOTS).glob(f"{table}-*.svg"))
    ]


def _commands(spec: dict[str, Any], table: str, results: Sequence[Result]) -> list[str]:
    """Every command as it was run; seeds but the first are told by number."""
    lines = ["<details><summary>Commands</summary>", "", "```sh"]
    for name in _data_of(spec, table):
        if make := spec["data"][name].get("make"):
            needs = f"../shared/data/{spec['data'][name]['needs']}"
            lines.append(make.format(needs=needs, folder=f"results/data/{name}"))
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result["row"], result["data"]), []).append(result)
    for (row, data), found in groups.items():
        seeds = ", ".join(str(r["seed"]) for r in found)
        lines.append(f"# {row} on {data}, seeds {seeds}; {_ended(found)}")
        lines += found[0]["commands"]
    return ["\n".join([*lines, "```", "", "</details>"])]


def _ended(found: Sequence[Result]) -> str:
    parts = []
    for result in found:
        told = result.get("training") or {}
        if told:
            parts.append(f"{told['steps']} steps, {told['ended']}")
    return "; ".join(dict.fromkeys(parts)) or "nothing to train"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]], align: str = "--:") -> str:
    rule = ["---"] + [align] * (len(head) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))


def _auroc(result: Result) -> float | None:
    value: float | None = result["report"]["auroc"]
    return value


def _at(key: str) -> Callable[[Result], float | None]:
    def value(result: Result) -> float | None:
        found: float | None = (result["report"].get("recall_at_overkill", {}).get(AT) or {}).get(
            key
        )
        return found

    return value


def _f1(result: Result) -> float | None:
    found: float | None = (result["report"].get("best_f1") or {}).get("f1")
    return found


def _ms(result: Result) -> float | None:
    found: float | None = result["report"].get("latency_ms", {}).get("p50")
    return found


def _seconds(result: Result) -> float | None:
    found: float | None = (result.get("training") or {}).get("seconds")
    return found


COLUMNS: dict[str, tuple[str, Callable[[Result], float | None], int]] = {
    "auroc": ("AUROC", _auroc, 3),
    "recall": ("recall at 0.5 % overkill", _at("overall"), 3),
    "overkill": ("overkill there, on the test", _at("overkill_rate"), 4),
    "f1": ("F1", _f1, 3),
    "ms": ("ms a crop", _ms, 2),
    "seconds": ("s to train", _seconds, 0),
    "paper": ("paper's", lambda result: None, 0),
}
"""Name in the TOML -> heading, value, digits."""
