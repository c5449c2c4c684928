"""
The renderer: parts of a 78-ball DRAM package, drawn, so that no photograph is needed.

Two blocks of 3 x 13 bright balls on a near-black body with a window of vertical lines, a pin-1
mark, bright reflections left and right, a grey tray.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.simulator.parts import Floats, Parts, Patch

SIDE_PX = 256
COLUMNS_PX = (60.5, 77.0, 93.5, 160.0, 176.5, 193.0)
FIRST_ROW_PX, ROW_PITCH_PX, ROWS = 28.5, 16.65, 13
RADIUS_PX = 4.85
BODY = (30, 13, 196, 228)
"""x, y, width, height in px."""
BALLS = 24


@lru_cache(maxsize=8)
def parts(scale: int = 1, seed: int = 7) -> Parts:
    """The parts at `scale` times 256 px; texture and balls come from `seed`."""
    rng = np.random.default_rng(seed)
    radius = RADIUS_PX * scale
    x, y, width, height = (v * scale for v in BODY)
    rows = FIRST_ROW_PX + ROW_PITCH_PX * np.arange(ROWS)
    centres = np.array([(cx, cy) for cy in rows for cx in COLUMNS_PX]) * scale
    inset = 10 * scale
    return Parts(
        body=_body(scale, rng),
        centres=centres,
        patches=tuple(_ball(radius, rng) for _ in range(BALLS)),
        radius_px=radius,
        area=(x + inset, y + inset, width - 2 * inset, height - 2 * inset),
    )


def _body(scale: int, rng: np.random.Generator) -> Floats:
    side = SIDE_PX * scale
    image = 200 + 12 * _cloud(side, side // 6, rng)
    x, y, width, height = (v * scale for v in BODY)
    for left, level in ((x - 7 * scale, 252.0), (x + width, 252.0)):
        image[y + 14 * scale : y + height - 6 * scale, left : left + 7 * scale] = level
    dark = 40 + 3 * _cloud(side, 2, rng) + 2 * _cloud(side, 12, rng)
    _window(dark, scale, rng)
    corner = np.array([(x + 3, y + 3), (x + 9, y + 3), (x + 3, y + 9)]) * 1.0
    corner = (corner - (x, y)) * scale + (x, y)
    cv2.fillPoly(dark, [np.round(corner).astype(np.int32)], 225.0)
    image[y : y + height, x : x + width] = dark[y : y + height, x : x + width]
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 0.55 * scale)
    return np.asarray(smooth, np.float32)


def _window(dark: NDArray[np.float64], scale: int, rng: np.random.Generator) -> None:
    """The vertical lines of the bond window in the middle of the body."""
    y, height = BODY[1] * scale, BODY[3] * scale
    rows = slice(y + 2 * scale, y + height - 2 * scale)
    for line_x, level in ((117, 58), (120, 50), (123, 64), (128, 54), (133, 60), (136, 50)):
        shade = level + 6 * rng.standard_normal(rows.stop - rows.start)
        dark[rows, line_x * scale : (line_x + 1) * scale] = shade[:, None]


def _cloud(side: int, cell: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Smooth random texture with unit variance and patches of about `cell` px."""
    small = rng.standard_normal((side // max(cell, 1) + 2,) * 2)
    return np.asarray(cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC))


def _ball(radius: float, rng: np.random.Generator) -> Patch:
    """A bright ball, slightly out of round, with a darker dimple now and then."""
    reach = int(np.ceil(radius)) + 2
    axis = np.arange(-reach, reach + 1)
    dx, dy = np.meshgrid(axis, axis)
    angle = np.arctan2(dy, dx)
    bumps = 0.03 * radius * np.cos(rng.integers(3, 6) * angle + rng.uniform(0, 2 * np.pi))
    alpha = np.clip(radius + bumps - np.hypot(dx, dy) + 0.5, 0, 1).astype(np.float32)
    light = np.full(alpha.shape, 250.0)
    if rng.random() < 0.3:
        place = rng.uniform(-0.4, 0.4, 2) * radius
        dimple = np.exp(-((dx - place[0]) ** 2 + (dy - place[1]) ** 2) / (2 * (0.18 * radius) ** 2))
        light -= rng.uniform(40, 110) * dimple
    return Patch((light * alpha).astype(np.float32), alpha)
