"""What needs no network, scored as an engine is: rejecting all, image area, mean colour, 5-NN."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_inspector import clock
from edge_inspector.manifest import Input
from edge_inspector.studies import metrics
from edge_inspector.studies.baselines import colour_distance, look
from edge_inspector.studies.dataset import Item, is_good, load_crop, read_items
from edge_inspector.studies.evaluate import Scored, figures, write_scores

Score = Callable[[Item], float]
NEIGHBOURS = 5
SIDE = 64


def reject_all(train: Sequence[Item]) -> Score:
    """Every unit fails."""
    return lambda item: 1.0


def area(train: Sequence[Item]) -> Score:
    """Pixels of the image as stored."""
    return lambda item: look(item).area


def colour(train: Sequence[Item]) -> Score:
    """Mahalanobis distance of the mean BGR from that of good training images."""
    distance = colour_distance([look(item).colour for item in train])
    return lambda item: distance(look(item).colour)


def nearest(train: Sequence[Item]) -> Score:
    """Mean distance to the five nearest good training crops, grey centre squares, standardised."""
    crops = np.array([_standardised(item) for item in train])
    power = (crops * crops).sum(axis=1)

    def score(item: Item) -> float:
        crop = _standardised(item)
        squared = power - 2 * crops @ crop + crop @ crop
        return float(np.sqrt(np.partition(squared, NEIGHBOURS)[:NEIGHBOURS]).mean())

    return score


KINDS: dict[str, Callable[[Sequence[Item]], Score]] = {
    "reject-all": reject_all,
    "area": area,
    "colour": colour,
    "knn": nearest,
}


def report(items: Sequence[Item], kind: str, split: str, scores: Path) -> dict[str, Any]:
    """As `evaluate` reports it; the threshold is the one of the best F1 on validation."""
    score = KINDS[kind]([i for i in items if i.split == "train" and is_good(i.label)])
    held_out = _scored([item for item in items if item.split == "val"], score)
    scored = _scored([item for item in items if item.split == split], score)
    write_scores(scores, (held_out, scored))
    both = held_out.bad.any() and not held_out.bad.all()
    threshold = metrics.best_f1_threshold(held_out.values, held_out.bad) if both else math.inf
    found = figures(scored, threshold)
    best = {name: found[name] for name in ("threshold", "f1", "precision", "recall")}
    times = {"p50": float(np.median(scored.times_ms))}
    return {
        "engine": kind,
        "split": split,
        **found,
        "best_f1": best if both else None,
        "latency_ms": times,
    }


def _scored(items: Sequence[Item], score: Score) -> Scored:
    scored = Scored()
    for item in items:
        begun = clock.now_ns()
        scored.scores.append(score(item))
        scored.times_ms.append((clock.now_ns() - begun) / clock.NS_PER_MS)
        scored.items.append(item)
    return scored


def _standardised(item: Item) -> np.ndarray:
    shape = Input(height=SIDE, width=SIDE, channels=1, square=True)
    crop = load_crop(item.path, shape).astype(np.float32).ravel()
    return np.asarray((crop - crop.mean()) / np.sqrt(crop.var() + 1))


def main() -> int:
    """Score, and write the report and the scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--scores", type=Path, required=True)
    args = parser.parse_args()
    found = report(read_items(args.data), args.kind, args.split, args.scores)
    args.json.write_text(json.dumps(metrics.rounded(found, 9), indent=2) + "\n", encoding="utf-8")
    print(f"{args.kind}: AUROC {found['auroc']:.3f}, F1 {found['f1']:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
