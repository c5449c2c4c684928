"""Distinct places of a product, followed through its frames: what moves, and by how much."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.align_level import Found
from edge_inspector.align_patch import Patch
from edge_inspector.errors import Uninspectable
from edge_inspector.pixels import pose_matrix
from edge_inspector.records import Pixels, Pose

Floats = NDArray[np.float64]

LOOK_PX = 800
"""Frames are shrunk by a whole factor to about this length; a tenth of a px is still seen there."""
CELLS = 5
"""The reference frame is divided into so many cells a side; each may give one place."""
SIDE_SHARE, MIN_SIDE_PX, MAX_SIDE_PX = 6, 24, 128
"""A patch is a sixth of the frame's shorter side, within these: more than one part that repeats."""
TRIES = 3
"""Places tried in a cell, until one cannot be mistaken for another."""
SEARCH_SHARE, NEAR_SHARE = 6, 48
"""Places are searched within a sixth of the frame's shorter side, then nearer where unsure."""
MAX_ANGLE_DEG = 4.0
MIN_SCORE = 0.75
MIN_DEVIATION = 4.0
"""Standard deviation of grey levels below which a patch has nothing to be found by."""
FOUND_SHARE = 0.8
"""Share of the frames in which a place must be found to be followed."""
SAME_SCALE = 0.02
"""Places whose distances changed by more than this share are not of one rigid body."""
MOVES_PX = 1.0
"""Beyond this at 9 of 10 frames a place counts as moving; a crop of 256 px bears less."""
ENOUGH = 0.6
"""Share of the places that settles how a frame moved."""
FEWEST = 3
"""Places that must agree before anything is said about a motion."""


@dataclass(frozen=True, slots=True)
class Tracks:
    """
    Places (n, 2) in the reference frame, x and y in px, and where each frame shows them.

    `seen` is (frames, n, 2), not a number where a place was lost; `side_px` is that of the patches.
    """

    places: Floats
    seen: Floats
    side_px: int

    @property
    def motion_px(self) -> Floats:
        """How far each place strays from its usual one, at 9 of 10 frames."""
        if not len(self.places):
            return np.zeros(0)
        strays = np.linalg.norm(self.seen - np.nanmedian(self.seen, axis=0), axis=2)
        return np.asarray(np.nanpercentile(strays, 90, axis=0))

    def moving(self) -> Tracks:
        """The places that move; none where too few do for a product that moves."""
        moves = self.motion_px > MOVES_PX
        if moves.sum() < FEWEST:
            moves[:] = False
        return Tracks(self.places[moves], self.seen[:, moves], self.side_px)

    def steadiest(self) -> NDArray[np.int64]:
        """The places by how well they move with all the others, best first."""
        moves = (self.seen - self.places)[np.isfinite(self.seen).any(axis=(1, 2))]
        strays = np.linalg.norm(moves - np.nanmedian(moves, axis=1, keepdims=True), axis=2)
        lost = 1 - np.isfinite(strays).mean(axis=0)
        return np.argsort(np.nanmedian(strays, axis=0) + self.side_px * lost)

    def largest_angle_deg(self) -> float:
        """By how much the product turns, at 19 of 20 frames."""
        angles = [0.0]
        for seen in self.seen:
            kept = np.isfinite(seen[:, 0])
            if kept.sum() >= FEWEST:
                matrix, _ = cv2.estimateAffinePartial2D(self.places[kept], seen[kept])
                if matrix is not None:
                    angles.append(abs(math.degrees(math.atan2(matrix[1, 0], matrix[0, 0]))))
        return float(np.percentile(angles, 95))


def follow(frames: Sequence[Pixels], reference: Pixels) -> Tracks:
    """Follow the distinct places of `reference`, uint8 grey, through frames of the same size."""
    factor = max(round(max(reference.shape) / LOOK_PX), 1)
    if factor > 1:
        small = follow([_shrunk(frame, factor) for frame in frames], _shrunk(reference, factor))
        places, seen = ((found + 0.5) * factor - 0.5 for found in (small.places, small.seen))
        return Tracks(places, seen, small.side_px * factor)
    short = min(reference.shape)
    side = min(max(short // SIDE_SHARE, MIN_SIDE_PX), MAX_SIDE_PX, short)
    marks = _distinct(reference, side)
    places = np.array([mark.place for mark in marks]).reshape(-1, 2)
    whole = _middle(reference)
    seen = np.array([_see(marks, places, whole, frame) for frame in frames])
    seen = seen.reshape(len(frames), -1, 2)
    kept = np.isfinite(seen[:, :, 0]).mean(axis=0) >= FOUND_SHARE
    return Tracks(places[kept], seen[:, kept], side)


def _shrunk(frame: Pixels, factor: int) -> Pixels:
    size = (frame.shape[1] // factor, frame.shape[0] // factor)
    whole = frame[: size[1] * factor, : size[0] * factor]
    return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.uint8)


def _see(marks: Sequence[_Mark], places: Floats, whole: _Mark | None, frame: Pixels) -> Floats:
    """
    Where a frame shows each place.

    Alone a place among repeated parts may fit twice; so each is looked for where it was and where
    the middle of the frame went, and if that finds few, where the ones that are sure say it is.
    """
    put = [places]
    if whole is not None and (found := _find(whole.far, frame, whole.place)) is not None:
        matrix = pose_matrix(Pose(angle_deg=found.angle_deg))[:, :2]
        put.append((places - whole.place) @ matrix.T + (found.x, found.y))
    seen = _near(marks, put, frame)
    if np.isfinite(seen[:, 0]).sum() < ENOUGH * len(marks):
        sure = _points([_find(mark.far, frame, mark.place) for mark in marks])
        if (moved := _together(places, sure)) is not None:
            return _near(marks, [*put, places @ moved[:, :2].T + moved[:, 2]], frame)
    return seen


def _near(marks: Sequence[_Mark], put: Sequence[Floats], frame: Pixels) -> Floats:
    """Each place where it fits best of those it may have been put to."""
    near = [
        [_find(mark.near, frame, (float(x), float(y))) for x, y in np.array(put)[:, number]]
        for number, mark in enumerate(marks)
    ]
    return _points([max(seen, key=lambda f: f.score if f else 0.0) for seen in near])


def _together(places: Floats, sure: Floats) -> Floats | None:
    """How most of the sure places moved as one rigid body, 2 x 3; none where they do not agree."""
    kept = np.isfinite(sure[:, 0])
    if kept.sum() < FEWEST + 1:
        return None
    matrix, agree = cv2.estimateAffinePartial2D(places[kept], sure[kept])
    if matrix is None or agree.sum() < max(0.6 * kept.sum(), FEWEST + 1):
        return None
    scale = math.hypot(matrix[0, 0], matrix[0, 1])
    return np.asarray(matrix, np.float64) if abs(scale - 1) < SAME_SCALE else None


def _points(found: Sequence[Found | None]) -> Floats:
    points = [(place.x, place.y) if place else (math.nan, math.nan) for place in found]
    return np.array(points).reshape(-1, 2)


def _middle(reference: Pixels) -> _Mark | None:
    """All of the frame but the rim that the search takes."""
    rim = min(reference.shape) // SEARCH_SHARE
    size = (reference.shape[1] - 2 * rim, reference.shape[0] - 2 * rim)
    return _mark(reference, (rim, rim), size)


@dataclass(frozen=True, slots=True)
class _Mark:
    """A place with its patch, to be looked for far off and close by."""

    place: tuple[float, float]
    far: Patch
    near: Patch


def _distinct(reference: Pixels, side: int) -> list[_Mark]:
    """At most one place of each cell: one with many corners that looks like no other."""
    smooth = cv2.GaussianBlur(reference, (5, 5), 0)
    corners = np.asarray(cv2.cornerMinEigenVal(smooth, side // 2), np.float32)
    margin = side // 2 + 2
    rows = np.linspace(margin, reference.shape[0] - margin, CELLS + 1).astype(int)
    columns = np.linspace(margin, reference.shape[1] - margin, CELLS + 1).astype(int)
    chosen = []
    for top, bottom in itertools.pairwise(rows):
        for left, right in itertools.pairwise(columns):
            for x, y in _cornered(corners[top:bottom, left:right], side // 4):
                corner = (left + x - side // 2, top + y - side // 2)
                if found := _mark(reference, corner, (side, side)):
                    chosen.append(found)
                    break
    return chosen


def _cornered(cell: NDArray[np.float32], apart: int) -> Iterator[tuple[int, int]]:
    """The places of a cell with most corners, x and y, each away from the ones before."""
    left = cell.copy()
    for _ in range(TRIES if left.size else 0):
        row, column = (int(at) for at in np.unravel_index(int(left.argmax()), left.shape))
        yield column, row
        left[max(row - apart, 0) : row + apart + 1, max(column - apart, 0) : column + apart + 1] = 0


def _mark(reference: Pixels, corner: tuple[int, int], size: tuple[int, int]) -> _Mark | None:
    """The patch at `corner`, or none where it cannot be told from others of the same frame."""
    x, y = corner
    width, height = size
    pixels = reference[y : y + height, x : x + width]
    if pixels.shape != (height, width) or pixels.std() < MIN_DEVIATION:
        return None
    place = (x + (width - 1) / 2, y + (height - 1) / 2)
    short = min(reference.shape)
    ranges = (short // SEARCH_SHARE, max(short // NEAR_SHARE, 4))
    try:
        far, near = (
            Patch(
                pixels,
                search_px=search_px,
                max_angle_deg=MAX_ANGLE_DEG,
                min_score=MIN_SCORE,
                name=f"patch at x {x}, y {y}",
            )
            for search_px in ranges
        )
        far.find(reference, *place)
    except (Uninspectable, np.linalg.LinAlgError):  # singular: edges in one direction only
        return None
    return _Mark(place, far, near)


def _find(patch: Patch, frame: Pixels, place: tuple[float, float]) -> Found | None:
    try:
        return patch.find(frame, *place)
    except Uninspectable:
        return None
