"""
Defects of a ball grid, by name: changes of the layout of balls, or marks on the drawn image.

Sizes are those of a 256x256 image with 9 px balls; all draws come from the generator given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.errors import Misuse
from edge_inspector.records import Box

GOOD = "good"
Floats = NDArray[np.float32]
Mark = Callable[[Floats, Floats], Floats]
"""Marks a drawn image; the second argument is the image without the defect."""
SUBPIXEL_BITS = 4


@dataclass(frozen=True, slots=True)
class Layout:
    """The balls of one unit: places (n, 2) in px, relative sizes, and which patch each shows."""

    centres: NDArray[np.float64]
    scales: NDArray[np.float64]
    patches: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scene:
    """What a defect may look at: the layout, where balls belong, the free area, the ball radius."""

    layout: Layout
    nominal: NDArray[np.float64]
    area: Box
    radius_px: float


def apply(kind: str, scene: Scene, rng: np.random.Generator) -> tuple[Layout, Mark]:
    """The marred layout and the mark to draw; raises `Misuse` for an unknown kind."""
    if kind not in DEFECTS:
        raise Misuse(f"unknown defect '{kind}'; known: {', '.join(DEFECTS)}")
    return DEFECTS[kind](scene, rng)


def _unmarked(image: Floats, plain: Floats) -> Floats:
    return image


def _missing(scene: Scene, rng: np.random.Generator) -> tuple[Layout, Mark]:
    layout = scene.layout
    gone = int(rng.integers(len(layout.centres)))
    return Layout(
        np.delete(layout.centres, gone, 0),
        np.delete(layout.scales, gone),
        np.delete(layout.patches, gone),
    ), _unmarked


def _extra(scene: Scene, rng: np.random.Generator) -> tuple[Layout, Mark]:
    layout = scene.layout
    place = _free_place(scene, rng, 2.4 * scene.radius_px)
    return Layout(
        np.vstack([layout.centres, place]),
        np.append(layout.scales, rng.uniform(0.8, 1.1)),
        np.append(layout.patches, layout.patches[0]),
    ), _unmarked


def _moved(low_px: float, high_px: float) -> Callable[..., tuple[Layout, Mark]]:
    def move(scene: Scene, rng: np.random.Generator) -> tuple[Layout, Mark]:
        centres = scene.layout.centres.copy()
        angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(low_px, high_px)
        which = int(rng.integers(len(centres)))
        step = distance * np.array([np.cos(angle), np.sin(angle)])
        centres[which] = scene.nominal[which] + step
        return replace(scene.layout, centres=centres), _unmarked

    return move


def _resized(low: float, high: float) -> Callable[..., tuple[Layout, Mark]]:
    def resize(scene: Scene, rng: np.random.Generator) -> tuple[Layout, Mark]:
        scales = scene.layout.scales.copy()
        which = int(rng.integers(len(scales)))
        scales[which] = 1 + rng.choice([-1.0, 1.0]) * rng.uniform(low, high)
        return replace(scene.layout, scales=scales), _unmarked

    return resize


def _bridge(scene: Scene, rng: np.random.Generator) -> tuple[Layout, Mark]:
    """Solder between a ball and its nearest neighbour."""
    centres = scene.layout.centres
    one = centres[int(rng.integers(len(centres)))]
    distances = np.hypot(*(centres - one).T)
    other = centres[int(np.argsort(distances)[1])]
    level, width = float(rng.uniform(150, 230)), int(rng.integers(2, 4))

    def mark(image: Floats, plain: Floats) -> Floats:
        solder = _line(image.shape, one, other, width) * np.float32(level)
        return np.asarray(np.maximum(image, solder), np.float32)

    return scene.layout, mark


def _scratch(scene: Scene, rng: np.random.Generator) -> tuple[Layout, Mark]:
    """One px wide, 35 to 80 grey levels brighter than the body; balls are not scratched."""
    start = _place(scene, rng)
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(25, 70)
    way = length * np.array([np.cos(angle), np.sin(angle)])
    x, y, width, height = scene.area
    low, high = np.array((x, y)), np.array((x + width, y + height))
    inside = (start + way >= low) & (start + way <= high)
    end = np.clip(start + np.where(inside, way, -way), low, high)
    contrast = np.float32(rng.uniform(35, 80))

    def mark(image: Floats, plain: Floats) -> Floats:
        return image + _line(image.shape, start, end, 1) * contrast * (image < 120)

    return scene.layout, mark


def _stain(scene: Scene, rng: np.random.Generator) -> tuple[Layout, Mark]:
    """A soft spot of 25 grey levels, 4 to 8 px across, between the balls."""
    place = _free_place(scene, rng, 1.2 * scene.radius_px)
    sigma = rng.uniform(4, 8) / 2.355
    contrast = np.float32(25)

    def mark(image: Floats, plain: Floats) -> Floats:
        rows, columns = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
        squared = (columns - place[0]) ** 2 + (rows - place[1]) ** 2
        spot = np.exp(-squared / np.float32(2 * sigma**2))
        return np.asarray(image + spot * contrast * (image < 150), np.float32)

    return scene.layout, mark


DEFECTS: dict[str, Callable[[Scene, np.random.Generator], tuple[Layout, Mark]]] = {
    "missing": _missing,
    "extra": _extra,
    "pitch": _moved(3.5, 7.0),
    "size": _resized(0.30, 0.60),
    "bridge": _bridge,
    "scratch": _scratch,
    "stain": _stain,
    "small_pitch": _moved(2.2, 3.0),
    "small_size": _resized(0.17, 0.25),
}


def _place(scene: Scene, rng: np.random.Generator) -> NDArray[np.float64]:
    x, y, width, height = scene.area
    return np.array([x + rng.uniform(0, width), y + rng.uniform(0, height)])


def _free_place(scene: Scene, rng: np.random.Generator, clear_px: float) -> NDArray[np.float64]:
    """A place on the body with no ball's centre within `clear_px`; the clearest of 200 draws."""
    draws = np.array([_place(scene, rng) for _ in range(200)])
    gaps = np.hypot(*(draws[:, None] - scene.layout.centres[None]).transpose(2, 0, 1)).min(1)
    return np.asarray(
        draws[np.argmax(gaps >= clear_px)] if gaps.max() >= clear_px else draws[np.argmax(gaps)]
    )


def _line(
    shape: tuple[int, ...], start: NDArray[np.float64], end: NDArray[np.float64], width: int
) -> Floats:
    """An anti-aliased line, 0..1."""
    canvas = np.zeros(shape, np.uint8)
    ends = [[round(float(v) * 2**SUBPIXEL_BITS) for v in point] for point in (start, end)]
    cv2.line(canvas, ends[0], ends[1], 255, width, cv2.LINE_AA, SUBPIXEL_BITS)
    return canvas.astype(np.float32) / np.float32(255)
