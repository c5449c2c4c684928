"""Plots of the performance page: times of engine and rules, stages, scaling, speed against accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from bench.performance_goals import newest, sweeps
from bench.results_plots import save_figure, set_style
from edge_inspector.studies.bench_rules import SHARES

Result = dict[str, Any]
NINES = ("p50", "p90", "p99", "p99_9", "p99_99")
SHOWN = 0.99
"""Share of the crops that the curves of times show: one late crop would set the scale."""


def write_plots(results: Sequence[Result], folder: Path) -> list[str]:
    """Draw what there are results for; the names of the plots."""
    set_style()
    drawn = []
    for name, draw in {
        "rules-times": _curves,
        "speed-accuracy": _speeds,
        "stages": _stages,
        "scaling": _scaling,
    }.items():
        figure = draw(results)
        if figure is not None:
            save_figure(figure, folder / name)
            drawn.append(name)
    return drawn


def _curves(results: Sequence[Result]) -> Any:
    """Share of crops done within a time, a crop a turn and 20."""
    found = [(turn, newest(results, "rules", turn=turn, threads=1)) for turn in (1, 20)]
    there = [(turn, result) for turn, result in found if result is not None]
    if not there:
        return None
    figure, axes = plt.subplots(
        1, len(there), figsize=(4.5 * len(there), 3.2), layout="constrained", squeeze=False
    )
    for axis, (turn, result) in zip(axes.flat, there, strict=True):
        for name, row in result["rows"].items():
            kept = [pair for pair in zip(row["curve_ms"], SHARES, strict=True) if pair[1] <= SHOWN]
            axis.plot(*zip(*kept, strict=True), marker=".", linewidth=1, label=name)
        axis.set(xscale="log", xlabel="ms a crop, one thread", ylabel="share of crops done")
        axis.set_title(f"{turn} crops a turn" if turn > 1 else "a crop a turn")
    axes[0, 0].legend(fontsize=6)
    return figure


def _speeds(results: Sequence[Result]) -> Any:
    """AUROC against the median time of whatever has both."""
    rules = newest(results, "rules", turn=20, threads=1) or newest(results, "rules", rows=...)
    peers = newest(results, "peers", threads=1, rows=...)
    points: dict[str, tuple[float, float]] = {}
    if rules is not None:
        points |= {n: (row["ms"]["p50"], row["auroc"]) for n, row in rules["rows"].items()}
    for name, row in (peers or {"rows": {}})["rows"].items():
        if row["kind"] != "ours" and row.get("auroc") is not None:
            points[name] = (min(ms["p50"] for ms in row["ms"].values()), row["auroc"])
    if not points:
        return None
    figure, axis = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
    for name, (ms, area) in points.items():
        axis.plot(ms, area, "o", markersize=4, label=name)
    axis.set(xscale="log", xlabel="median ms a crop, one core", ylabel="AUROC, simulated units")
    axis.legend(fontsize=6)
    return figure


def _stages(results: Sequence[Result]) -> Any:
    """Percentiles of every stage of a unit."""
    found = newest(results, "pipeline", rate_hz=100.0, socket_overhead_ms=...)
    if found is None:
        return None
    figure, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
    whole = {"total": found["total_ms"], "overhead": found["socket_overhead_ms"]}
    for number, (name, spent) in enumerate({**found["stages_ms"], **whole}.items()):
        there = [nine for nine in NINES if nine in spent]
        line = "-" if number < 10 else "--"
        wide = 1.8 if name in whole else 0.8
        values = [spent[nine] for nine in there]
        axis.plot(there, values, line, marker=".", linewidth=wide, label=name)
    axis.set(yscale="log", ylabel="ms", xlabel="percentile of units")
    axis.set_xticks(range(len(NINES)), [nine.replace("_", ".") for nine in NINES])
    figure.legend(loc="outside right upper", fontsize=6)
    return figure


def _scaling(results: Sequence[Result]) -> Any:
    """Units inspected in time against units offered, up to saturation and beyond."""
    found = sweeps(results)
    if not found:
        return None
    figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for sweep in found:
        rows = sorted((r for r in sweep["rows"] if r["share"]), key=lambda r: float(r["share"]))
        workers = f"{sweep['workers']} worker{'s' * (sweep['workers'] > 1)}"
        offered, done = ([row[name] for row in rows] for name in ("offered_hz", "in_time_hz"))
        label = f"{sweep['case']}, {sweep['runner']}, {workers}"
        axis.plot(offered, done, marker=".", linewidth=1, label=label)
    every = [row["offered_hz"] for sweep in found for row in sweep["rows"]]
    ends = [min(every), max(every)]
    axis.plot(ends, ends, color="grey", linewidth=0.5)
    axis.set(xscale="log", yscale="log", xlabel="offered, units/s", ylabel="in time, units/s")
    figure.legend(loc="outside right upper", fontsize=6)
    return figure
