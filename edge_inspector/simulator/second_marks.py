"""What the second generator paints beside balls: each function gives a painter of the canvas."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.records import Box, Pixels
from edge_inspector.simulator.second_balls import FINE, Doubles, Floats
from edge_inspector.simulator.second_body import FIELD_SIDE, field

Paint = Callable[[Floats], None]
SUBPIXEL_BITS = 4


def ring(place: Doubles, radius: float, width: float, contrast: float) -> Paint:
    """A soft ring that brightens."""

    def paint(canvas: Floats) -> None:
        window, x, y = _around(canvas, place, radius + 3 * width)
        away = (np.hypot(x, y) - radius) / np.float32(width)
        window += np.float32(contrast) * np.exp(-away * away)

    return paint


def spot(place: Doubles, across: float, contrast: float) -> Paint:
    """A flat-topped soft spot, `across` px wide at half its height."""
    half = np.float32(across / 2 / np.log(2) ** 0.25)

    def paint(canvas: Floats) -> None:
        window, x, y = _around(canvas, place, 1.2 * across)
        squared = (x * x + y * y) / half**2
        window += np.float32(contrast) * np.exp(-squared * squared)

    return paint


def neck(ends: Doubles, half_width: float, radius: float, level: float) -> Paint:
    """A filled shape between two places that widens towards them like a drawn drop."""
    length = float(np.linalg.norm(ends[1] - ends[0]))

    def paint(canvas: Floats) -> None:
        window, x, y = _around(canvas, ends.mean(axis=0), length / 2 + radius)
        along, aside = _axes(x, y, (ends[1] - ends[0]) / length)
        share = np.minimum(np.abs(along) / np.float32(length / 2), 1)
        half = np.float32(half_width) + np.float32(0.8 * radius - half_width) * share**4
        cover = np.clip((half - np.abs(aside)) * FINE + np.float32(0.5), 0, 1)
        cover *= np.abs(along) <= length / 2
        window += cover * (np.float32(level) - window)

    return paint


def streak(start: Doubles, way: Doubles, half_width: float, level: float) -> Paint:
    """Light that fades along `way` and to both sides of it."""
    length = float(np.linalg.norm(way))

    def paint(canvas: Floats) -> None:
        window, x, y = _around(canvas, start, length + 3 * half_width)
        along, aside = _axes(x, y, way / length)
        share = np.clip(along / np.float32(length), 0, 1)
        cover = np.exp(-((aside / np.float32(half_width)) ** 2)) * (1 - share) ** np.float32(0.7)
        cover *= along > 0
        window += cover * np.maximum(np.float32(level) - window, 0)

    return paint


def pit(place: Doubles, slope: Doubles, contrast: float) -> Paint:
    """Dark and bright halves side by side; `slope` has the length of the pit's radius."""
    radius = float(np.linalg.norm(slope))

    def paint(canvas: Floats) -> None:
        window, x, y = _around(canvas, place, 4 * radius)
        along, aside = _axes(x, y, slope / radius)
        squared = (along**2 + aside**2) / np.float32(radius**2)
        window += np.float32(contrast / radius) * along * np.exp(-squared / 2)

    return paint


def blotch(
    place: Doubles, radius: float, inner: float, rim: float, rng: np.random.Generator
) -> Paint:
    """A lobed patch, `inner` grey levels brighter and `rim` on its edge."""
    sizes = rng.uniform(-1, 1, (4, 2)) * np.array([0.16, 0.12, 0.08, 0.06])[:, None]

    def paint(canvas: Floats) -> None:
        window, x, y = _around(canvas, place, 1.9 * radius)
        angle = np.arctan2(y, x)
        bound = 1 + sum(
            a * np.cos(number * angle) + b * np.sin(number * angle)
            for number, (a, b) in enumerate(sizes.tolist(), start=2)
        )
        away = np.hypot(x, y) / (np.float32(radius) * bound)
        edge = (away - 1) * np.float32(radius) / np.float32(0.9)
        window += np.float32(inner) * np.clip(0.5 - edge, 0, 1)
        window += np.float32(rim) * np.exp(-edge * edge)

    return paint


def scratch(points: Doubles, contrast: float, rng: np.random.Generator) -> Paint:
    """A px wide and brighter, rising and falling along its way."""
    rise = np.minimum(np.linspace(0, 8, len(points)), 1)
    strength = contrast * np.minimum(rise, rise[::-1]) * rng.uniform(0.8, 1.0, len(points))
    strength[len(points) // 2] = contrast

    def paint(canvas: Floats) -> None:
        light = np.zeros(canvas.shape, np.uint8)
        for start, end, level in zip(points[:-1], points[1:], strength[1:], strict=True):
            _stroke(light, np.array([start, end]), round(float(level)), FINE)
        canvas += light.astype(np.float32)

    return paint


def crack(ways: Sequence[Doubles], outline: Box, keep: float) -> Paint:
    """Lines that leave only a share of the light, within the body."""
    x, y, width, height = (FINE * side for side in outline)

    def paint(canvas: Floats) -> None:
        cover = np.zeros(canvas.shape, np.uint8)
        for number, way in enumerate(ways):
            _stroke(cover, way, 255, FINE if number == 0 else 1)
        within = np.s_[y + 2 : y + height - 2, x + 2 : x + width - 2]
        canvas[within] *= 1 - cover[within] * np.float32((1 - keep) / 255)

    return paint


def hair(points: Doubles, level: float, width: float, opacity: float) -> Paint:
    """A line that hides what lies under it."""

    def paint(canvas: Floats) -> None:
        cover = np.zeros(canvas.shape, np.uint8)
        _stroke(cover, points, 255, round(FINE * width))
        canvas += cover * np.float32(opacity / 255) * (np.float32(level) - canvas)

    return paint


def fracture(shape: Doubles, level: float, rng: np.random.Generator) -> Paint:
    """A polygon of rough stone."""
    row, column = rng.integers(0, FIELD_SIDE // 2, 2)

    def paint(canvas: Floats) -> None:
        cover = np.zeros(canvas.shape, np.uint8)
        cv2.fillPoly(cover, [_fine(shape)], 255, cv2.LINE_AA, SUBPIXEL_BITS)
        left, top, width, height = cv2.boundingRect(cover)
        window = np.s_[top : top + height, left : left + width]
        rough = field(22, 1.0)[row : row + height, column : column + width]
        stone = np.float32(level) + np.float32(22) * rough
        canvas[window] += cover[window] * np.float32(1 / 255) * (stone - canvas[window])

    return paint


def bent(
    start: Doubles, heading: Doubles, length: float, bend: float, rng: np.random.Generator
) -> Doubles:
    """A way of steps of 1 px that turns by `bend` rad each, and wavers."""
    steps = max(int(length), 2)
    turns = bend * np.linspace(0.4, 1.6, steps) + 0.3 * abs(bend) * rng.standard_normal(steps)
    angles = np.arctan2(heading[1], heading[0]) + np.cumsum(turns)
    way = np.cumsum(np.column_stack([np.cos(angles), np.sin(angles)]), axis=0)
    return np.asarray(np.vstack([np.zeros(2), way]) + start)


def kinked(start: Doubles, rng: np.random.Generator, length: float) -> Doubles:
    """A way of straight pieces of 3 to 8 px with a kink at each joint."""
    pieces = rng.uniform(3, 8, max(round(length / 5.5), 2))
    angles = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.uniform(-0.8, 0.8, len(pieces)))
    way = np.cumsum(pieces[:, None] * np.column_stack([np.cos(angles), np.sin(angles)]), axis=0)
    return np.asarray(np.vstack([np.zeros(2), way]) + start)


def _around(canvas: Floats, place: Doubles, reach: float) -> tuple[Floats, Floats, Floats]:
    """The canvas within `reach` px of a place, and x and y from it in px of the image."""
    middle = FINE * place + (FINE - 1) / 2
    low = np.maximum(np.floor(middle - FINE * reach).astype(int), 0)
    high = np.maximum(np.ceil(middle + FINE * reach).astype(int) + 1, 0)
    window = canvas[low[1] : high[1], low[0] : high[0]]
    x = ((low[0] + np.arange(window.shape[1]) - middle[0]) / FINE).astype(np.float32)[None]
    y = ((low[1] + np.arange(window.shape[0]) - middle[1]) / FINE).astype(np.float32)[:, None]
    return window, x, y


def _axes(x: Floats, y: Floats, heading: Doubles) -> tuple[Floats, Floats]:
    """Along a heading and across it."""
    cosine, sine = heading.astype(np.float32)
    return np.asarray(x * cosine + y * sine), np.asarray(y * cosine - x * sine)


def _stroke(cover: Pixels, points: Doubles, level: int, width: int) -> None:
    cv2.polylines(cover, [_fine(points)], False, level, max(width, 1), cv2.LINE_AA, SUBPIXEL_BITS)


def _fine(points: Doubles) -> NDArray[np.int32]:
    """Places as whole numbers of the canvas with `SUBPIXEL_BITS` behind the point."""
    fine = (FINE * points + (FINE - 1) / 2) * 2**SUBPIXEL_BITS
    return np.asarray(np.rint(fine), np.int32)
