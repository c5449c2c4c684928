"""A classifier's figures for people: lines of text, and its confusion matrix as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edge_inspector.errors import BackendMissing, Misuse

SUFFIXES = (".png", ".svg")
CELL, MARGIN = 0.55, 1.8
"""Inches of a cell, and around all."""


def print_classes(report: dict[str, Any]) -> None:
    """The report of `evaluate_classes` in lines."""
    print(
        f"{report['engine']} on {report['backend']}, {report['images']} images of "
        f"'{report['split']}', {report['corrupt']} corrupt"
    )
    for label, count in report["not_taught"].items():
        print(f"'{label}' ({count} images) is no class of this engine and left out of its figures")
    print(
        f"accuracy {report['accuracy']}  macro-F1 {report['macro_f1']}  "
        f"macro-AUC {report['macro_auc']}"
    )
    for label, figures in report["per_class"].items():
        print(
            f"  {label}: {figures['support']} images, precision {figures['precision']}, recall "
            f"{figures['recall']}, F1 {figures['f1']}, AUC {figures['auc']}"
        )
    if detection := report["detection"]:
        told = detection["most_probable"]
        print(
            f"defective or not: AUROC {detection['auroc']}, precision {told['precision']}, recall "
            f"{told['recall']}, overkill {told['overkill_rate']}"
        )
    for label, share in (report["called_unknown"] or {}).items():
        print(f"called unknown: {share} of '{label}'")
    if drift := report.get("unknown"):
        print(
            f"unknown '{drift['label']}': F1 {drift['f1']}, precision {drift['precision']}, "
            f"recall {drift['recall']}, AUROC {drift['auroc']}"
        )
    for name, value in report.get("baselines", {}).items():
        print(f"{name} {value}")
    print(f"latency ms p50 {report['latency_ms']['p50']} p99 {report['latency_ms']['p99']}")


def check_picture(path: Path) -> None:
    """Raise `Misuse` for a name that says no format, before any work."""
    if path.suffix.lower() not in SUFFIXES:
        raise Misuse(f"--picture {path}: write its name with {' or '.join(SUFFIXES)}")


def draw_confusion(report: dict[str, Any], path: Path) -> None:
    """Write shares of each true class (rows) with counts; the same report gives the same bytes."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BackendMissing(f"{error}; --picture needs 'matplotlib'") from error
    labels = report["labels"]
    counts = np.array(report["confusion"], np.int64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with matplotlib.rc_context({"svg.hashsalt": "edge-inspector", "font.size": 8}):
        side = CELL * len(labels) + MARGIN
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right")
        axes.set_yticks(range(len(labels)), labels)
        axes.set_xlabel("most probable class")
        axes.set_ylabel("true class")
        axes.set_title(f"{report['engine']}, macro-F1 {report['macro_f1']:.3f}")
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            if count:
                axes.text(column, row, str(count), ha="center", va="center", color=colour)
        figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else {})
