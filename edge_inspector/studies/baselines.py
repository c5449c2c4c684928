"""Scores that look at nothing but size and mean colour: what a data set gives away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_inspector.errors import DataError
from edge_inspector.studies import metrics
from edge_inspector.studies.dataset import Item, is_good, read_image

Floats = NDArray[np.float64]


class Plain(NamedTuple):
    """What an image is without looking at what it shows: px as stored, and mean BGR."""

    area: float
    side: float
    colour: Floats


def look(item: Item) -> Plain:
    """Area and shorter side in px, and mean BGR, (3,)."""
    pixels = read_image(item.path)
    height, width = pixels.shape[:2]
    mean = pixels.reshape(height * width, -1)[:, :3].mean(axis=0)
    return Plain(float(height * width), float(min(height, width)), np.broadcast_to(mean, 3))


def colour_distance(good: Sequence[Floats]) -> Callable[[Floats], float]:
    """Mean BGR to its squared Mahalanobis distance from the median of good images."""
    known = np.array(good)
    middle = np.median(known, axis=0)
    # 1/12 is the variance of rounding to a grey level: it keeps grey and few images invertible.
    precision = np.linalg.inv(np.cov(known.T, bias=True) + np.eye(3) / 12)

    def distance(colour: Floats) -> float:
        away = colour - middle
        return float(away @ precision @ away)

    return distance


def baselines(items: Sequence[Item], split: str) -> dict[str, float]:
    """
    AUROC of what must not tell: image area, shorter side, and mean colour.

    Colour is the distance of an image's mean BGR from the training split's good images, in their
    own spread: plain distance hides what their colour tells. Raises `DataError`.
    """
    training = [look(i).colour for i in items if i.split == "train" and is_good(i.label)]
    tested = [item for item in items if item.split == split]
    if not training or not tested:
        raise DataError(f"baselines need good images in 'train' and images in '{split}'")
    distance = colour_distance(training)
    plain = [look(item) for item in tested]
    bad = [not is_good(item.label) for item in tested]
    return {
        "area_auroc": metrics.auroc([one.area for one in plain], bad),
        "min_side_auroc": metrics.auroc([one.side for one in plain], bad),
        "colour_auroc": metrics.auroc([distance(one.colour) for one in plain], bad),
    }
