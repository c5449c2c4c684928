"""
The package outline: the one dark or bright body, its four sides fitted to sub-pixel accuracy.

Coarse on a small picture (threshold, largest body, smallest rectangle around it), then straight
lines through edge points measured across each side of the full frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.errors import Misuse, Uninspectable
from edge_inspector.pixels import check, eight_bit, grey, pose_matrix, without_colour
from edge_inspector.recipe_alignment import Outline
from edge_inspector.records import Pixels, Pose, Reason

Floats = NDArray[np.float64]

SMALL_SIDE_PX = 320
"""The coarse search shrinks the frame by a whole factor to about this length of the longer side."""
POINTS = 96
"""Edge points per side, away from the corners, which may be round or chipped."""
SIDE_SHARE = 0.8
ASPECT_TOLERANCE = 0.1
MIN_FILL = 0.85
"""Share of its smallest rectangle that a body must fill; a disc fills 0.79, a square 1."""
MIN_CONTRAST = 8.0
"""Least step of grey levels across a side."""
MIN_STRAIGHT = 0.7
"""Share of a side's edge points that must lie within `STRAIGHT_PX` of its line."""
STRAIGHT_PX = 1.0
MAX_SKEW_DEG = 1.0
NORMALS = np.array([(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)])
"""Outward: right, bottom, left, top, in the body's own axes."""


@dataclass(frozen=True, slots=True)
class _Body:
    """A rectangle in frame px; `angle_deg` as in `Pose`, in -45..45."""

    x: float
    y: float
    width: float
    height: float
    angle_deg: float
    straight: float = 1.0


class OutlineAligner:
    """Maps the found body to `size` px of the reference less the margin on each side."""

    def __init__(self, spec: Outline) -> None:
        self._spec = spec
        self._width, self._height = (side - 2 * spec.margin_px for side in spec.size)
        if min(self._width, self._height) < 1:
            raise Misuse(
                f"outline: margin_px = {spec.margin_px} leaves nothing of size {spec.size[0]} x "
                f"{spec.size[1]}; use less than half of the shorter side"
            )

    def find(self, pixels: NDArray[Any]) -> Pose:
        """Reference px to frame px; raises `Uninspectable`."""
        picture = check(pixels)
        factor = max(round(max(picture.shape[:2]) / SMALL_SIDE_PX), 1)
        size = (picture.shape[1] // factor, picture.shape[0] // factor)
        small = grey(cv2.GaussianBlur(cv2.resize(picture, size), (5, 5), 0))
        lost = _lost("no body was found")
        for level in self._levels(small):
            try:
                body = self._coarse(small, level, picture.shape[1] / size[0])
                body = self._sides(picture, body, reach=2.0 * factor + 4, step=max(factor / 4, 1.0))
                body = self._sides(picture, body, reach=6.0, step=0.5)
                return self._pose(body)
            except Uninspectable as reason:
                lost = reason
        raise lost

    def _levels(self, small: Pixels) -> list[int]:
        """The asked level, or Otsu's, then Otsu's again on the body's side of it."""
        if self._spec.level is not None:
            return [self._spec.level]
        level, _ = cv2.threshold(small, 0, 255, cv2.THRESH_OTSU)
        side = small[small <= level] if self._spec.polarity == "dark" else small[small > level]
        if not side.size:
            return [int(level)]
        again, _ = cv2.threshold(side.reshape(-1, 1), 0, 255, cv2.THRESH_OTSU)
        return [int(level), int(again)]

    def _coarse(self, small: Pixels, level: int, factor: float) -> _Body:
        """The largest body of the small picture, in frame px."""
        kind = cv2.THRESH_BINARY_INV if self._spec.polarity == "dark" else cv2.THRESH_BINARY
        _, body = cv2.threshold(small, level, 255, kind)
        body = cv2.morphologyEx(body, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        contours, _ = cv2.findContours(body, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        contour = max(contours, key=cv2.contourArea, default=None)
        area = 0.0 if contour is None else cv2.contourArea(contour)
        if contour is None or area < self._spec.min_area_fraction * small.size:
            raise _lost(
                f"the largest {self._spec.polarity} body at level {level} covers "
                f"{area / small.size:.3f} of the frame; min_area_fraction is "
                f"{self._spec.min_area_fraction}"
            )
        x, y, width, height = cv2.boundingRect(contour)
        if x == 0 or y == 0 or x + width == small.shape[1] or y + height == small.shape[0]:
            raise _lost("the body reaches the edge of the frame; all four sides must be seen")
        middle, sides, turned = cv2.minAreaRect(contour)
        fill = area / max(sides[0] * sides[1], 1.0)
        if fill < MIN_FILL:
            raise _lost(f"the body fills {fill:.2f} of its rectangle; at least {MIN_FILL} is asked")
        # OpenCV turns by any quarter, and measures between the middles of border px.
        quarter = round(turned / 90)
        across, down = (
            (side + 1) * factor for side in (sides if quarter % 2 == 0 else sides[::-1])
        )
        left, top = ((place + 0.5) * factor - 0.5 for place in middle)
        return self._plausible(_Body(left, top, across, down, 90 * quarter - turned), slack=1.5)

    def _plausible(self, body: _Body, slack: float) -> _Body:
        if abs(body.angle_deg) > self._spec.max_angle_deg * slack:
            raise _lost(
                f"the body is turned by {body.angle_deg:.2f} degrees; max_angle_deg is "
                f"{self._spec.max_angle_deg}"
            )
        aspect = (body.width / body.height) / (self._width / self._height)
        if not 1 - ASPECT_TOLERANCE * slack <= aspect <= 1 + ASPECT_TOLERANCE * slack:
            raise _lost(
                f"the body is {body.width:.0f} x {body.height:.0f} px, {aspect:.2f} times as wide as "
                f"'size' says; {ASPECT_TOLERANCE} more or less is allowed, set 'size' to its shape"
            )
        return body

    def _sides(self, picture: NDArray[Any], body: _Body, reach: float, step: float) -> _Body:
        """The body with its sides moved to the edges found within `reach` px of them."""
        along = np.linspace(-SIDE_SHARE, SIDE_SHARE, POINTS)
        offsets = np.arange(-reach, reach + step / 2, step)
        half = np.array([body.width, body.height]) / 2
        tangents = NORMALS[:, ::-1] * (1, -1)
        places = (
            (NORMALS * half)[:, None, None, :]
            + along[None, :, None, None] * (tangents * half)[:, None, None, :]
            + offsets[None, None, :, None] * NORMALS[:, None, None, :]
        )
        turn = pose_matrix(Pose(angle_deg=body.angle_deg))[:, :2]
        profiles = _sample(picture, places @ turn.T + (body.x, body.y))
        edges = _edges(profiles if self._spec.polarity == "dark" else -profiles, offsets)
        positions = along * np.array(_lengths(body))[:, None] / 2
        return _rectangle(body, turn, *_lines(edges, positions, step))

    def _pose(self, body: _Body) -> Pose:
        self._plausible(body, slack=1.0)
        scale = math.sqrt(body.width * body.height / (self._width * self._height))
        pose = Pose(angle_deg=body.angle_deg, scale=scale)
        middle = (np.array(self._spec.size) - 1) / 2
        shift = np.array([body.x, body.y]) - pose_matrix(pose)[:, :2] @ middle
        return Pose(float(shift[0]), float(shift[1]), body.angle_deg, scale, body.straight)


def _sample(picture: NDArray[Any], places: Floats) -> Floats:
    """Grey levels at places of any shape (..., 2)."""
    flat = places.reshape(-1, places.shape[2], 2).astype(np.float32)
    x, y = (np.ascontiguousarray(flat[:, :, axis]) for axis in (0, 1))
    seen = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return eight_bit(without_colour(seen)).reshape(places.shape[:3]).astype(np.float64)


def _edges(profiles: Floats, offsets: Floats) -> Floats:
    """
    Where each profile, of shape (sides, points, offsets), rises outwards across its side.

    The edge is the centroid of the rise around the steepest place: any symmetric blur leaves it.
    """
    slopes = np.diff(profiles, axis=2)
    slopes = (slopes[:, :, :-2] + 2 * slopes[:, :, 1:-1] + slopes[:, :, 2:]) / 4
    steepest = slopes.argmax(axis=2)[:, :, None]
    near = np.abs(np.arange(slopes.shape[2]) - steepest) <= 4
    rise = np.where(near, np.maximum(slopes, 0), 0)
    heights = rise.sum(axis=2)
    contrast = float(np.median(heights, axis=1).min())
    if contrast < MIN_CONTRAST:
        raise _lost(
            f"a side has a contrast of {contrast:.1f} grey levels; at least {MIN_CONTRAST} is needed"
        )
    middles = (offsets[2:-1] + offsets[1:-2]) / 2
    return np.asarray(rise @ middles / np.maximum(heights, 1e-9))


def _lines(edges: Floats, along: Floats, step: float) -> tuple[Floats, Floats, float]:
    """Each side's offset at its middle and its slope, without outliers; least share of points kept."""
    offsets, slopes = np.median(edges, axis=1), np.zeros(len(edges))
    share = 0.0
    for limit in (4, 2, 1, 1):
        misses = np.abs(edges - offsets[:, None] - slopes[:, None] * along)
        kept = misses < limit * max(STRAIGHT_PX, step)
        share = float(kept.mean(axis=1).min())
        if share < MIN_STRAIGHT:
            raise _lost(
                f"{share:.0%} of a side's edge points lie on a straight line; {MIN_STRAIGHT:.0%} must"
            )
        count = kept.sum(axis=1)
        centre, mean = (kept * along).sum(axis=1) / count, (kept * edges).sum(axis=1) / count
        centred = kept * (along - centre[:, None])
        slopes = (centred * edges).sum(axis=1) / (centred**2).sum(axis=1)
        offsets = mean - slopes * centre
    return offsets, slopes, share


def _rectangle(body: _Body, turn: Floats, offsets: Floats, slopes: Floats, share: float) -> _Body:
    """The rectangle through four fitted sides (right, bottom, left, top)."""
    # Tangents run with the normals turned one way, so equal slopes are one turn of the whole.
    turns = np.degrees(np.arctan(slopes))
    skew = float(np.ptp(turns))
    if skew > MAX_SKEW_DEG:
        raise _lost(
            f"the sides are skewed by {skew:.2f} degrees; at most {MAX_SKEW_DEG} is allowed"
        )
    right, bottom, left, top = (float(offset) for offset in offsets)
    dx, dy = turn @ ((right - left) / 2, (bottom - top) / 2)
    return _Body(
        body.x + float(dx),
        body.y + float(dy),
        body.width + right + left,
        body.height + bottom + top,
        body.angle_deg - float(np.average(turns, weights=_lengths(body))),
        share,
    )


def _lengths(body: _Body) -> list[float]:
    """Of right, bottom, left and top."""
    return [body.height, body.width, body.height, body.width]


def _lost(problem: str) -> Uninspectable:
    return Uninspectable(Reason.BAD_INPUT.value, f"package outline: {problem}")
