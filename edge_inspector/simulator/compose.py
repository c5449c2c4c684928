"""
Synthesis from photographs, as in the BGA paper: balls and body are segmented by morphology.

Balls are what a white top-hat leaves above Otsu's level; the body is the picture with the balls
painted over from their surroundings.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.errors import DataError
from edge_inspector.records import Pixels
from edge_inspector.simulator.parts import Composed, Parts, Patch, Variation, compose

__all__ = ["Composed", "Parts", "Variation", "compose", "segment"]

MIN_BALLS = 4
RIM_PX = 3
PAINT_PX = 3


def segment(photos: Sequence[Pixels]) -> Parts:
    """
    Parts of good photographs of one size, grey uint8; the first gives body and places.

    Raises `DataError` when fewer than four balls of one size are found in a photograph.
    """
    if not photos:
        raise DataError("no photograph was given; one good one is needed")
    shapes = {photo.shape for photo in photos}
    if len(shapes) > 1:
        raise DataError(f"photographs have sizes {sorted(shapes)}; crop them to one size")
    found = [_balls(photo, number) for number, photo in enumerate(photos, start=1)]
    opacity, centres, radius = found[0]
    patches = [
        patch
        for photo, (alpha, places, _) in zip(photos, found, strict=True)
        for patch in _patches(photo, alpha, places, radius)
    ]
    low, high = centres.min(0) - 1.5 * radius, centres.max(0) + 1.5 * radius
    (x, y), (width, height) = np.floor(low).astype(int), np.ceil(high - low).astype(int)
    area = (max(int(x), 0), max(int(y), 0), int(width), int(height))
    return Parts(_body(photos[0], opacity), centres, tuple(patches), radius, area)


def _balls(photo: Pixels, number: int) -> tuple[NDArray[np.float32], NDArray[np.float64], float]:
    """Opacity of the balls (h, w), their centres (n, 2) and their radius in px."""
    spot = max(min(photo.shape) // 12, 7)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (spot, spot))
    hat = cv2.morphologyEx(photo, cv2.MORPH_TOPHAT, kernel)
    _, bright = cv2.threshold(hat, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    bright = cv2.morphologyEx(bright, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, labels, stats, centres = cv2.connectedComponentsWithStats(bright)
    keep = _alike(np.asarray(stats, np.int32))
    if len(keep) < MIN_BALLS:
        raise DataError(
            f"photograph {number}: {len(keep)} balls of one size were found; at least {MIN_BALLS} "
            "round, bright spots on a darker body are needed"
        )
    mask = np.isin(labels, keep).astype(np.float32)
    alpha = np.clip(1.3 * cv2.GaussianBlur(mask, (3, 3), 0.6), 0, 1)
    radius = float(np.sqrt(np.median(stats[keep, cv2.CC_STAT_AREA]) / np.pi))
    return np.asarray(alpha, np.float32), np.asarray(centres[keep], np.float64), radius


def _alike(stats: NDArray[np.int32]) -> NDArray[np.int64]:
    """Components that are round and of the most common size."""
    width, height, area = (stats[:, column] for column in (2, 3, 4))
    round_ones = (area > 8) & (np.abs(width - height) <= 0.35 * np.maximum(width, height))
    round_ones &= area > 0.6 * width * height
    round_ones[0] = False
    if not round_ones.any():
        return np.empty(0, np.int64)
    usual = np.median(area[round_ones])
    return np.flatnonzero(round_ones & (area > 0.6 * usual) & (area < 1.5 * usual))


def _body(photo: Pixels, alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    covered = cv2.dilate((alpha > 0.05).astype(np.uint8), np.ones((5, 5), np.uint8))
    return np.asarray(cv2.inpaint(photo, covered, PAINT_PX, cv2.INPAINT_TELEA), np.float32)


def _patches(
    photo: Pixels, alpha: NDArray[np.float32], centres: NDArray[np.float64], radius: float
) -> list[Patch]:
    """Each ball cut out around its sub-pixel centre, without what belongs to its neighbours."""
    reach = int(np.ceil(radius)) + RIM_PX
    side = 2 * reach + 1
    gaps = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1))
    half_pitch = np.median(np.sort(gaps, axis=1)[:, 1]) / 2
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    own = (np.hypot(rows, columns) < half_pitch).astype(np.float32)
    patches = []
    for x, y in centres:
        place = (float(x), float(y))
        shade = cv2.getRectSubPix(photo.astype(np.float32), (side, side), place)
        opacity = own * cv2.getRectSubPix(alpha, (side, side), place)
        light = np.asarray(shade * opacity, np.float32)
        patches.append(Patch(light, np.asarray(opacity, np.float32)))
    return patches
