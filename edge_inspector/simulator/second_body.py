"""
Bodies of the second generator: painted from distances and spectra on a canvas of half px.

The renderer's body shares only its measures with the first one's; a photograph's is that of
`segment`, enlarged, with the rectangle that the package fills.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.records import Box, Pixels
from edge_inspector.simulator import package
from edge_inspector.simulator.parts import Parts
from edge_inspector.simulator.second_balls import FINE, Doubles, Floats

FIELD_SIDE = 1536
TRAY, SHINE, DARK, BALL = 198.0, 252.0, 37.0, 238.0
LINES_PX = ((116.5, 17), (119.5, 11), (123.5, 24), (128.0, 14), (133.5, 21), (136.5, 10))
"""Bond window: x and grey levels above the body."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A body without balls on a canvas of half px, and where what belongs; px of the image."""

    canvas: Pixels
    centres: Doubles
    radius_px: float
    area: Box
    outline: Box
    """The package: x, y, width, height."""
    level: float
    """Grey level of a ball's flank."""


def photographed(parts: Parts) -> Stage:
    """A stage of what `segment` found in good photographs."""
    height, width = parts.body.shape
    size = (FINE * width, FINE * height)
    canvas = cv2.resize(parts.body, size, interpolation=cv2.INTER_CUBIC)
    grey = np.clip(parts.body, 0, 255).astype(np.uint8)
    _, dark = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)
    _, _, stats, _ = cv2.connectedComponentsWithStats(dark)
    x, y, across, down, _ = stats[1:][stats[1:, cv2.CC_STAT_AREA].argmax()].tolist()
    cores = [float(patch.light.max()) for patch in parts.patches]
    return Stage(
        _levels(canvas),
        parts.centres,
        parts.radius_px,
        parts.area,
        (x, y, across, down),
        min(float(np.median(cores)), BALL),
    )


@lru_cache(maxsize=1)
def rendered() -> Stage:
    """The stage that needs no photograph: a 78-ball DRAM package."""
    side = package.SIDE_PX
    axis = (np.arange(FINE * side) - (FINE - 1) / 2) / FINE
    x, y = np.meshgrid(axis, axis)
    left, top, width, height = package.BODY
    canvas = TRAY + 7 * field(11, 2.2)[: FINE * side, : FINE * side].astype(np.float64)
    for middle in (left - 3.5, left + width + 3.0):
        shine = _inside(np.abs(x - middle) - 3.2) * _inside(np.abs(y - top - height / 2 - 4) - 104)
        canvas += shine * (SHINE - canvas)
    away = _from_rectangle(x - left - width / 2, y - top - height / 2, width / 2, height / 2)
    skin = DARK + _window(x, y) + 9 * np.exp(-(((away + 1.3) / 0.6) ** 2))
    skin += 1.6 * (np.cos(2 * np.pi * x / 4.1) ** 16 + np.cos(2 * np.pi * y / 5.3) ** 16)
    mark = _inside(np.maximum(x + y - left - top - 13, np.maximum(left + 3 - x, top + 3 - y)))
    skin += mark * (222 - skin)
    canvas += _inside(away) * (skin - canvas)
    rows = package.FIRST_ROW_PX + package.ROW_PITCH_PX * np.arange(package.ROWS)
    return Stage(
        _levels(canvas),
        np.array([(cx, cy) for cy in rows for cx in package.COLUMNS_PX]),
        package.RADIUS_PX,
        (left + 10, top + 10, width - 20, height - 20),
        package.BODY,
        BALL,
    )


@lru_cache(maxsize=4)
def field(seed: int, slope: float) -> Floats:
    """A texture of unit variance whose amplitude falls with frequency to the power of `slope`."""
    rng = np.random.default_rng(seed)
    wave = np.fft.fftfreq(FIELD_SIDE)[:, None], np.fft.rfftfreq(FIELD_SIDE)[None]
    frequency = np.hypot(*wave)
    spectrum = np.fft.rfft2(rng.standard_normal((FIELD_SIDE, FIELD_SIDE)))
    texture = np.fft.irfft2(spectrum / (frequency + 0.004) ** slope, s=(FIELD_SIDE, FIELD_SIDE))
    return np.asarray((texture - texture.mean()) / texture.std(), np.float32)


def _levels(canvas: NDArray[Any]) -> Pixels:
    return np.asarray(np.clip(np.rint(canvas), 0, 255), np.uint8)


def _inside(distance: Doubles) -> Doubles:
    """1 where a distance is negative, over half a px to 0."""
    return np.clip(0.5 - distance * FINE, 0, 1)


def _from_rectangle(x: Doubles, y: Doubles, half_x: float, half_y: float) -> Doubles:
    """Distance to a rectangle about 0 with corners of 1.5 px radius, negative inside."""
    bend = 1.5
    dx, dy = np.abs(x) - half_x + bend, np.abs(y) - half_y + bend
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    return np.asarray(outside + np.minimum(np.maximum(dx, dy), 0) - bend)


def _window(x: Doubles, y: Doubles) -> Doubles:
    """The etched lines of the bond window, each broken along its length."""
    rough = field(12, 0.6)
    lines = np.zeros_like(x)
    for number, (place, level) in enumerate(LINES_PX):
        along = 1 + 0.5 * rough[number * 40, : len(y)].astype(np.float64)[:, None]
        lines += level * along * np.exp(-(((x - place) / 0.8) ** 2))
    top, height = package.BODY[1], package.BODY[3]
    return np.asarray(lines * _inside(np.abs(y - top - height / 2) - height / 2 + 3))
