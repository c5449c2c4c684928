"""
Parts that repeat at a pitch: balls, pins, pads, found by autocorrelation.

The pitch is the first lag at which the slopes of the picture agree with themselves; the parts lie
where the picture agrees with itself one pitch away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.records import Box, Pixels

MIN_PITCH_PX = 6
MIN_REPEATS = 6
"""Parts that a block needs in all; letters of a print come four times at a pitch by chance."""
PEAK = 0.3
"""Autocorrelation at the pitch, of its value at no lag; parts may cover but half the picture."""
AGAIN = 0.35
"""The same at twice the pitch, of that at the pitch: three columns give half, a pair of edges none."""
AGREES = 0.6
"""Local correlation with the picture one pitch away."""
ENERGY = 0.35
"""Share of the strong slopes (their 98th percentile) that a px of a part has."""


@dataclass(frozen=True, slots=True)
class Block:
    """A rectangle of equal parts: its box in px, and how many rows and columns of them."""

    box: Box
    rows: int
    columns: int


def find_blocks(picture: Pixels) -> list[Block]:
    """Blocks of repeated parts in an upright picture, uint8 grey, in reading order."""
    slopes = _slopes(picture)
    across = _pitch(slopes[0], axis=1)
    down = _pitch(slopes[1], axis=0)
    if not across and not down:
        return []
    # Of parts along one axis only the slopes along it tell: the body's long edge agrees anywhere.
    strength = np.hypot(slopes[0] if across else 0, slopes[1] if down else 0)
    strong = strength > ENERGY * np.percentile(strength, 98)
    parts = strong.copy()
    if across:
        parts &= _agrees(picture, (0, across), down or across)
    if down:
        parts &= _agrees(picture, (down, 0), across or down)
    blocks = [_block(box, across, down) for box in _boxes(parts, across or down, down or across)]
    kept = [_inside(b, picture) for b in blocks if b and b.rows * b.columns >= MIN_REPEATS]
    return sorted(kept, key=lambda block: (block.box[1] // 8, block.box[0]))


def _slopes(picture: Pixels) -> NDArray[np.float32]:
    """Along x and along y, shape (2, h, w); a line along an axis has no slope along it."""
    smooth = cv2.GaussianBlur(picture, (3, 3), 0)
    planes = [cv2.Sobel(smooth, cv2.CV_32F, *axis, ksize=3) for axis in ((1, 0), (0, 1))]
    return np.stack(planes).astype(np.float32)


def _pitch(slope: NDArray[np.float32], axis: int) -> float:
    """The first strong lag along an axis that comes again at its double, px; 0 for none."""
    lines = slope if axis == 1 else slope.T
    length = lines.shape[1]
    spectrum = np.fft.rfft(lines, 2 * length, axis=1)
    power = np.fft.irfft((np.abs(spectrum) ** 2).sum(axis=0))[:length]
    if power[0] <= 0:
        return 0.0
    likeness = power / power[0]
    for lag in range(MIN_PITCH_PX, length // 2 - 1):
        height = likeness[lag]
        if height < PEAK or height < likeness[lag - MIN_PITCH_PX // 2 : lag + 4].max():
            continue
        double = likeness[2 * lag - 1 : min(2 * lag + 2, length)]
        if double.max(initial=0.0) >= AGAIN * height:
            bend = likeness[lag - 1] - 2 * height + likeness[lag + 1]
            return float(lag + 0.5 * (likeness[lag - 1] - likeness[lag + 1]) / min(bend, -1e-9))
    return 0.0


def _agrees(picture: Pixels, lag: tuple[float, float], window: float) -> NDArray[np.bool_]:
    """Where the picture looks as it does one lag further, or one before."""
    side = max(round(window) | 1, 5)
    image = picture.astype(np.float32)
    height, width = picture.shape
    agrees = np.zeros(picture.shape, bool)
    for sign in (-1, 1):
        shift = np.array([[1, 0, sign * lag[1]], [0, 1, sign * lag[0]]], np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved = np.asarray(cv2.warpAffine(image, shift, (width, height), flags=flags), np.float32)
        agrees |= _local_correlation(image, moved, side) > AGREES
    return agrees


def _local_correlation(
    one: NDArray[np.float32], two: NDArray[np.float32], side: int
) -> NDArray[np.float32]:
    """Correlation within a window of `side` px around each px."""

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.blur(values, (side, side)), np.float32)

    m1, m2 = mean(one), mean(two)
    both = mean(one * two) - m1 * m2
    spread = np.maximum(mean(one * one) - m1 * m1, 1) * np.maximum(mean(two * two) - m2 * m2, 1)
    return np.asarray(both / np.sqrt(spread), np.float32)


def _boxes(parts: NDArray[np.bool_], across: float, down: float) -> list[Box]:
    """Boxes around parts less than a pitch apart."""
    mask = parts.astype(np.uint8)
    kernel = np.ones((round(down) | 1, round(across) | 1), np.uint8)
    joined = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, kernel, borderType=cv2.BORDER_CONSTANT)
    count, labels = cv2.connectedComponents(joined)
    boxes = []
    for label in range(1, count):
        x, y, width, height = cv2.boundingRect(((labels == label) & parts).astype(np.uint8))
        if width * height > 0:
            boxes.append((x, y, width, height))
    return boxes


def _block(box: Box, across: float, down: float) -> Block | None:
    """Whole pitches around the parts' middle; None for a single part."""
    x, y, width, height = box
    columns, wide = _whole(width, across)
    rows, high = _whole(height, down)
    if rows * columns < 2:
        return None
    left, top = round(x + (width - wide) / 2), round(y + (height - high) / 2)
    return Block((left, top, round(wide), round(high)), rows, columns)


def _whole(extent: int, pitch: float) -> tuple[int, float]:
    """How many parts an extent holds, and what they take; one part and a little room without a pitch."""
    if not pitch:
        return 1, extent * 1.2
    count = max(math.ceil(extent / pitch - 0.15), 1)
    return count, count * pitch


def _inside(block: Block, picture: Pixels) -> Block:
    """Less what leaves the picture; the cells then differ by as much."""
    x, y, width, height = block.box
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + width, picture.shape[1]), min(y + height, picture.shape[0])
    return Block((left, top, right - left, bottom - top), block.rows, block.columns)
