"""
Plots of the results tables: figures only, never pixels of a data set.

Drawn from the scores that a run left in `results/`; a table whose scores are not here keeps its plots.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("svg")

from matplotlib import pyplot as plt

from bench.results_page import page_of
from edge_inspector.studies.dataset import is_good

Result = dict[str, Any]
LOWEST = 1e-3
"""Overkill where the axis begins: a third of a test set's 3,000 good units would be one unit."""
BETAS = {0.01: 0.743, 0.1: 0.776, 1.0: 0.796, 3.0: 0.809, 10.0: 0.735}
"""The paper's F1 by weight of the divergence."""


def write_plots(spec: dict[str, Any], results: Sequence[Result]) -> None:
    """Draw what there are scores for."""
    set_style()
    folder = page_of(spec).with_suffix("")
    for table in spec["table"]:
        for data, of_data in spec["data"].items():
            found = [r for r in results if (r["table"], r["data"]) == (table, data)]
            first = [r for r in found if r["outcome"] == "ok" and r["seed"] == 0]
            scores = {r["row"]: read for r in first if (read := _scores(r)) is not None}
            if len(scores) > 1:
                _curves(scores, folder / f"{table}-{data}-curves", of_data["title"])
                _densities(scores, folder / f"{table}-{data}-densities", of_data["title"])
    _betas(results, folder)


def _scores(result: Result) -> tuple[np.ndarray, np.ndarray] | None:
    """Scores of the reported split and which are of defective units."""
    words = result["commands"][-1].split()
    path = Path(words[words.index("--scores") + 1])
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["split"] == "test" and r["score"]]
    scores = np.array([float(row["score"]) for row in rows])
    bad = np.array([not is_good(row["label"]) for row in rows])
    return (scores, bad) if np.ptp(scores) > 0 else None


def _steps(scores: np.ndarray, bad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Overkill and recall at every threshold."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)
    good = np.append(0, np.cumsum(~bad[order])[last] / max((~bad).sum(), 1))
    hits = np.append(0, np.cumsum(bad[order])[last] / max(bad.sum(), 1))
    # Corners alone: a point where both neighbours lie at its recall or at its overkill adds nothing.
    flat = (np.diff(good[:-1]) == 0) & (np.diff(good[1:]) == 0)
    level = (np.diff(hits[:-1]) == 0) & (np.diff(hits[1:]) == 0)
    shown = np.concatenate([[True], ~(flat | level), [True]])
    return good[shown], hits[shown]


def _curves(scores: dict[str, tuple[np.ndarray, np.ndarray]], path: Path, title: str) -> None:
    figure, (roc, low) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for row, (values, bad) in scores.items():
        overkill, recall = _steps(values, bad)
        roc.plot(overkill, recall, linewidth=1, label=row)
        low.step(np.maximum(overkill, LOWEST / 2), recall, where="post", linewidth=1)
    roc.plot([0, 1], [0, 1], color="grey", linewidth=0.5)
    roc.set(xlabel="overkill", ylabel="recall", title=f"{title}: ROC")
    low.axvline(0.005, color="grey", linewidth=0.5)
    low.set(xscale="log", xlim=(LOWEST, 1), xlabel="overkill", ylabel="recall")
    low.set_title("recall against overkill")
    figure.legend(loc="outside right upper", fontsize=6)
    save_figure(figure, path)


def _densities(scores: dict[str, tuple[np.ndarray, np.ndarray]], path: Path, title: str) -> None:
    """Scores in spreads of the good ones, one small plot a row of the table."""
    across = min(len(scores), 4)
    down = -(-len(scores) // across)
    figure, axes = plt.subplots(
        down, across, figsize=(2.2 * across, 1.5 * down), layout="constrained", squeeze=False
    )
    for axis in axes.flat[len(scores) :]:
        axis.set_visible(False)
    for axis, (row, (values, bad)) in zip(axes.flat, scores.items(), strict=False):
        middle = np.median(values[~bad])
        spread = 1.4826 * np.median(np.abs(values[~bad] - middle)) or 1.0
        away = np.clip((values - middle) / spread, -4, 12)
        edges = np.linspace(-4, 12, 49)
        for which, label in ((~bad, "good"), (bad, "defective")):
            axis.hist(
                away[which], edges, density=True, alpha=0.6, label=label, histtype="stepfilled"
            )
        axis.set_title(row, fontsize=7)
        axis.tick_params(labelsize=6)
    axes[0, 0].legend(fontsize=6)
    figure.suptitle(f"{title}: scores in spreads of the good ones, cut off at 12", fontsize=8)
    save_figure(figure, path)


def _betas(results: Sequence[Result], folder: Path) -> None:
    """F1 by weight of the divergence, ours with the deviation over seeds and the paper's."""
    rows = {beta: f"beta {beta:g}, ELBO" for beta in BETAS}
    rows[3.0] = "beta-VAE, ELBO"
    found: dict[float, list[float]] = {}
    for beta, row in rows.items():
        fine = [r for r in results if (r["row"], r["data"], r["outcome"]) == (row, "min32", "ok")]
        if fine:
            found[beta] = [r["report"]["best_f1"]["f1"] for r in fine]
    if len(found) < 2:
        return
    figure, axis = plt.subplots(figsize=(4.5, 3), layout="constrained")
    means = [float(np.mean(values)) for values in found.values()]
    spreads = [float(np.std(v, ddof=1)) if len(v) > 1 else 0.0 for v in found.values()]
    axis.errorbar(list(found), means, spreads, marker="o", capsize=3, label="here, min32")
    axis.plot(list(BETAS), list(BETAS.values()), marker="s", label="paper, its own data")
    axis.axhline(0.798, color="grey", linewidth=0.8, linestyle="--", label="rejecting all, min32")
    axis.set(xscale="log", xlabel="beta", ylabel="F1")
    axis.legend(fontsize=7)
    save_figure(figure, folder / "solder-beta")


def set_style() -> None:
    """How plots of the pages look."""
    mpl.rcParams.update(
        {
            "svg.hashsalt": "edge-inspector",
            "svg.fonttype": "none",
            "font.size": 8,
            "axes.grid": True,
        }
    )


def save_figure(figure: Any, path: Path) -> None:
    """Write it for the page as `path`.svg, the same bytes for the same figures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(f"{path}.svg", metadata={"Date": None})
    plt.close(figure)
