"""The performance page's tables of engines: against rules, against other models, by runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.performance_goals import BACKEND, PEERS, RULES, newest
from bench.performance_words import known, ran, some, times, why_not
from bench.results_columns import NONE
from bench.tables import markdown

Result = dict[str, Any]
TURNS = ((1, 1), (20, 1), (1, 2))
"""Crops a turn and threads of the tables of engine against rules."""


def rules(results: Sequence[Result]) -> list[str]:
    parts = [
        "Crop to verdict: resize, score, map and box, every crop with noise of its own. `rules` is "
        "the Python and OpenCV form; `rules c++` has its per-ball part in C++, the rest being OpenCV's own. Recalls are those of "
        "the row's own scores where 0.5 % of the same good crops fail."
    ]
    for turn, threads in TURNS:
        found = newest(results, "rules", turn=turn, threads=threads)
        title = f"### {some(turn, 'crop')} a turn, {some(threads, 'thread')}"
        command = f"{RULES} --turn {turn} --threads {threads}"
        if found is None:
            parts += [title, f"Not run: `{command}`."]
            continue
        parts += [
            title,
            ran(found, f"{command} --crops {found['crops']}"),
            _rows(found),
            why_not(found["missing"]),
        ]
        parts.append(_kinds(found) if (turn, threads) == (1, 1) else "")
    return parts


def _rows(found: Result) -> str:
    least = float(found["rows"][found["fastest"][1]]["ms"]["p50"])
    lines = [
        [
            name,
            *times(row["ms"]),
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


def peers(results: Sequence[Result]) -> list[str]:
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
            parts.append(f"Not run with {some(threads, 'thread')}: `{command}`.")
            continue
        ways = list(dict.fromkeys(r for row in found["rows"].values() for r in row["ms"]))
        lines = [
            [
                name,
                row["kind"],
                *(" / ".join(times(row["ms"][r])) if r in row["ms"] else NONE for r in ways),
                known(row.get("auroc")),
            ]
            for name, row in found["rows"].items()
        ]
        head = ["model", "kind", *(f"{runner} p50 / p99 ms" for runner in ways), "AUROC"]
        command += f" --rounds {found['rounds']} --units {found['auroc_units']}"
        parts += [f"### {some(threads, 'thread')}", ran(found, command), markdown(head, lines)]
    return parts


def runners(results: Sequence[Result]) -> list[str]:
    """The newest result of every engine and number of threads."""
    kept = {
        (result["engine"], result["threads"]): result
        for result in results
        if result["bench"] == "backend" and "runners" in result
    }
    if not kept:
        return [f"Not run: `{BACKEND}`."]
    return [part for key in sorted(kept) for part in _by_runner(kept[key])]


def _by_runner(found: Result) -> list[str]:
    told = {name: row for name, row in found["runners"].items() if "ms" in row}
    lines = [[name, *times(row["ms"]), *times(row["batch_16_ms"])] for name, row in told.items()]
    head = ["runner", "p50 ms", "p99 ms", "of 16, a crop, p50 ms", "p99 ms"]
    missing = {n: row["missing"] for n, row in found["runners"].items() if n not in told}
    command = f"{BACKEND} --threads {found['threads']} --crops {found['crops']}"
    return [
        f"### {found['engine']}, {some(found['threads'], 'thread')}",
        ran(found, command),
        markdown(head, lines),
        why_not(missing),
    ]
