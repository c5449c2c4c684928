"""
An engine's or the rules' figures on labelled images, crop by crop as on the line.

Thresholds come from the validation split's good units, never from the split that is reported.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_inspector import clock
from edge_inspector.bundle import open_engine
from edge_inspector.choice import Runtimes, open_runner
from edge_inspector.engines import scorer_of
from edge_inspector.errors import DataError, Uninspectable
from edge_inspector.manifest import Input, Manifest
from edge_inspector.protocols import Scorer
from edge_inspector.records import Crop, Pixels, Roi
from edge_inspector.rules import open_rules
from edge_inspector.scorers.classifier import ClassifierScorer, Named
from edge_inspector.studies import metrics
from edge_inspector.studies.dataset import Item, is_good, load_crops
from edge_inspector.studies.metrics import Floats

OVERKILLS = ("0.001", "0.005", "0.01")
WARM_UP = 20
Tick = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Target:
    """What is evaluated: a scorer, how it wants its crops, and what to call it."""

    title: str
    backend: str
    scorer: Scorer
    shape: Input
    manifest: Manifest | None = None
    """Of an engine."""


@dataclass(slots=True)
class Scored:
    """Images with their raw scores, and those that could not be scored."""

    items: list[Item] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    named: list[Named] = field(default_factory=list)
    """What a classifier says of the images, nothing of other engines."""
    times_ms: list[float] = field(default_factory=list)
    corrupt: list[Item] = field(default_factory=list)
    uninspected: list[Item] = field(default_factory=list)

    @property
    def values(self) -> Floats:
        """Raw scores."""
        return np.array(self.scores, np.float64)

    @property
    def bad(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which images show a defect."""
        return np.array([not is_good(item.label) for item in self.items], np.bool_)

    @property
    def good_values(self) -> Floats:
        """Raw scores of the good images."""
        values: Floats = self.values[~self.bad]
        return values


@contextmanager
def open_target(path: Path, backends: Sequence[str], threads: int = 1) -> Iterator[Target]:
    """An engine's folder, challenged first, or a TOML file of rules."""
    if path.is_file():
        rules = open_rules(path)
        height, width, channels = rules.input_shape
        shape = Input(height=height, width=width, channels=1 if channels == 1 else 3)
        yield Target(path.name, "opencv", rules, shape)
        return
    engine = open_engine(path)
    backend, session = open_runner(engine, Runtimes(backends, threads))
    try:
        scorer = scorer_of(session, engine)
        yield Target(engine.title, backend, scorer, engine.manifest.input, engine.manifest)
    finally:
        session.close()


def score_items(items: Sequence[Item], target: Target, tick: Tick) -> Scored:
    """Score every image alone, timing each; broken files and units not inspected are set apart."""
    scored = Scored()
    for count, (item, crop) in enumerate(load_crops(items, target.shape, scored.corrupt)):
        region = whole(crop)
        try:
            for _ in range(WARM_UP if count == 0 else 0):
                _ask(target.scorer, region)
            started = clock.now_ns()
            score, named = _ask(target.scorer, region)
            scored.times_ms.append((clock.now_ns() - started) / clock.NS_PER_MS)
        except Uninspectable:
            scored.uninspected.append(item)
            continue
        scored.items.append(item)
        scored.scores.append(score)
        scored.named += [named] if named else []
        tick(count + 1 + len(scored.corrupt), len(items))
    return scored


def _ask(scorer: Scorer, crop: Crop) -> tuple[float, Named | None]:
    if isinstance(scorer, ClassifierScorer):
        (named,) = scorer.name_defects([crop], [None], rejected=False)
        return named.score, named
    return scorer.score([crop])[0].anomaly_score, None


def score_splits(
    items: Sequence[Item], target: Target, split: str, tick: Tick
) -> tuple[Scored, Scored]:
    """Images of split `val`, then of `split`, scored; raises `DataError` where there are none."""
    cv2.setNumThreads(1)
    tested = [item for item in items if item.split == split]
    validation = [item for item in items if item.split == "val"]
    if not tested:
        raise DataError(f"split '{split}' has no image; the data has {_splits(items)}")
    total = len(tested) + len(validation)
    held_out = score_items(validation, target, lambda done, _: tick(done, total))
    scored = score_items(tested, target, lambda done, _: tick(len(validation) + done, total))
    if not scored.items:
        raise DataError(f"none of the {len(tested)} images of split '{split}' could be scored")
    return held_out, scored


def evaluate(
    items: Sequence[Item],
    target: Target,
    split: str,
    *,
    threshold: float | None = None,
    overkill: float = 0.005,
    tick: Tick = lambda done, total: None,
    scores: Path | None = None,
) -> dict[str, Any]:
    """
    The report on one split, as `evaluate --json` writes it; `scores` as `write_scores` does.

    `threshold` in raw scores; without it the one that fails `overkill` of the validation split's
    good units. Raises `DataError` where images that are needed are missing.
    """
    held_out, scored = score_splits(items, target, split, tick)
    if scores is not None:
        write_scores(scores, (scored,) if split == "val" else (held_out, scored))
    if threshold is None and not held_out.good_values.size:
        raise DataError("split 'val' has no good image to set a threshold with; give --threshold")
    limit = metrics.threshold_at(held_out.good_values, overkill) if threshold is None else threshold
    return {
        **about(target, split, held_out, scored),
        **figures(scored, limit),
        "threshold_from": "given" if threshold is not None else f"val, {overkill:g} of its good",
        "recall_at_overkill": _recalls(scored, held_out),
        "best_f1": _best_f1(scored, held_out),
    }


def about(target: Target, split: str, held_out: Scored, scored: Scored) -> dict[str, Any]:
    """What every report says: of what it is, of how many images, and how long one takes."""
    return {
        "engine": target.title,
        "backend": target.backend,
        "split": split,
        "images": len(scored.items),
        "corrupt": len(scored.corrupt) + len(held_out.corrupt),
        "uninspected": {
            "good": sum(is_good(item.label) for item in scored.uninspected),
            "bad": sum(not is_good(item.label) for item in scored.uninspected),
        },
        "latency_ms": {
            name: float(np.percentile(scored.times_ms, q)) for name, q in (("p50", 50), ("p99", 99))
        },
    }


def write_scores(path: Path, parts: Sequence[Scored]) -> None:
    """Write path, label, split, raw score and 0 or 1 for uninspected; corrupt files have no row."""
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(("path", "label", "split", "score", "uninspected"))
        for part in parts:
            for item, score in zip(part.items, part.scores, strict=True):
                writer.writerow((item.path, item.label, item.split, repr(float(score)), 0))
            for item in part.uninspected:
                writer.writerow((item.path, item.label, item.split, "", 1))


def figures(scored: Scored, threshold: float) -> dict[str, Any]:
    """What failing at or above `threshold` does to these images, overall and per class."""
    values, bad = scored.values, scored.bad
    failed = values >= threshold
    good, n_bad = int((~bad).sum()), int(bad.sum())
    return {
        "auroc": metrics.auroc(values, bad),
        "average_precision": metrics.average_precision(values, bad),
        "threshold": threshold,
        **metrics.confusion(values, bad, threshold),
        "overkill_interval": _interval(int((failed & ~bad).sum()), good),
        "recall_interval": _interval(int((failed & bad).sum()), n_bad),
        "per_class": {
            label: {
                "count": int(of_class.sum()),
                "auroc": metrics.auroc(values[of_class | ~bad], bad[of_class | ~bad]),
                "recall": float(failed[of_class].mean()),
            }
            for label, of_class in _classes(scored)
        },
    }


def _recalls(scored: Scored, held_out: Scored) -> dict[str, Any]:
    report = {}
    for text in OVERKILLS if held_out.good_values.size else ():
        threshold = metrics.threshold_at(held_out.good_values, float(text))
        failed, bad = scored.values >= threshold, scored.bad
        report[text] = {
            "overall": float(failed[bad].mean()) if bad.any() else math.nan,
            "per_class": {label: float(failed[of].mean()) for label, of in _classes(scored)},
            "threshold": threshold,
            "overkill_rate": float(failed[~bad].mean()) if (~bad).any() else math.nan,
        }
    return report


def _best_f1(scored: Scored, held_out: Scored) -> dict[str, float] | None:
    """Figures at the threshold of the best F1 on validation; None where that has one kind only."""
    if not held_out.items or held_out.bad.all() or not held_out.bad.any():
        return None
    threshold = metrics.best_f1_threshold(held_out.values, held_out.bad)
    return {
        "threshold": threshold,
        **metrics.confusion(scored.values, scored.bad, threshold),
    }


def _classes(scored: Scored) -> list[tuple[str, np.ndarray[Any, np.dtype[np.bool_]]]]:
    labels = np.array([item.label for item in scored.items])
    return [(label, labels == label) for label in sorted(set(labels[scored.bad]))]


def _interval(events: int, trials: int) -> list[float]:
    return list(metrics.interval(events, trials)) if trials else [math.nan, math.nan]


def _splits(items: Sequence[Item]) -> str:
    return ", ".join(sorted({item.split for item in items})) or "none"


def whole(pixels: Pixels) -> Crop:
    """An image that is one region."""
    box = (0, 0, pixels.shape[1], pixels.shape[0])
    return Crop(Roi("image", "main", box), pixels, box)
