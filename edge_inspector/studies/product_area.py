"""Where the product lies: the body that was outlined, and whatever moves along with it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import compress

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.recipe_alignment import Outline
from edge_inspector.records import Box, Pixels
from edge_inspector.studies.propose_alignment import Chosen, Measured, warped
from edge_inspector.studies.tracks import Floats

CALMER = 3.0
"""Grey levels by which following the product must calm a px, for what the px shows to move with it."""
CALM_SHARE = 0.5
"""And the share of its unrest that may be left; a belt that runs by itself keeps all of it."""
ROOM = 2.0
"""What is only near the body stays in the frame for motions this many times the largest seen: of
16 that is about 1.8 standard deviations, and 3.6 of them are met once in 3,000 units."""
LOOK_PX = 640
"""What moves is looked for in frames shrunk to about this length."""
RIM_PX = 4
"""Kept around the product."""


def fit_product(frames: Sequence[Pixels], chosen: Chosen) -> tuple[Chosen, Box]:
    """
    Where all of the product lies, in px of the reference, as far as every frame shows it.

    An outline's margin is widened for what stands out of the body, as the pins of a connector do.
    """
    measured = chosen.measured
    height, width = frames[0].shape
    if measured.spec is None:
        return chosen, (0, 0, width, height)
    seen = _always_seen(measured, width, height)
    area = _moving(frames, measured, seen)
    if isinstance(measured.spec, Outline):
        measured, area = _widened(measured, measured.spec, area, seen)
    return replace(chosen, measured=measured), area


def _always_seen(measured: Measured, width: int, height: int) -> Box:
    """What every frame shows of the one that was shown as the reference, and a little less."""
    corners = np.array([(0, 0, 1), (width, 0, 1), (0, height, 1), (width, height, 1)], np.float64)
    back = [np.linalg.inv(move)[:2] for move in measured.moves if move is not None]
    seen = np.array([corners @ matrix.T for matrix in back])
    low, high = seen.max(axis=0), seen.min(axis=0)
    limits = (
        max(low[0, 0], low[2, 0]),
        max(low[0, 1], low[1, 1]),
        min(high[1, 0], high[3, 0]) - width,
        min(high[2, 1], high[3, 1]) - height,
    )
    left, top, right, bottom = (math.ceil(ROOM * abs(limit)) for limit in limits)
    return _common((left, top, width - left - right, height - top - bottom), (0, 0, width, height))


def _moving(frames: Sequence[Pixels], measured: Measured, seen: Box) -> Box:
    """Around all that is calmer when the product is followed, or all that is seen."""
    size = (frames[0].shape[1], frames[0].shape[0])
    factor = max(round(max(size) / LOOK_PX), 1)
    taken = compress(frames, [move is not None for move in measured.moves])
    still, calm = (
        _unrest(views, factor) for views in (taken, warped(frames, measured.moves, size))
    )
    moves = ((still - calm > CALMER) & (calm < CALM_SHARE * still)).astype(np.uint8)
    opened = cv2.morphologyEx(moves, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    x, y, width, height = (factor * side for side in cv2.boundingRect(opened))
    if not width:
        return seen
    rim = RIM_PX + factor - 1
    return _common((x - rim, y - rim, width + 2 * rim, height + 2 * rim), seen)


def _unrest(views: Iterable[Pixels], factor: int) -> NDArray[np.float32]:
    """Standard deviation of each px over frames shrunk by a whole factor, a little blurred."""
    area = cv2.INTER_AREA
    small = [cv2.resize(v, None, fx=1 / factor, fy=1 / factor, interpolation=area) for v in views]
    return np.asarray(cv2.blur(np.stack(small).std(axis=0, dtype=np.float32), (5, 5)), np.float32)


def _widened(measured: Measured, spec: Outline, area: Box, seen: Box) -> tuple[Measured, Box]:
    """The outline with room around its body for the product, and the product in its px."""
    back = np.asarray(np.linalg.inv(measured.base), np.float64)
    width, height = spec.size
    margin = spec.margin_px
    body = (margin, margin, width - 2 * margin, height - 2 * margin)
    box = _around(_common(_moved(area, back), _moved(seen, back)), body)
    more = max(-box[0], -box[1], box[0] + box[2] - width, box[1] + box[3] - height, 0)
    shift = np.array([(1, 0, -more), (0, 1, -more), (0, 0, 1)], np.float64)
    size = (width + 2 * more, height + 2 * more)
    wider = spec.model_copy(update={"margin_px": margin + more, "size": size})
    placed = (box[0] + more, box[1] + more, box[2], box[3])
    return replace(measured, spec=wider, base=measured.base @ shift), placed


def _moved(box: Box, matrix: Floats) -> Box:
    """The upright box around a box seen through a 3 x 3 matrix."""
    x, y, width, height = box
    corners = [(x, y, 1), (x + width, y, 1), (x, y + height, 1), (x + width, y + height, 1)]
    points = np.array(corners) @ matrix[:2].T
    left, top = np.floor(points.min(axis=0)).astype(int).tolist()
    right, bottom = np.ceil(points.max(axis=0)).astype(int).tolist()
    return (left, top, right - left, bottom - top)


def _around(one: Box, two: Box) -> Box:
    left, top = min(one[0], two[0]), min(one[1], two[1])
    right, bottom = max(one[0] + one[2], two[0] + two[2]), max(one[1] + one[3], two[1] + two[3])
    return (left, top, right - left, bottom - top)


def _common(one: Box, two: Box) -> Box:
    left, top = max(one[0], two[0]), max(one[1], two[1])
    right, bottom = min(one[0] + one[2], two[0] + two[2]), min(one[1] + one[3], two[1] + two[3])
    return (left, top, max(right - left, 1), max(bottom - top, 1))
