"""Distances between facing edges, to parts of a px, and likeness of parts to their template."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.records import Pixels
from edge_inspector.rules.tools import Calipers, Patches

Floats = NDArray[np.float64]
SEARCH_PX = 4
"""An edge is looked for this far from where it was learned."""
GONE_PX = SEARCH_PX + 1.0
"""What a distance has changed by when one of its edges is not found."""

LEAST_CONTRAST = 0.2
"""Of the contrast of a part, with less of which it is not there."""


def steps(pixels: Pixels, band_px: int, axis: str) -> Floats:
    """Change of grey over 2 px along an axis, in each band across it: (bands, px)."""
    across = pixels if axis == "x" else pixels.T
    bands = across.shape[0] // band_px
    rows = across[: bands * band_px].reshape(bands, band_px, -1)
    profile = rows.mean(axis=1, dtype=np.float64)
    found: Floats = np.zeros_like(profile)
    found[:, 1:-1] = profile[:, 2:] - profile[:, :-2]
    return found


class CaliperGauge:
    """Measures learned pairs of edges."""

    def __init__(self, calipers: Calipers) -> None:
        self._band_px = calipers.band_px
        self._axes = np.array(calipers.axis)
        self._band = np.array(calipers.band)
        self._rise = np.array(calipers.rise, np.float64)
        self._least = np.array(calipers.step_grey)
        self.first = np.array(calipers.first_px)
        self.second = np.array(calipers.second_px)

    def measure(self, pixels: Pixels) -> Floats:
        """Change of each distance from the learned one, px; `GONE_PX` where an edge is gone."""
        change, height = self.look(pixels)
        return np.where(height >= 1, change, GONE_PX)

    def look(self, pixels: Pixels) -> tuple[Floats, Floats]:
        """Change of each distance, px, and the weaker edge's height; below 1 it is none."""
        change, height = np.zeros((2, self.first.size))
        for axis in np.unique(self._axes):
            mine = np.flatnonzero(self._axes == axis)
            found = steps(pixels, self._band_px, str(axis))
            rise = self._rise[mine]
            begin, one = _peak(found, self._band[mine], self.first[mine], rise)
            end, other = _peak(found, self._band[mine], self.second[mine], -rise)
            change[mine] = (end - begin) - (self.second - self.first)[mine]
            height[mine] = np.minimum(one, other) / self._least[mine]
        return change, height

    def box(self, number: int) -> tuple[int, int, int, int]:
        """Where a pair of edges was learned, in crop px."""
        low, high = int(self.first[number]), int(np.ceil(self.second[number]))
        band = int(self._band[number]) * self._band_px
        if self._axes[number] == "x":
            return low, band, max(high - low, 1), self._band_px
        return band, low, self._band_px, max(high - low, 1)


def _peak(found: Floats, band: NDArray[np.intp], at: Floats, rise: Floats) -> tuple[Floats, Floats]:
    """Place and height of the steepest change of the wanted direction near each place."""
    reach = np.arange(-SEARCH_PX - 1, SEARCH_PX + 2)
    place = np.clip(np.rint(at).astype(np.intp)[:, None] + reach, 0, found.shape[1] - 1)
    near = found[band[:, None], place] * rise[:, None]
    top = near[:, 1:-1].argmax(axis=1) + 1
    row = np.arange(at.size)
    before, peak, after = near[row, top - 1], near[row, top], near[row, top + 1]
    bend = before - 2 * peak + after
    part = np.where(bend < 0, (before - after) / np.where(bend < 0, 2 * bend, 1), 0.0)
    return place[row, top] + np.clip(part, -0.5, 0.5), peak


class PatchGauge:
    """Compares learned parts with the template by normalised correlation, which no light changes."""

    def __init__(self, patches: Patches, template: Pixels) -> None:
        self.boxes = patches.boxes
        parts = [template[y : y + h, x : x + w].copy() for x, y, w, h in patches.boxes]
        self._parts = [(part, float(part.std())) for part in parts]

    def measure(self, pixels: Pixels) -> Floats:
        """1 less the best correlation of each part within some px: 0 for the same, 1 for nothing."""
        return np.array(
            [
                _unlike(pixels, part, contrast, box)
                for (part, contrast), box in zip(self._parts, self.boxes, strict=True)
            ]
        )


def _unlike(pixels: Pixels, part: Pixels, contrast: float, box: tuple[int, int, int, int]) -> float:
    x, y, width, height = box
    near = pixels[
        max(0, y - SEARCH_PX) : y + height + SEARCH_PX,
        max(0, x - SEARCH_PX) : x + width + SEARCH_PX,
    ]
    if (
        cv2.meanStdDev(near)[1][0, 0] < LEAST_CONTRAST * contrast
    ):  # the correlation of flat pixels means nothing
        return 1.0
    best = float(cv2.matchTemplate(near, part, cv2.TM_CCOEFF_NORMED).max())
    return float(np.clip(1.0 - best, 0.0, 1.0)) if np.isfinite(best) else 1.0
