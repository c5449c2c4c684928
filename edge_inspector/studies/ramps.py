"""
Recall and overkill while light, focus, place and colour drift, the threshold held still.

Each image is altered as the scorer takes it, step by step; nothing is taught or set anew, so a
figure says what a line loses until somebody cleans the lens. Beside it stands what the quality
gate refuses, with limits from the validation split's good units, as `calibrate` would write them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.errors import DataError, Uninspectable
from edge_inspector.quality import cause, measure
from edge_inspector.records import Box, Pixels
from edge_inspector.studies.calibrate_quality import Limits, learn
from edge_inspector.studies.dataset import Item, is_good, load_crops
from edge_inspector.studies.evaluate import Target, Tick, whole

Alter = Callable[[Pixels, float, int], Pixels]
"""A crop, how far, and the number of the image, changed; a crop keeps its shape."""
DIRECTIONS = 8
TINT = np.array([-1.0, 0.0, 1.0])
"""Warmer light: less blue, as much green, more red."""
GREY_OFFSET = 60.0
"""Grey levels that a grey camera's black rises by, per unit of drift, beside its gamma."""


def _gain(crop: Pixels, level: float, number: int) -> Pixels:
    return _levels(crop * (1 + level))


def _blur(crop: Pixels, level: float, number: int) -> Pixels:
    return np.asarray(cv2.GaussianBlur(crop, (0, 0), level), np.uint8).reshape(crop.shape)


def _shift(crop: Pixels, level: float, number: int) -> Pixels:
    """Eight directions in turn."""
    angle = 2 * np.pi * (number % DIRECTIONS) / DIRECTIONS
    move = np.array([[1, 0, level * np.cos(angle)], [0, 1, level * np.sin(angle)]])
    size = (crop.shape[1], crop.shape[0])
    moved = cv2.warpAffine(
        crop, move, size, flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, np.uint8).reshape(crop.shape)


def _tint(crop: Pixels, level: float, number: int) -> Pixels:
    """Colours drift apart; grey has none, so its gamma falls and its black rises."""
    if crop.ndim == 3 and crop.shape[2] == 3:
        return _levels(crop * (1 + level * TINT))
    return _levels(255 * (crop / 255.0) ** (1 - level) + GREY_OFFSET * level)


RAMPS: dict[str, tuple[Alter, tuple[float, ...]]] = {
    "gain": (_gain, (-0.05, -0.10, -0.15)),
    "blur_px": (_blur, (0.5, 1.0, 1.5)),
    "shift_px": (_shift, (0.25, 0.5, 0.75, 1.0)),
    "tint": (_tint, (0.05, 0.10, 0.15)),
}


def ramps(
    items: Sequence[Item],
    target: Target,
    split: str,
    threshold: float,
    *,
    most: int = 1000,
    tick: Tick = lambda done, total: None,
) -> dict[str, Any]:
    """
    Figures at `threshold` for every step of every ramp, at most `most` images of each label.

    Raises `DataError` when none of the split's images can be read.
    """
    chosen = _spread([item for item in items if item.split == split], most)
    steps = [(name, level) for name, (_, levels) in RAMPS.items() for level in levels]
    corrupt: list[Item] = []
    labels: list[str] = []
    rows: list[list[tuple[float, bool]]] = []
    limits = _gate(items, target)
    for number, (item, crop) in enumerate(load_crops(chosen, target.shape, corrupt)):
        altered = [RAMPS[name][0](crop, level, number) for name, level in steps]
        rows.append([_judge(target, pixels, limits) for pixels in (crop, *altered)])
        labels.append(item.label)
        tick(number + 1 + len(corrupt), len(chosen))
    if not rows:
        raise DataError(f"none of the {len(chosen)} images of split '{split}' could be read")
    columns = np.array(rows, np.float64).transpose(1, 0, 2)
    by_ramp: dict[str, list[dict[str, Any]]] = {name: [] for name in RAMPS}
    for (name, level), judged in zip(steps, columns[1:], strict=True):
        by_ramp[name].append({"step": level, **_figures(judged, labels, threshold)})
    return {
        "threshold": threshold,
        "images": {label: labels.count(label) for label in sorted(set(labels))},
        "still": _figures(columns[0], labels, threshold),
        **by_ramp,
    }


def _spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of each label, evenly over their order."""
    chosen: list[Item] = []
    for label in dict.fromkeys(item.label for item in items):
        same = [item for item in items if item.label == label]
        places = np.linspace(0, len(same) - 1, min(most, len(same))).round().astype(int)
        chosen += [same[place] for place in places]
    return chosen


def _gate(items: Sequence[Item], target: Target) -> Limits:
    good = [item for item in items if item.split == "val" and is_good(item.label)]
    crops = (crop for _, crop in load_crops(good, target.shape, []))
    return learn([measure(crop, [_box(crop)]) for crop in crops])


def _judge(target: Target, pixels: Pixels, limits: Limits) -> tuple[float, bool]:
    """The raw score, NaN where the unit is not inspected, and whether the gate refuses it."""
    refused = cause(measure(pixels, [_box(pixels)]), limits) is not None
    try:
        return target.scorer.score([whole(pixels)])[0].anomaly_score, refused
    except Uninspectable:
        return float("nan"), refused


def _figures(
    judged: NDArray[np.float64], labels: Sequence[str], threshold: float
) -> dict[str, Any]:
    """
    Recall and overkill of what was scored, gate aside; the units that were not are counted.

    `refused` is the gate's share of good and of defective units, `escape_rate` the share of
    defective ones that pass the scorer and the gate.
    """
    scores, refused = judged[:, 0], judged[:, 1] > 0
    scored, failed = np.isfinite(scores), scores >= threshold
    good = np.array([is_good(label) for label in labels])
    names = np.array(labels)
    return {
        "recall": _share(failed, ~good & scored),
        "overkill_rate": _share(failed, good & scored),
        "uninspected": int((~scored).sum()),
        "refused": {"good": _share(refused, good), "bad": _share(refused, ~good)},
        "escape_rate": _share(scored & ~failed & ~refused, ~good),
        "per_class": {
            label: _share(failed, (names == label) & scored) for label in sorted(set(names[~good]))
        },
    }


def _share(true: NDArray[np.bool_], chosen: NDArray[np.bool_]) -> float:
    return float(true[chosen].mean()) if chosen.any() else float("nan")


def _box(pixels: Pixels) -> Box:
    return (0, 0, pixels.shape[1], pixels.shape[0])


def _levels(pixels: NDArray[Any]) -> Pixels:
    return np.asarray(np.clip(np.rint(pixels), 0, 255), np.uint8)
