"""Judges the body between the balls: foreign material, lines and spots, at half resolution."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.records import Pixels
from edge_inspector.rules.balls import Balls
from edge_inspector.rules.parameters import RuleParameters

Floats = NDArray[np.float32]
LINE = 9
"""Length of the line filters, px at half resolution."""
DIRECTIONS = 8


@dataclass(frozen=True, slots=True)
class Body:
    """Maps of violations at half resolution, 1 at the limit; `corner` is their top left in px."""

    material: Floats
    lines: Floats
    spots: Floats
    corner: tuple[int, int]


SPOT = (5, 5)
"""Gaussian of the smallest spots, px at half resolution."""
SPOT_STEP = 4
"""Step of the broad ones, px at half resolution."""


class BodyGauge:
    """Measures the body where no ball is; all tables are made once."""

    def __init__(self, rules: RuleParameters) -> None:
        body, limits, grid = rules.body, rules.limits, rules.grid
        self._side = body.crop_side_px
        self._left = body.left_px + body.margin_px
        self._top = body.top_px + body.margin_px
        self._width = (body.width_px - 2 * body.margin_px) // 2 * 2
        self._height = (body.height_px - 2 * body.margin_px) // 2 * 2
        radius = grid.ball_diameter_px / 2 + rules.find.erase_px
        reach = int(radius) + 1
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        inside = np.hypot(x, y) <= radius
        self._disc = (y * self._side + x)[inside]
        self._within = (reach, self._side - 1 - reach)
        self._judged = np.ones((self._height, self._width), np.uint8)
        self._judged[: body.mark_px, : body.mark_px] = 0
        pitch = (grid.pitch_x_px + grid.pitch_y_px) / 2
        self._local = 2 * int(pitch / 4 + 0.5) + 1
        self._ball = max(3, round(grid.ball_diameter_px / 2))
        per_ball = 4 * self._ball**2 / (np.pi / 4 * grid.ball_diameter_px**2)
        self._per_material = per_ball / limits.extra_fill
        self._edge = rules.find.ball_edge
        self.per_line = np.full((self._height // 2, self._width // 2), 1 / limits.scratch_grey)
        self.per_line = self.per_line.astype(np.float32)
        start = (body.window_left_px - self._left) // 2
        stop = -((self._left - body.window_left_px - body.window_width_px) // 2)
        self.window = np.zeros(self._width // 2, np.bool_)
        self.window[max(0, start) : max(0, stop)] = True
        self.per_line[:, self.window] = 1 / limits.window_grey
        self._stain_grey = limits.stain_grey
        self._per_spot = self.per_line * np.float32(limits.scratch_grey / limits.stain_grey)
        self._kernels = [_line(np.pi * n / DIRECTIONS) for n in range(DIRECTIONS)]

    def measure(self, pixels: Pixels, balls: Balls) -> Body:
        """The body of a crop, uint8 (h, w), with its balls erased."""
        shift = balls.placement.of(np.array([complex(self._side, self._side) / 2]))[0]
        x = round(float(np.clip(self._left + shift.real - self._side / 2, 0, self._side)))
        y = round(float(np.clip(self._top + shift.imag - self._side / 2, 0, self._side)))
        x, y = min(x, self._side - self._width), min(y, self._side - self._height)
        keep = self._erase(balls)[y : y + self._height, x : x + self._width] * self._judged
        region = pixels[y : y + self._height, x : x + self._width]
        half = (self._width // 2, self._height // 2)
        body, contrast = balls.body_grey, balls.contrast_grey
        kept = cv2.resize(keep.astype(np.float32), half, interpolation=cv2.INTER_AREA)
        grey = cv2.resize((region - np.float32(body)) * keep, half, interpolation=cv2.INTER_AREA)
        material = np.maximum(grey - self._edge * contrast * kept, 0) / contrast
        fill = cv2.blur(material, (self._ball, self._ball)) * self._per_material
        grey = np.minimum(grey, self._edge * contrast)
        box = (self._local, self._local)
        local = np.asarray(cv2.blur(grey, box) / np.maximum(cv2.blur(kept, box), 0.1), np.float32)
        residual = grey - local * kept
        residual -= residual.sum(axis=0) / np.maximum(kept.sum(axis=0), 1) * kept
        return Body(fill, self._lines(residual), self._spots(residual, local), (x, y))

    def _erase(self, balls: Balls) -> Pixels:
        keep = np.ones((self._side, self._side), np.uint8)
        x = np.clip(np.rint(balls.centre.real).astype(np.intp), *self._within)
        y = np.clip(np.rint(balls.centre.imag).astype(np.intp), *self._within)
        keep.reshape(-1)[(y * self._side + x)[:, None] + self._disc] = 0
        return keep

    def _lines(self, residual: Floats) -> Floats:
        """Largest mean over a line in any direction, bright or dark, over its limit."""
        strongest = np.zeros_like(residual)
        for kernel in self._kernels:
            answer = cv2.filter2D(residual, cv2.CV_32F, kernel)
            strongest = np.maximum(strongest, np.abs(np.asarray(answer, np.float32)))
        return np.asarray(strongest * self.per_line, np.float32)

    def _spots(self, residual: Floats, local: Floats) -> Floats:
        """
        Spots of about 5 px in the residual, and broad ones in the local mean.

        The local mean is compared with the usual one of its columns, which carry the window's
        texture; its first and last rows see the body's rim and do not count.
        """
        small = np.abs(cv2.GaussianBlur(residual, SPOT, 0)) * self._per_spot
        coarse = local[SPOT_STEP // 2 :: SPOT_STEP, SPOT_STEP // 2 :: SPOT_STEP]
        broad = np.abs(coarse - np.median(coarse, axis=0)) / self._stain_grey
        broad[[0, -1]] = 0
        size = (small.shape[1], small.shape[0])
        spread = cv2.resize(broad.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
        return np.asarray(np.maximum(small, spread), np.float32)


def _line(angle: float) -> Floats:
    """A line of mean weight through the middle of a square."""
    kernel = np.zeros((LINE, LINE), np.float32)
    middle, reach = LINE // 2, LINE / 2
    step = np.linspace(-reach, reach, 4 * LINE)
    x = np.clip(np.rint(middle + step * np.cos(angle)), 0, LINE - 1).astype(int)
    y = np.clip(np.rint(middle + step * np.sin(angle)), 0, LINE - 1).astype(int)
    kernel[y, x] = 1
    return np.asarray(kernel / kernel.sum(), np.float32)
