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

from bench.performance_goals import BACKEND, GOALS, PEERS, PIPELINE, RULES, SWEEP, find, newest
from bench.performance_plots import write_plots
from bench.results_columns import NONE
from bench.tables import markdown

Result = dict[str, Any]
PAGE = Path("docs/performance.md")
TURNS = ((1, 1), (20, 1), (1, 2))
"""Crops a turn and threads of the tables of engine against rules."""
INTRO = """Every figure below is read from `bench/results/*.jsonl`; `make performance` writes this
page from there and measures nothing. With `--json bench/results/BOX.jsonl` the commands below keep
their results there. A result names its commit, its processor and its day; the
newest one counts. Ratios are of medians of one run, in which the rows took turns. Where it says
*not run* there is no result."""


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
    parts += ["## Engine against rules", *_rules(results), *_shown(plots, "rules")]
    parts += ["## Other models", *_peers(results), *_shown(plots, "speed")]
    parts += ["## Runtimes", *_runners(results)]
    parts += ["## From the socket to the verdict", *_pipeline(results), *_shown(plots, "stages")]
    parts += ["## Scaling", *_scaling(results), *_shown(plots, "scaling")]
    parts += ["## GPU", *_gpu(results), "## Start and stop", *_startup(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _goals(results: Sequence[Result]) -> str:
    lines = []
    for goal in GOALS:
        finding = find(goal, results)
        wanted = f"{'≥' if goal.least else '≤'} {_figure(goal.limit)} {goal.unit}".strip()
        if finding.figure is None or finding.result is None:
            lines.append([goal.what, wanted, "not run", "", NONE, f"`{goal.command}`"])
            continue
        met = "met" if goal.met(finding.figure) else "missed"
        found = f"{_figure(finding.figure)} {goal.unit}".strip()
        lines.append([goal.what, wanted, found, met, _about(finding.result), f"`{goal.command}`"])
    return markdown(["goal", "wanted", "found", "", "of", "command"], lines, "---")


def _about(result: Result) -> str:
    """Engine or runner, day, commit and device."""
    ran = result.get("fastest", result.get("runner"))
    words = [result.get("engine"), " / ".join(ran) if isinstance(ran, list) else ran]
    words += [result["date"], result["commit"], result.get("gpu") or result["cpu"]]
    return ", ".join(word for word in words if word)


def _rules(results: Sequence[Result]) -> list[str]:
    parts = [
        "Crop to verdict: resize, score, map and box, every crop with noise of its own. `rules` is "
        "the Python and OpenCV form, `rules c++` has its per-ball part in C++. Recalls are those of "
        "the row's own scores where 0.5 % of the same good crops fail."
    ]
    for turn, threads in TURNS:
        found = newest(results, "rules", turn=turn, threads=threads)
        title = f"### {_some(turn, 'crop')} a turn, {_some(threads, 'thread')}"
        command = f"{RULES} --turn {turn} --threads {threads}"
        if found is None:
            parts += [title, f"Not run: `{command}`."]
            continue
        parts += [
            title,
            _of(found, f"{command} --crops {found['crops']}"),
            _rows(found),
            _missing(found["missing"]),
        ]
        parts.append(_kinds(found) if (turn, threads) == (1, 1) else "")
    return parts


def _rows(found: Result) -> str:
    least = float(found["rows"][found["fastest"][1]]["ms"]["p50"])
    lines = [
        [
            name,
            *_times(row["ms"]),
            f"{row['ms']['p50'] / least:.2f}",
            f"{row['auroc']:.4f}",
            f"{row['recall']:.3f}",
        ]
        for name, row in found["rows"].items()
    ]
    head = ["row", "p50 ms", "p99 ms", f"/ {found['fastest'][1]}", "AUROC", "recall"]
    return markdown(head, lines)


def _kinds(found: Result) -> str:
    names = list(found["rows"])
    kinds = found["rows"][names[0]]["per_class"]
    lines = [
        [kind, *(f"{found['rows'][name]['per_class'][kind]:.3f}" for name in names)]
        for kind in kinds
    ]
    return f"Recall kind by kind, at 0.5 % overkill:\n\n{markdown(['kind', *names], lines)}"


def _peers(results: Sequence[Result]) -> list[str]:
    text = (
        "Forward passes of the same crop, uint8 256x256x1, preprocessing inside the graph, every "
        "network exported to ONNX and opened by the same runtimes. The others have random weights, "
        "which is fair for times. Their AUROC, where there is one, is of features of random "
        "weights fitted on good simulated crops: nobody would ship that, but neither side has seen "
        "ImageNet."
    )
    parts = [text]
    for threads in (1, 2):
        command = f"{PEERS} --threads {threads}"
        found = newest(results, "peers", threads=threads, rows=...)
        if found is None:
            parts.append(f"Not run with {_some(threads, 'thread')}: `{command}`.")
            continue
        runners = list(dict.fromkeys(r for row in found["rows"].values() for r in row["ms"]))
        lines = [
            [
                name,
                row["kind"],
                *(" / ".join(_times(row["ms"][r])) if r in row["ms"] else NONE for r in runners),
                _known(row.get("auroc")),
            ]
            for name, row in found["rows"].items()
        ]
        head = ["model", "kind", *(f"{runner} p50 / p99 ms" for runner in runners), "AUROC"]
        command += f" --rounds {found['rounds']} --units {found['auroc_units']}"
        parts += [f"### {_some(threads, 'thread')}", _of(found, command), markdown(head, lines)]
    return parts


def _runners(results: Sequence[Result]) -> list[str]:
    parts = []
    for threads in (1, 2):
        command = f"{BACKEND} --threads {threads}"
        found = newest(results, "backend", threads=threads, runners=...)
        if found is None:
            parts.append(f"Not run with {_some(threads, 'thread')}: `{command}`.")
            continue
        told = {name: row for name, row in found["runners"].items() if "ms" in row}
        lines = [
            [name, *_times(row["ms"]), *_times(row["batch_16_ms"])] for name, row in told.items()
        ]
        head = ["runner", "p50 ms", "p99 ms", "of 16, a crop, p50 ms", "p99 ms"]
        missing = {n: row["missing"] for n, row in found["runners"].items() if n not in told}
        command += f" --crops {found['crops']}"
        parts += [f"### {_some(threads, 'thread')}", _of(found, command)]
        parts += [markdown(head, lines), _missing(missing)]
    return parts


def _pipeline(results: Sequence[Result]) -> list[str]:
    found = newest(results, "pipeline", rate_hz=100.0, socket_overhead_ms=...)
    if found is None:
        return [f"Not run: `{PIPELINE}`."]
    whole = {"total": found["total_ms"], "overhead": found["socket_overhead_ms"]}
    stages = {**found["stages_ms"], **whole}
    columns = ("p50", "p90", "p99", "p99_9", "p99_99", "max")
    lines = [
        [name, *(_ms(spent.get(column)) for column in columns)] for name, spent in stages.items()
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
    return [_of(found, command), text, markdown(head, lines)]


def _scaling(results: Sequence[Result]) -> list[str]:
    found = newest(results, "pipeline", peaks=...)
    if found is None:
        return [f"Not run: `{SWEEP}`."]
    lines = [
        [
            peak["case"],
            str(peak["workers"]),
            f"{peak['at_most_hz']:g}",
            f"{peak['overload_goodput']:.3f}",
            _cost(found, peak),
            f"{peak['memory_mb']:.0f}",
        ]
        for peak in found["peaks"]
    ]
    head = ["case", "workers", "in time, units/s", "overload", "CPU ms a unit", "MiB"]
    text = (
        "The load generator and the controller run on the same cores. `overload` is what is "
        "inspected in time at three times that load over what it is at 0.9 times; cost is of all "
        "the daemon's processes at the rated load."
    )
    command = f"{SWEEP} --runner {found['runner']} --seconds {found['seconds']:g}"
    return [_of(found, command), text, markdown(head, lines)]


def _cost(found: Result, peak: Result) -> str:
    rated = (
        sum(row["cpu_ms_per_unit"].values())
        for row in found["rows"]
        if (row["case"], row["workers"], row["share"]) == (peak["case"], peak["workers"], 0.9)
    )
    return _ms(next(rated, None))


def _gpu(results: Sequence[Result]) -> list[str]:
    found = newest(results, "gpu", wall_ms=...)
    if found is None:
        return ["Not run: no GPU was at hand. `edge-inspector bench gpu` measures it."]
    walls = {f"{name}, crop to answer": found["wall_ms"][name] for name in ("graph", "plain")}
    walls |= {f"paced, {name}": found["paced_ms"][name] for name in ("warm", "cold")}
    lines = [[name, *_times(row)] for name, row in walls.items()]
    batches = [
        [size, _ms(row["ms"]), f"{row['crops_per_s']:.0f}"]
        for size, row in found["batches"].items()
    ]
    return [
        _of(found, "edge-inspector bench gpu"),
        markdown(["way", "p50 ms", "p99 ms"], lines),
        markdown(["crops at a time", "ms", "crops/s"], batches),
    ]


def _startup(results: Sequence[Result]) -> list[str]:
    command = "edge-inspector bench startup"
    found = newest(results, "startup", ready_s=...)
    if found is None:
        return [f"Not run: `{command}`."]
    ready, stop = found["ready_s"]["p50"], found["stop_s"]["p50"]
    return [_of(found, command), f"Ready after {ready} s, gone {stop} s after SIGTERM (medians)."]


def _of(found: Result, command: str) -> str:
    return f"`{command}`: {_about(found)}."


def _missing(why: dict[str, str]) -> str:
    return " ".join(
        f"No {name}: {words.splitlines()[0].rstrip('.')}." for name, words in why.items()
    )


def _shown(plots: Sequence[str], name: str) -> list[str]:
    folder = PAGE.stem
    return [f"![{plot}]({folder}/{plot}.svg)" for plot in plots if plot.startswith(name)]


def _times(row: dict[str, float]) -> list[str]:
    return [_ms(row["p50"]), _ms(row["p99"])]


def _ms(value: float | None) -> str:
    return NONE if value is None else _figure(value)


def _figure(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _known(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def _some(count: int, what: str) -> str:
    return f"{count} {what}" + "s" * (count != 1)


if __name__ == "__main__":
    raise SystemExit(main())
