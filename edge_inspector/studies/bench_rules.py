"""
Engine against rules: the same crops, one process, in turn, fresh noise on each crop.

Every runner of the engine and every form of the rules sees every crop once, `turn` crops at a time;
who goes first moves on with each turn. Turns of one crop are the hardest: caches hold what another
row left there, as on a line between two units; longer ones show each row with its own. AUROC and recalls are of the same simulated units for all, good ones and every
kind of defect that the simulator knows. What can be timed one beside another is timed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_inspector import clock
from edge_inspector.bundle import Engine, open_engine
from edge_inspector.choice import Runtimes, candidates, open_all
from edge_inspector.crops import fit
from edge_inspector.engines import scorer_of
from edge_inspector.protocols import Scorer, Session
from edge_inspector.records import Crop, Pixels, Roi
from edge_inspector.rules import open_rules
from edge_inspector.simulator import package
from edge_inspector.simulator.defects import DEFECTS, GOOD
from edge_inspector.simulator.parts import Variation, compose
from edge_inspector.studies.metrics import auroc, threshold_at
from edge_inspector.studies.tally import percentiles

WARM_UP = 20
SEED = 31
RULES = "rules"
CPU = ("openvino", "onnxruntime")
OVERKILL = 0.005
SHARES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)
"""Where the curve of times is kept."""


@dataclass(slots=True)
class Row:
    """What one runner or one form of the rules said of the crops, and how long it took."""

    ms: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    def summary(self, labels: Sequence[str]) -> dict[str, Any]:
        """Times, AUROC, and recalls where at most a share `OVERKILL` of the good crops fails."""
        names, scores = np.array(labels), np.array(self.scores)
        failed = scores >= threshold_at(scores[names == GOOD], OVERKILL)
        kinds = [kind for kind in DEFECTS if kind in labels]
        return {
            "ms": percentiles(self.ms),
            "curve_ms": [round(float(value), 4) for value in np.quantile(self.ms, SHARES)],
            "auroc": round(auroc(scores, names != GOOD), 4),
            "recall": round(float(failed[names != GOOD].mean()), 4),
            "per_class": {kind: round(float(failed[names == kind].mean()), 4) for kind in kinds},
        }


def run(
    engine_dir: Path,
    rules: Path,
    *,
    crops: int = 1000,
    threads: int = 1,
    turn: int = 1,
    backends: Sequence[str] = CPU,
    others: Mapping[str, Scorer] | None = None,
    tick: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """
    Every runner of the engine, the rules, and `others` beside them, by row.

    `ratio` is the median of the fastest runner over that of the fastest rules, with `others` that
    are named `rules …` among the latter.
    """
    cv2.setNumThreads(threads)
    engine = open_engine(engine_dir)
    units = (unit(number) for number in range(WARM_UP + crops))
    with ExitStack() as stack:
        sessions, missing = open_runners(engine, backends, threads, stack)
        shown: dict[str, Scorer] = {n: scorer_of(one, engine) for n, one in sessions.items()}
        shown |= {RULES: open_rules(rules), **(others or {})}
        rows, labels = in_turn(shown, units, turn, tick)
    found = {name: row.summary(labels) for name, row in rows.items()}
    runner = _fastest(found, tuple(sessions))
    form = _fastest(found, [name for name in found if name.startswith(RULES)])
    return {
        "rows": found,
        "missing": missing,
        "fastest": [runner, form],
        "ratio": round(found[runner]["ms"]["p50"] / found[form]["ms"]["p50"], 4),
        "auroc_engine": found[runner]["auroc"],
        "auroc_rules": found[RULES]["auroc"],
        "threads": threads,
        "crops": crops,
        "turn": turn,
        "engine": engine.title,
    }


def open_runners(
    engine: Engine, backends: Sequence[str], threads: int, stack: ExitStack
) -> tuple[dict[str, Session], dict[str, str]]:
    """
    Each runtime in each precision the engine has, and why others are missing.

    Raises `EngineRefused` or `BackendMissing` where there is none; `stack` closes the sessions.
    """
    sessions, refused = open_all(
        engine,
        candidates(engine, runtimes=backends),
        Runtimes(threads=threads),
        engine.good[None],
        stack,
    )
    return sessions, {runner: str(error) for runner, error in refused.items()}


def in_turn(
    scorers: Mapping[str, Scorer],
    units: Iterable[tuple[Pixels, str]],
    turn: int = 1,
    tick: Callable[[], object] = lambda: None,
) -> tuple[dict[str, Row], list[str]]:
    """Show each unit, uint8 (h, w) and label, to every scorer; the first ones only warm up."""
    rows = {name: Row() for name in scorers}
    order = list(scorers)
    labels: list[str] = []
    waiting = iter(units)
    seen = 0
    while batch := list(islice(waiting, turn)):
        order.append(order.pop(0))
        counted = slice(max(WARM_UP - seen, 0), None)
        for name in order:
            found = [_time(scorers[name], pixels) for pixels, _ in batch][counted]
            rows[name].ms += [ms for ms, _ in found]
            rows[name].scores += [score for _, score in found]
        seen += len(batch)
        for _, label in batch[counted]:
            labels.append(label)
            tick()
    return rows, labels


def _fastest(found: Mapping[str, dict[str, Any]], names: Sequence[str]) -> str:
    return min(names, key=lambda name: float(found[name]["ms"]["p50"]))


def unit(number: int) -> tuple[Pixels, str]:
    """Every other unit is good, the others go through the kinds in turn."""
    kinds = tuple(DEFECTS)
    label = GOOD if number % 2 else kinds[number // 2 % len(kinds)]
    rng = np.random.default_rng([SEED, number])
    return compose(package.parts(), rng, Variation(), label).pixels, label


def _time(scorer: Scorer, pixels: Pixels) -> tuple[float, float]:
    """Milliseconds and score from the frame's pixels on: resize to what the scorer takes, score."""
    height, width = pixels.shape
    box = (0, 0, width, height)
    started = clock.now_ns()
    crop = Crop(Roi("package", "main", box), fit(pixels, *scorer.input_shape), box)
    (score,) = scorer.score([crop])
    return (clock.now_ns() - started) / 1e6, score.anomaly_score
