"""
A patch of a good frame, found again: pyramid search by correlation, then least squares.

The refinement is the inverse compositional algorithm of Baker and Matthews, "Lucas-Kanade 20 Years
On", IJCV 56(3), 2004, with brightness and contrast projected out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.errors import Uninspectable
from edge_inspector.pixels import grey, pose_matrix
from edge_inspector.records import Pixels, Pose, Reason

Floats = NDArray[np.float32]

COARSE_SIDE_PX = 12
"""The search begins at the coarsest level that leaves the patch's shorter side this long."""
FINE_AREA_PX = 160 * 160
"""Refinement ends at the first level with at most this many px: more cost time, not accuracy."""
CANDIDATES = 4
COARSE_SLACK = 0.6
"""Share of the asked score that a coarse candidate needs: coarse steps miss the exact place."""
BEHIND = 0.15
"""A candidate that is this much worse than the best one is dropped on the way down."""
AMBIGUOUS = 1.5
"""Two places cannot be told apart when the second lacks less than this many times what the best
lacks to a score of 1, and 0.005; periodic parts look like this."""
CONTRAST = (0.3, 3.0)
"""Contrast allowed, relative to the reference patch; correlation alone is blind to it."""
SOFT = (5, 5)
"""Gaussian kernel that hides what linear interpolation does to sharp edges."""
STEPS = 5
MAX_STEP_PX = 2.0
STILL_PX, STILL_COARSE_PX = 0.01, 0.1


@dataclass(frozen=True, slots=True)
class Found:
    """A place of the patch: its middle in px, its turn, its correlation, its relative contrast."""

    x: float
    y: float
    angle_deg: float
    score: float
    contrast: float = 1.0

    def at(self, factor: float) -> Found:
        """The same place in a picture whose px are `factor` times as long."""
        x, y = (self.x + 0.5) / factor - 0.5, (self.y + 0.5) / factor - 0.5
        return replace(self, x=x, y=y)


class Patch:
    """A patch and how far it may lie from where it is expected: `search_px` and `max_angle_deg`."""

    def __init__(
        self, pixels: Pixels, *, search_px: int, max_angle_deg: float, min_score: float, name: str
    ) -> None:
        self._name = name
        self._size = (pixels.shape[1], pixels.shape[0])
        self._search_px, self._max_angle, self._min_score = search_px, max_angle_deg, min_score
        fine = math.ceil(max(math.log2(pixels.size / FINE_AREA_PX) / 2, 0))
        coarse = max(math.floor(math.log2(min(pixels.shape) / COARSE_SIDE_PX)), fine)
        factors = [2**power for power in range(coarse, fine - 1, -1)]
        self._levels = [_Level(pixels, factor, max_angle_deg > 0) for factor in factors]
        self._turns, self._views = _views(self._levels[0], max_angle_deg)

    def find(self, picture: NDArray[Any], x: float, y: float) -> Found:
        """The patch near `x`, `y` (its middle, frame px); raises `Uninspectable` when unsure."""
        slack = self._search_px + self._levels[0].factor + 1
        reach_x, reach_y = (
            math.ceil(reach + slack) for reach in _reach(self._size, self._max_angle)
        )
        left, top = max(round(x) - reach_x, 0), max(round(y) - reach_y, 0)
        window = picture[top : max(round(y) + reach_y, 0), left : max(round(x) + reach_x, 0)]
        if window.shape[1] < self._size[0] or window.shape[0] < self._size[1]:
            raise self._lost(f"is expected at x {x:.0f}, y {y:.0f}, which the frame does not cover")
        found = self._descend(grey(window))
        found = replace(found, x=found.x + left, y=found.y + top)
        self._accept(found, (x, y), picture.shape)
        return found

    def _descend(self, window: Pixels) -> Found:
        """From all places of the coarsest level to the one of the finest, in px of the window."""
        places: list[Found] = []
        for level in self._levels:
            small = block_means(window, level.factor)
            started = self._search(small) if level is self._levels[0] else places
            still_px = STILL_PX if level is self._levels[-1] else STILL_COARSE_PX
            refined = [level.refine(small, place.at(level.factor), still_px) for place in started]
            places = _apart([place.at(1 / level.factor) for place in refined])
            places = [place for place in places if place.score > places[0].score - BEHIND]
        if len(places) > 1 and 1 - places[1].score < AMBIGUOUS * (1 - places[0].score) + 0.005:
            raise self._lost(
                f"fits two places {math.hypot(places[0].x - places[1].x, places[0].y - places[1].y):.0f} px apart with scores "
                f"of {places[0].score:.3f} and {places[1].score:.3f}, too close to tell which is "
                "right; choose a patch that does not repeat, or a smaller search_px"
            )
        return places[0]

    def _search(self, small: Pixels) -> list[Found]:
        """Best places at the coarsest level over all turns, apart from each other."""
        height, width = self._views[0].shape
        if small.shape[0] < height or small.shape[1] < width:
            raise self._lost("is expected where the frame leaves no room for it")
        scores = np.stack(
            [cv2.matchTemplate(small, view, cv2.TM_CCOEFF_NORMED) for view in self._views]
        )
        turns, best = scores.argmax(axis=0), np.ascontiguousarray(scores.max(axis=0))
        factor = self._levels[0].factor
        places: list[Found] = []
        for _ in range(CANDIDATES):
            _, score, _, (column, row) = cv2.minMaxLoc(best)
            if places and score < COARSE_SLACK * self._min_score:
                break
            middle = (column + (width - 1) / 2, row + (height - 1) / 2)
            places.append(Found(*middle, self._turns[turns[row, column]], score).at(1 / factor))
            cv2.circle(best, (column, row), max(min(width, height) // 4, 2), -1.0, -1)
        return places

    def _accept(self, found: Found, expected: tuple[float, float], shape: Sequence[int]) -> None:
        moved = max(abs(found.x - expected[0]), abs(found.y - expected[1]))
        where = f"at {_place(found)}"
        if found.score < self._min_score:
            raise self._lost(
                f"scores {found.score:.2f} {where}; at least {self._min_score} is asked"
            )
        if not CONTRAST[0] <= found.contrast <= CONTRAST[1]:
            raise self._lost(
                f"has {found.contrast:.2f} times the contrast of its reference {where}; "
                f"{CONTRAST[0]} to {CONTRAST[1]} is allowed, check the light"
            )
        if moved > self._search_px + 1 or abs(found.angle_deg) > self._max_angle + 0.25:
            raise self._lost(
                f"lies {moved:.1f} px and {abs(found.angle_deg):.2f} degrees from where it is "
                f"expected; at most {self._search_px} px and {self._max_angle} degrees are allowed"
            )
        reach = _reach(self._size, abs(found.angle_deg))
        edges = [found.x - reach[0], found.y - reach[1]]
        edges += [shape[1] - 1 - found.x - reach[0], shape[0] - 1 - found.y - reach[1]]
        if min(edges) < -1.5:
            raise self._lost(f"{where} leaves the frame of {shape[1]} x {shape[0]} px")

    def _lost(self, problem: str) -> Uninspectable:
        return Uninspectable(Reason.BAD_INPUT.value, f"{self._name} {problem}")


class _Level:
    """The patch at one scale, ready for least squares; places are in px of that scale."""

    def __init__(self, patch: Pixels, factor: int, turns: bool) -> None:
        small = block_means(patch, factor).astype(np.float32)
        self.factor = factor
        self.pixels = small
        self.middle = np.array([patch.shape[1], patch.shape[0]]) / (2 * factor) - 0.5
        self._radius = float(self.middle.max())
        across = cv2.Sobel(small, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
        down = cv2.Sobel(small, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
        rows, columns = np.indices(small.shape, dtype=np.float32)
        steepest = [across, down]
        if turns:
            steepest.append(across * (rows - self.middle[1]) - down * (columns - self.middle[0]))
        flat = small.ravel() - small.mean()
        self._norm = float(np.linalg.norm(flat))
        self._unit = flat / self._norm
        slopes = np.stack([image.ravel() for image in steepest])
        slopes -= slopes.mean(axis=1, keepdims=True)
        slopes -= np.outer(slopes @ self._unit, self._unit)
        self._solve = np.linalg.solve(slopes @ slopes.T, slopes).astype(np.float32)

    def refine(self, picture: Pixels, place: Found, still_px: float) -> Found:
        """The place moved to where the patch fits best, with its score and contrast there."""
        for _ in range(STEPS):
            place, (across, down), turn = self._look(picture, place)
            place = replace(
                place,
                x=place.x + min(max(across, -MAX_STEP_PX), MAX_STEP_PX),
                y=place.y + min(max(down, -MAX_STEP_PX), MAX_STEP_PX),
                angle_deg=place.angle_deg + math.degrees(turn),
            )
            if math.hypot(across, down) + abs(turn) * self._radius < still_px:
                break
        return place

    def _look(self, picture: Pixels, place: Found) -> tuple[Found, list[float], float]:
        """The score at `place`, and the step in px and in rad towards a better one."""
        matrix = pose_matrix(Pose(angle_deg=place.angle_deg))
        matrix[:, 2] = (place.x, place.y) - matrix[:, :2] @ self.middle
        seen = cv2.warpAffine(
            picture,
            matrix,
            (self.pixels.shape[1], self.pixels.shape[0]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        flat = seen.ravel().astype(np.float32)
        flat -= flat.mean()
        norm = max(float(np.linalg.norm(flat)), 1e-6)
        score = float(flat @ self._unit) / norm
        step = self._solve @ (flat * (self._norm / norm))
        turn = -float(step[2]) if len(step) > 2 else 0.0
        scored = Found(place.x, place.y, place.angle_deg, score, norm / self._norm)
        return scored, (-(matrix[:, :2] @ step[:2])).tolist(), turn


def _views(level: _Level, max_angle_deg: float) -> tuple[list[float], list[Pixels]]:
    """The middle of the patch at turns so close that its corners move by at most 0.75 px."""
    height, width = level.pixels.shape
    angle = math.radians(max_angle_deg)
    shrink = 1 / (math.cos(angle) + math.sin(angle) * max(height / width, width / height))
    inner = (max(int(width * shrink), 4), max(int(height * shrink), 4))
    count = 2 * math.ceil(angle * math.hypot(*inner) / 2 / 1.5) + 1
    turns = [float(turn) for turn in np.linspace(-max_angle_deg, max_angle_deg, count)]
    views = []
    for turn in turns:
        # A part turned by `turn` looks like the patch sampled at the opposite turn.
        matrix = pose_matrix(Pose(angle_deg=-turn))
        matrix[:, 2] = level.middle - matrix[:, :2] @ ((np.array(inner) - 1) / 2)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        view = cv2.warpAffine(
            level.pixels, matrix, inner, flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        views.append(np.clip(np.rint(view), 0, 255).astype(np.uint8))
    return turns, views


def block_means(picture: NDArray[Any], factor: int) -> NDArray[Any]:
    """The picture shrunk by a whole factor; what does not fill a block is left out."""
    height, width = picture.shape[0] // factor, picture.shape[1] // factor
    small = picture[: height * factor, : width * factor]
    if factor > 1:
        small = cv2.resize(small, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(small, SOFT, 0)


def _reach(size: tuple[int, int], angle_deg: float) -> tuple[float, float]:
    """Half width and height of the upright box around a turned patch."""
    cosine, sine = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    return (size[0] * cosine + size[1] * sine) / 2, (size[0] * sine + size[1] * cosine) / 2


def _apart(places: list[Found]) -> list[Found]:
    """Best first, without those that ended at the place of a better one."""
    kept: list[Found] = []
    for place in sorted(places, key=lambda place: -place.score):
        if all(math.hypot(place.x - other.x, place.y - other.y) > 2 for other in kept):
            kept.append(place)
    return kept


def _place(found: Found) -> str:
    return f"x {found.x:.1f}, y {found.y:.1f} px"
