"""Measures every ball at once: windows of all balls as rows of one matrix, moments as its columns."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.errors import Uninspectable
from edge_inspector.records import Pixels, Reason
from edge_inspector.rules.grid import Placement, Places, fit, neighbours, nodes
from edge_inspector.rules.parameters import RuleParameters

Floats = NDArray[np.float64]
MAX_BLOBS = 4
"""Times the balls of the grid: more blobs than that is no ball grid array."""


@dataclass(frozen=True, slots=True)
class Balls:
    """
    What was measured: one entry per ball, grid order, except `gap`, one per pair of neighbours.

    `fill` is area over the unit's median area, `off_px` the distance from the fitted place,
    `elongation` the difference of the axes' variances over their sum, `gap` and its `gap_at` the
    brightness between neighbours as a share of the contrast, and where.
    """

    placement: Placement
    at: Places
    centre: Places
    fill: Floats
    off_px: Floats
    elongation: Floats
    gap: Floats
    gap_at: Places
    body_grey: float
    contrast_grey: float
    ball_area_px2: float


class BallGauge:
    """Finds the grid in a crop and measures its balls; all tables are made once."""

    def __init__(self, rules: RuleParameters) -> None:
        grid, side = rules.grid, rules.body.crop_side_px
        self._find = rules.find
        self._missing = rules.limits.missing_fill
        self._nodes = nodes(grid, rules.ball_map)
        self._first, self._second = neighbours(grid)
        pitch = min(grid.pitch_x_px, grid.pitch_y_px)
        self.reach_px = max(2, int(pitch / 2 - 0.5))
        self._within = (self.reach_px, side - 1 - self.reach_px)
        self._reach_of_match = pitch / 2
        area = np.pi / 4 * grid.ball_diameter_px**2
        ratio = rules.find.blob_area_ratio
        self._areas = (area / ratio, area * ratio)
        self._area = area
        slack = int(np.ceil(rules.find.max_shift_px))
        body = rules.body
        self._search = (
            slice(max(0, body.top_px - slack), body.top_px + body.height_px + slack),
            slice(max(0, body.left_px - slack), body.left_px + body.width_px + slack),
        )
        step = np.arange(-self.reach_px, self.reach_px + 1, dtype=np.float32)
        y, x = (axis.ravel() for axis in np.meshgrid(step, step, indexing="ij"))
        self._moments = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
        far = np.hypot(x, y)
        self._core = far <= 1.5
        self._corner = far > 1.2 * self.reach_px
        self._closing = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))

    def measure(self, pixels: Pixels) -> Balls:
        """All balls of a crop, uint8 (h, w); raises `Uninspectable` when no grid is found."""
        closed = np.asarray(cv2.morphologyEx(pixels, cv2.MORPH_CLOSE, self._closing), np.uint8)
        placement = self._place(closed)
        windows, corner = self._windows(closed, placement.of(self._nodes))
        body = float(np.median(windows[:, self._corner]))
        contrast = float(np.median(windows[:, self._core])) - body
        if contrast < self._find.min_contrast_grey:
            raise _no_grid(
                f"balls are {contrast:.0f} grey levels brighter than the body, the least is "
                f"{self._find.min_contrast_grey:g}; mend light, exposure or polarity"
            )
        edge = self._find.ball_edge
        scale = 1 / ((1 - 2 * edge) * contrast)
        material = np.clip((windows - (body + edge * contrast)) * scale, 0, 1)
        return self._judge(closed, material @ self._moments, corner, body, contrast)

    def _place(self, closed: Pixels) -> Placement:
        """The grid by its blobs: each blob of a ball's size goes to the nearest node."""
        top, left = self._search
        region = closed[top, left]
        _, white = cv2.threshold(region, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        _, _, stats, middles = cv2.connectedComponentsWithStatsWithAlgorithm(
            white, 8, cv2.CV_32S, cv2.CCL_GRANA
        )
        area = stats[1:, cv2.CC_STAT_AREA]
        ball = (area >= self._areas[0]) & (area <= self._areas[1])
        found = middles[1:][ball] @ np.array([1, 1j]) + complex(left.start, top.start)
        least = max(4, self._find.min_found * self._nodes.size)
        if not least <= found.size <= MAX_BLOBS * self._nodes.size:
            raise _no_grid(
                f"{found.size} blobs have a ball's size, the grid of {self._nodes.size} needs "
                f"{least:.0f} to be found; is this the product, in focus and lit?"
            )
        apart = np.abs(found[:, None] - self._nodes)
        nearest = apart.argmin(axis=1)
        near = apart[np.arange(found.size), nearest] <= self._reach_of_match
        if np.count_nonzero(near) < least:
            raise _no_grid(
                f"{np.count_nonzero(near)} balls lie within half a pitch of their places, the "
                f"least is {least:.0f}; align the crop"
            )
        return fit(self._nodes[nearest[near]], found[near], self._find.inlier_px)

    def _windows(self, closed: Pixels, at: Places) -> tuple[NDArray[np.float32], Places]:
        """Windows about places, one row each, and the px they are centred on."""
        x = np.clip(np.rint(at.real).astype(np.intp), *self._within)
        y = np.clip(np.rint(at.imag).astype(np.intp), *self._within)
        side = 2 * self.reach_px + 1
        view = np.lib.stride_tricks.sliding_window_view(closed, (side, side))
        windows = view[y - self.reach_px, x - self.reach_px].reshape(at.size, -1)
        return windows.astype(np.float32), x + 1j * y

    def _judge(
        self,
        closed: Pixels,
        moments: NDArray[np.float32],
        corner: Places,
        body: float,
        contrast: float,
    ) -> Balls:
        area, mx, my, mxx, myy, mxy = moments.astype(np.float64).T
        safe = np.maximum(area, 1.0)
        x, y = mx / safe, my / safe
        usual = float(np.median(area))
        fill = area / max(usual, 1.0)
        there = fill >= self._missing
        centre = corner + x + 1j * y
        inliers = there & (np.abs(fill - 1) < 0.5)
        placement = fit(self._nodes[inliers], centre[inliers], self._find.inlier_px)
        at = placement.of(self._nodes)
        vxx, vyy, vxy = mxx / safe - x * x, myy / safe - y * y, mxy / safe - x * y
        axes = np.hypot(vxx - vyy, 2 * vxy) / np.maximum(vxx + vyy, 1e-3)
        gap_at = (at[self._first] + at[self._second]) / 2
        small = cv2.blur(closed, (3, 3))
        high = closed.shape[0] - 1
        gap = small[
            np.clip(np.rint(gap_at.imag).astype(np.intp), 0, high),
            np.clip(np.rint(gap_at.real).astype(np.intp), 0, high),
        ]
        return Balls(
            placement=placement,
            at=at,
            centre=np.where(there, centre, at),
            fill=fill,
            off_px=np.where(there, np.abs(centre - at), 0.0),
            elongation=np.where(there, axes, 0.0),
            gap=np.maximum(gap - body, 0.0) / contrast,
            gap_at=gap_at,
            body_grey=body,
            contrast_grey=contrast,
            ball_area_px2=usual,
        )


def _no_grid(detail: str) -> Uninspectable:
    return Uninspectable(Reason.BAD_INPUT.value, f"rules: {detail}")
