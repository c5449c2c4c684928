"""The page of the results tables, from kept results alone: nothing is measured or rounded up here."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.results_columns import AT, COLUMNS, NONE, TEXTS
from bench.results_goals import goals_table
from bench.results_units import with_borrowed
from bench.tables import markdown

Result = dict[str, Any]


def page_of(spec: dict[str, Any]) -> Path:
    """Where the page lies; its plots lie beside it, in a folder of its name."""
    return Path(f"docs/results-{spec['name']}.md")


def write_page(spec: dict[str, Any], kept: Sequence[Result]) -> None:
    """Write `docs/results-<name>.md`."""
    parts = [f"# {spec['title']}", spec["intro"].strip(), _machine(kept)]
    results = with_borrowed(spec, kept)
    head = ["goal", "data", "wanted", "found", ""]
    parts += ["## Goals", markdown(head, goals_table(spec, results), "---")]
    parts.append(spec.get("tried", "").strip())
    for name, table in spec["table"].items():
        parts += [f"## {table['title']}", table["text"].strip()]
        for data in data_of(spec, name):
            chosen = [r for r in results if (r["table"], r["data"]) == (name, data)]
            parts += _set(spec, name, data, chosen)
        parts += _pictures(page_of(spec), name)
        parts += _commands(spec, name, [r for r in results if r["table"] == name])
    page_of(spec).write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


def _machine(results: Sequence[Result]) -> str:
    there = [r for r in results if r["outcome"] == "ok"]
    dates = sorted({r["date"] for r in there}) or [NONE]
    cpus = sorted({r["cpu"] for r in there}) or [NONE]
    span = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return (
        f"{len(there)} results of {span}, one core of a two-core box ({', '.join(cpus)}) that did "
        "other work at the same time: times are upper bounds."
    )


def data_of(spec: dict[str, Any], table: str) -> list[str]:
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
    head = ["row", *(TEXTS[n][0] if n in TEXTS else COLUMNS[n][0] for n in columns)]
    lines, there = [], {}
    for row, run in _rows_of(spec, table, data):
        found = [r for r in results if r["row"] == row]
        fine = [r for r in found if r["outcome"] == "ok"]
        if fine:
            there[row] = fine
            lines.append([row, *(_cell(name, row, run, fine) for name in columns)])
        else:
            why = found[0]["outcome"] if found else "not run"
            lines.append([row, why, *[NONE] * (len(columns) - 1)])
    return [
        f"### {of_data['title']}",
        of_data.get("text", ""),
        markdown(head, lines),
        _by_class(there, of_data["title"]),
    ]


def _cell(column: str, row: str, run: dict[str, Any], fine: list[Result]) -> str:
    if column in TEXTS:
        return TEXTS[column][1](row, run, fine)
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
    """Figures of every class, one column a row of the table above."""
    rows = {name: fine for name, fine in there.items() if len(fine[0]["report"]["per_class"]) > 1}
    labels = sorted({c for fine in rows.values() for c in fine[0]["report"]["per_class"]})
    named = any("macro_f1" in fine[0]["report"] for fine in rows.values())
    if not labels or (len(rows) < 2 and not named):
        return ""
    tell = _of_named if named else _of_class
    lines = [[label, *(tell(fine, label) for fine in rows.values())] for label in labels]
    table = markdown(["class", *rows], lines)
    note = (
        "precision / recall / F1" if named else "AUROC / recall at the threshold of 0.5 % overkill"
    )
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


def _of_named(fine: list[Result], label: str) -> str:
    """Means over runs; a class that a run's test lacks leaves it out."""
    found = [r["report"]["per_class"][label] for r in fine if label in r["report"]["per_class"]]
    means = [
        [of[name] for of in found if of[name] is not None] for name in ("precision", "recall", "f1")
    ]
    return " / ".join(f"{statistics.mean(v):.2f}" if v else NONE for v in means)


def _pictures(page: Path, table: str) -> list[str]:
    return [
        f"![{path.stem.replace('-', ' ')}]({path.relative_to(page.parent).as_posix()})"
        for path in sorted(page.with_suffix("").glob(f"{table}-*.svg"))
    ]


def _commands(spec: dict[str, Any], table: str, results: Sequence[Result]) -> list[str]:
    """Every command as it was run; seeds but the first are told by number."""
    lines = ["<details><summary>Commands</summary>", "", "```sh"]
    for name in data_of(spec, table):
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
