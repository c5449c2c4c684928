"""
Engine against rules: the same crops, one process, one thread, in turn, fresh noise on each crop.

Both see every crop once; who goes first alternates. AUROC is of the same simulated units for both,
good ones and every kind of defect that the simulator knows.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_inspector import clock
from edge_inspector.backends import open_first
from edge_inspector.bundle import open_engine
from edge_inspector.crops import fit
from edge_inspector.protocols import Scorer
from edge_inspector.records import Crop, Roi
from edge_inspector.rules import open_rules
from edge_inspector.scorers.anomaly import AnomalyScorer
from edge_inspector.simulator import package
from edge_inspector.simulator.defects import DEFECTS, GOOD
from edge_inspector.simulator.parts import Variation, compose
from edge_inspector.studies.metrics import auroc
from edge_inspector.studies.tally import percentiles

WARM_UP = 20
SEED = 31


def run(
    engine_dir: Path,
    rules: Path,
    *,
    crops: int = 1000,
    threads: int = 1,
    backends: tuple[str, ...] = ("openvino", "onnxruntime"),
    tick: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Median and p99 of both in ms, their ratio, their AUROC over all kinds."""
    cv2.setNumThreads(threads)
    engine = open_engine(engine_dir)
    backend, session = open_first(backends, engine.model, threads)
    scorers: list[Scorer] = [AnomalyScorer(session, engine.manifest), open_rules(rules)]
    spent: list[list[float]] = [[], []]
    scores: list[list[float]] = [[], []]
    bad: list[bool] = []
    for number in range(WARM_UP + crops):
        pixels, label = _unit(number)
        for which in (0, 1) if number % 2 else (1, 0):
            ms, score = _time(scorers[which], pixels)
            if number >= WARM_UP:
                spent[which].append(ms)
                scores[which].append(score)
        if number >= WARM_UP:
            bad.append(label != GOOD)
            tick()
    session.close()
    truth = np.array(bad)
    figures = [percentiles(values) for values in spent]
    areas = [round(auroc(np.array(values), truth), 4) for values in scores]
    return {
        "engine_ms": figures[0],
        "rules_ms": figures[1],
        "ratio": round(figures[0]["p50"] / figures[1]["p50"], 4),
        "threads": threads,
        "crops": crops,
        "engine": engine.title,
        "backend": backend,
        "auroc_engine": areas[0],
        "auroc_rules": areas[1],
    }


def _unit(number: int) -> tuple[np.ndarray[Any, Any], str]:
    """Every other unit is good, the others go through the kinds in turn."""
    kinds = tuple(DEFECTS)
    label = GOOD if number % 2 else kinds[number // 2 % len(kinds)]
    rng = np.random.default_rng([SEED, number])
    return compose(package.parts(), rng, Variation(), label).pixels, label


def _time(scorer: Scorer, pixels: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Milliseconds and score from the frame's pixels on: resize to what the scorer takes, score."""
    height, width = pixels.shape
    box = (0, 0, width, height)
    started = clock.now_ns()
    crop = Crop(Roi("package", "main", box), fit(pixels, *scorer.input_shape), box)
    (score,) = scorer.score([crop])
    return (clock.now_ns() - started) / 1e6, score.anomaly_score
