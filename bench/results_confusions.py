"""Confusion matrices for the page: one figure a data set, a panel a row, counts of all runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("svg")

from matplotlib import pyplot as plt

from bench.results_page import data_of, page_of
from bench.results_plots import save_figure

Result = dict[str, Any]
ACROSS = 3


def write_confusions(spec: dict[str, Any], results: Sequence[Result]) -> None:
    """Draw what is kept; rows of the table `drift` are told by their figures alone."""
    mpl.rcParams.update({"svg.hashsalt": "edge-inspector", "svg.fonttype": "none", "font.size": 7})
    for table in spec["table"]:
        for data in data_of(spec, table):
            rows: dict[str, list[dict[str, Any]]] = {}
            for result in results:
                fine = result["outcome"] == "ok" and "confusion" in result.get("report", {})
                if fine and (result["table"], result["data"]) == (table, data):
                    rows.setdefault(result["row"], []).append(result["report"])
            if rows and spec["table"][table].get("confusions", True):
                path = page_of(spec).with_suffix("") / f"{table}-{data}-confusions"
                save_figure(_figure(rows, spec["data"][data]["title"]), path)


def _figure(rows: dict[str, list[dict[str, Any]]], title: str) -> Any:
    across = min(len(rows), ACROSS)
    down = -(-len(rows) // across)
    figure, axes = plt.subplots(
        down, across, figsize=(3.3 * across, 3.2 * down), layout="constrained", squeeze=False
    )
    for axis in axes.flat[len(rows) :]:
        axis.set_visible(False)
    for axis, (row, reports) in zip(axes.flat, rows.items(), strict=False):
        _panel(axis, row, reports)
    figure.suptitle(f"{title}: true class down, told class across", fontsize=8)
    return figure


def _panel(axis: Any, row: str, reports: list[dict[str, Any]]) -> None:
    labels, counts = summed(reports)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (down, across), count in np.ndenumerate(counts):
        colour = "white" if shares[down, across] > 0.5 else "black"
        axis.text(across, down, str(count), ha="center", va="center", color=colour, fontsize=6)
    axis.set_xticks(range(len(labels)), labels, rotation=60, ha="right", fontsize=6)
    axis.set_yticks(range(len(labels)), labels, fontsize=6)
    axis.grid(False)
    axis.set_title(row if len(reports) == 1 else f"{row}, {len(reports)} runs", fontsize=7)


def summed(reports: Sequence[dict[str, Any]]) -> tuple[list[str], np.ndarray]:
    """Counts of all runs together, by the labels of any."""
    labels = list(dict.fromkeys(label for report in reports for label in report["labels"]))
    counts = np.zeros((len(labels), len(labels)), np.int64)
    for report in reports:
        places = [labels.index(label) for label in report["labels"]]
        counts[np.ix_(places, places)] += np.array(report["confusion"])
    return labels, counts
