"""A patch of a good frame, found again: pyramid search by correlation, then least squares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.align_level import Found, Level, block_means
from edge_inspector.errors import Uninspectable
from edge_inspector.pixels import grey, pose_matrix
from edge_inspector.records import Pixels, Pose, Reason

COARSE_SIDE_PX = 12
COARSE_DEVIATION = 0.5
"""The search begins at the coarsest level that leaves the patch's shorter side this long, and this
share of its contrast: a fine grid of balls must not blur away, or a neighbour would do as well."""
FINE_AREA_PX = 160 * 160
"""Refinement ends at the first level with at most this many px: more cost time, not accuracy."""
CANDIDATES = 12
COARSE_SLACK = 0.6
"""Share of the asked score, and of the best, that a coarse candidate needs."""
BEHIND = 0.15
"""A candidate that is this much worse than the best one is dropped on the way down."""
AMBIGUOUS = 1.5
"""Two places cannot be told apart when the second lacks less than this many times what the best
lacks to a score of 1, and 0.005; periodic parts look like this."""
EDGE_SHARE = 0.7
"""Share of the asked score that the correlation of edges must reach; another part with spots of
the same size scores 0.79 by its grey levels and 0.29 by its edges."""
CONTRAST = (0.3, 3.0)
"""Contrast allowed, relative to the reference patch; correlation alone is blind to it."""
STILL_PX, STILL_COARSE_PX = 0.01, 0.1
"""Refinement ends with a step this small, at the finest level and above."""


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
        while (
            coarse > fine and block_means(pixels, 2**coarse).std() < COARSE_DEVIATION * pixels.std()
        ):
            coarse -= 1
        factors = [2**power for power in range(coarse, fine - 1, -1)]
        self._levels = [Level(pixels, factor, max_angle_deg > 0) for factor in factors]
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
        small = window
        for level in self._levels:
            small = block_means(window, level.factor)
            started = self._search(small) if level is self._levels[0] else places
            still_px = STILL_PX if level is self._levels[-1] else STILL_COARSE_PX
            refined = [level.refine(small, place.at(level.factor), still_px) for place in started]
            places = _apart([place.at(1 / level.factor) for place in refined])
            places = [place for place in places if place.score > places[0].score - BEHIND]
        unsure = len(places) > 1 and places[0].score >= self._min_score
        if unsure and 1 - places[1].score < AMBIGUOUS * (1 - places[0].score) + 0.005:
            raise self._lost(
                f"fits two places {math.hypot(places[0].x - places[1].x, places[0].y - places[1].y):.0f} px apart with scores "
                f"of {places[0].score:.3f} and {places[1].score:.3f}, too close to tell which is "
                "right; choose a patch that does not repeat, or a smaller search_px"
            )
        return self._levels[-1].compare_edges(small, places[0])

    def _search(self, small: Pixels) -> list[Found]:
        """Best places at the coarsest level over all turns, apart from each other."""
        height, width = self._views[0].shape
        if small.shape[0] < height or small.shape[1] < width:
            raise self._lost("is expected where the frame leaves no room for it")
        scores = np.stack(
            [cv2.matchTemplate(small, view, cv2.TM_CCOEFF_NORMED) for view in self._views]
        )
        turns, best = scores.argmax(axis=0), np.ascontiguousarray(scores.max(axis=0))
        top = float(best.max())
        if top < COARSE_SLACK * self._min_score:
            raise self._lost(f"scores {top:.2f} at best; at least {self._min_score} is asked")
        peaks = (best == cv2.dilate(best, np.ones((5, 5)))) & (best >= COARSE_SLACK * top)
        rows, columns = np.nonzero(peaks)
        first = np.argsort(-best[rows, columns])[:CANDIDATES]
        return [
            Found(
                column + (width - 1) / 2,
                row + (height - 1) / 2,
                self._turns[turns[row, column]],
                float(best[row, column]),
            ).at(1 / self._levels[0].factor)
            for row, column in zip(rows[first].tolist(), columns[first].tolist(), strict=True)
        ]

    def _accept(self, found: Found, expected: tuple[float, float], shape: Sequence[int]) -> None:
        moved = max(abs(found.x - expected[0]), abs(found.y - expected[1]))
        where = f"at {_place(found)}"
        if found.score < self._min_score:
            raise self._lost(
                f"scores {found.score:.2f} {where}; at least {self._min_score} is asked"
            )
        if found.edges < EDGE_SHARE * self._min_score:
            raise self._lost(
                f"has edges that agree by {found.edges:.2f} {where}; at least "
                f"{EDGE_SHARE * self._min_score:.2f} is needed, this looks like another part"
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


def _views(level: Level, max_angle_deg: float) -> tuple[list[float], list[Pixels]]:
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
