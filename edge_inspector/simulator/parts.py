"""
What a package is composed of, and one image composed of it: body, balls, variation, a defect.

Both ways of getting parts end here: the renderer draws them, the synthesiser cuts them out of good
photographs (BGA paper, "Generating Abnormal Data").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.records import Box, Pixels
from edge_inspector.simulator.defects import GOOD, Layout, Scene, apply

Floats = NDArray[np.float32]
REACH = 3
"""Room in px around a ball's patch for growth and sub-pixel placing."""
VISIBLE = 3.0
"""Grey levels from which a change belongs to the defect's mask."""


@dataclass(frozen=True, slots=True)
class Variation:
    """How good units differ, as standard deviations; draws are cut off at three of them."""

    jitter_px: float = 0.55
    size: float = 0.03
    shift_px: float = 0.5
    rotation_deg: float = 0.25
    gain: float = 0.02
    noise: float = 2.0


NORMAL = Variation()


@dataclass(frozen=True, slots=True)
class Patch:
    """One ball: its light times its opacity, and its opacity, float32 (2r+1, 2r+1) each."""

    light: Floats
    alpha: Floats


@dataclass(frozen=True, slots=True)
class Parts:
    """A body without balls, grey 0..255, where balls belong, and balls to choose from."""

    body: Floats
    centres: NDArray[np.float64]
    """(n, 2), x and y in px."""
    patches: tuple[Patch, ...]
    radius_px: float
    area: Box
    """Where on the body something may lie: x, y, width, height in px."""


@dataclass(frozen=True, slots=True)
class Composed:
    """An image with its ground truth: uint8 (h, w); mask 255 where the defect shows."""

    pixels: Pixels
    label: str
    box: Box | None
    mask: Pixels


def compose(
    parts: Parts, rng: np.random.Generator, variation: Variation = NORMAL, defect: str = GOOD
) -> Composed:
    """
    One unit; outside its mask it is the unit that the same generator makes without `defect`.

    Raises `Misuse` for an unknown defect.
    """
    layout = _layout(parts, rng, variation)
    pose, gain, noise = _exposure(parts.body.shape, rng, variation)
    plain = _draw(parts, layout)
    shown, shadow = plain, np.zeros(plain.shape, np.float32)
    if defect != GOOD:
        scene = Scene(layout, parts.centres, parts.area, parts.radius_px)
        marred, marks = apply(defect, scene, rng)
        shown = marks(_draw(parts, marred), plain)
        changed = np.abs(shown - plain) > VISIBLE
        shadow = _moved(changed.astype(np.float32), pose, cv2.BORDER_CONSTANT)
    mask = np.where(shadow > 0, np.uint8(255), np.uint8(0))
    lit = _moved(shown, pose, cv2.BORDER_REPLICATE) * gain + noise
    pixels = np.clip(np.rint(lit), 0, 255).astype(np.uint8)
    x, y, width, height = cv2.boundingRect(mask)
    return Composed(pixels, defect, (x, y, width, height) if width else None, mask)


def _layout(parts: Parts, rng: np.random.Generator, variation: Variation) -> Layout:
    count = len(parts.centres)
    return Layout(
        centres=parts.centres + _cut_normal(rng, variation.jitter_px, (count, 2)),
        scales=1 + _cut_normal(rng, variation.size, count),
        patches=rng.integers(len(parts.patches), size=count),
    )


def _exposure(
    shape: tuple[int, ...], rng: np.random.Generator, variation: Variation
) -> tuple[Floats, np.float32, Floats]:
    """Pose as a 2x3 matrix, gain and additive noise."""
    height, width = shape
    angle = float(_cut_normal(rng, variation.rotation_deg, 1)[0])
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
    matrix = np.asarray(turn, np.float64)
    matrix[:, 2] += _cut_normal(rng, variation.shift_px, 2)
    gain = np.float32(1 + _cut_normal(rng, variation.gain, 1)[0])
    bank = _noise_bank(height * width)
    start = int(rng.integers(len(bank) - height * width))
    noise = bank[start : start + height * width].reshape(shape) * np.float32(variation.noise)
    return matrix.astype(np.float32), gain, noise


@lru_cache(maxsize=4)
def _noise_bank(pixels: int) -> Floats:
    """Normal noise to take slices of: drawing it anew costs more than the rest of an image."""
    return np.random.default_rng(pixels).standard_normal(4 * pixels + 1, dtype=np.float32)


def _cut_normal(
    rng: np.random.Generator, sigma: float, size: int | tuple[int, ...]
) -> NDArray[np.float64]:
    return np.clip(rng.normal(0.0, 1.0, size), -3, 3) * sigma


def _moved(image: Floats, pose: Floats, border: int) -> Floats:
    size = (image.shape[1], image.shape[0])
    moved = cv2.warpAffine(image, pose, size, flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(moved, np.float32)


def _draw(parts: Parts, layout: Layout) -> Floats:
    image = parts.body.copy()
    for (x, y), scale, patch in zip(layout.centres, layout.scales, layout.patches, strict=True):
        _stamp(image, parts.patches[patch], float(x), float(y), float(scale))
    return image


def _stamp(image: Floats, patch: Patch, x: float, y: float, scale: float) -> None:
    """Lay a ball on the image at a sub-pixel place, as much of it as lies inside."""
    radius = patch.alpha.shape[0] // 2
    reach = int(np.ceil(radius * max(scale, 1.0))) + REACH
    left, top, side = round(x) - reach, round(y) - reach, 2 * reach + 1
    shift_x, shift_y = x - left - scale * radius, y - top - scale * radius
    matrix = np.array([[scale, 0, shift_x], [0, scale, shift_y]], np.float32)
    alpha = cv2.warpAffine(patch.alpha, matrix, (side, side), flags=cv2.INTER_LINEAR)
    light = cv2.warpAffine(patch.light, matrix, (side, side), flags=cv2.INTER_LINEAR)
    window = image[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
    inside = np.s_[max(-top, 0) :, max(-left, 0) :]
    height, width = window.shape
    window *= 1 - alpha[inside][:height, :width]
    window += light[inside][:height, :width]
