"""Which areas of a product look alike, so that one engine can judge them all."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.records import Box, Pixels

SIDE_PX = 24
"""Areas are compared at this size: their layout, not their grain."""
SLACK = 0.2
"""Two areas are alike when they agree across frames nearly as each agrees with itself."""
LEVEL, CONTRAST = 30.0, 2.0
"""Grey levels by which their means, and the factor by which their spreads, may differ."""


def group_alike(frames: Sequence[Pixels], boxes: Sequence[Box]) -> list[int]:
    """For each box the number of its group, from 0; `frames` are aligned, uint8 grey, at least two."""
    areas = [_views(frames, box) for box in boxes]
    first: list[int] = []
    numbers = []
    for number, area in enumerate(areas):
        group = next((g for g, other in enumerate(first) if _alike(areas[other], area)), len(first))
        if group == len(first):
            first.append(number)
        numbers.append(group)
    return numbers


def _views(frames: Sequence[Pixels], box: Box) -> NDArray[np.float32]:
    x, y, width, height = box
    size = (SIDE_PX, SIDE_PX)
    views = [
        cv2.resize(frame[y : y + height, x : x + width], size, interpolation=cv2.INTER_AREA)
        for frame in frames
    ]
    return np.stack(views).astype(np.float32)


def _alike(one: NDArray[np.float32], two: NDArray[np.float32]) -> bool:
    if abs(float(one.mean()) - float(two.mean())) > LEVEL:
        return False
    spreads = sorted(float(np.median(area.std(axis=(1, 2)))) + 1.0 for area in (one, two))
    if spreads[1] > CONTRAST * spreads[0]:
        return False
    return _agree(one, two) > min(_agree(one, one), _agree(two, two)) - SLACK


def _agree(one: NDArray[np.float32], two: NDArray[np.float32]) -> float:
    """Median correlation of one area in a frame with the other in the next; 0 for plain noise."""
    a, b = (_unit(area) for area in (one, np.roll(two, 1, axis=0)))
    return float(np.median((a * b).sum(axis=1)))


def _unit(area: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = area.reshape(len(area), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6))
