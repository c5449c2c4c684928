"""
Whether a frame is one that the engine was calibrated for: its light, its focus, its place.

Pure: pixels to measures, measures and limits to a cause in words. The limits are those of good
units (`[quality]` in the recipe); nothing here knows what a good picture looks like.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_inspector.pixels import check, eight_bit, pose_matrix
from edge_inspector.recipe import Measure
from edge_inspector.records import Box, Pixels, Pose

Floats = NDArray[np.float32]
SAMPLES = 128 * 128
"""Larger windows are measured at every k-th px each way, so that about as many remain."""
TILES = 8
DARK, WHITE = 2, 254
"""Grey levels up to which a px is black and from which it is saturated."""
WORDS: dict[Measure, tuple[str, str]] = {
    "saturated": ("darker than good units", "overexposed: too many px are white"),
    "black": ("black is lifted: haze or stray light", "underexposed: too many px are black"),
    "sharpness": ("out of focus or moved while exposed", "sharper or noisier than good units"),
    "mean": ("too dark: lamp, exposure or a cover", "too bright: lamp, exposure or stray light"),
    "tint": ("the light is bluer", "the light is redder"),
    "x_px": ("lies too far to the left", "lies too far to the right"),
    "y_px": ("lies too high", "lies too low"),
    "angle_deg": ("turned clockwise", "turned counter-clockwise"),
    "scale": ("seen too small", "seen too large"),
    "match": ("hardly found: hidden, blurred or another product", "found better than good units"),
    "contrast": ("too flat: light, haze or a dirty lens", "too much contrast: light or exposure"),
}
"""What it means that a measure is too low and too high, those with one cause first."""


def measure(pixels: NDArray[Any], boxes: Sequence[Box]) -> dict[Measure, float]:
    """
    Light and focus of the window around `boxes`, which are in px of the frame.

    Each is measured in 8 x 8 tiles, of which the middle half counts: what is wrong with a unit
    shows in few tiles, what is wrong with a camera in all. `sharpness` is the energy of
    differences over 1 px, diagonally, against that over 2, in the three quarters that have most:
    about one half where edges are steps, one quarter where they are ramps, whatever the contrast.
    """
    left, top = (min(box[axis] for box in boxes) for axis in (0, 1))
    right, bottom = (max(box[axis] + box[axis + 2] for box in boxes) for axis in (0, 1))
    window = check(pixels)[top:bottom, left:right]
    step = max(round(math.sqrt(window.shape[0] * window.shape[1] / SAMPLES)), 1)
    tiles = _tiles(_maps(*_views(window, step)))
    _, _, mean, square, fine, coarse = tiles
    tiles[3] = np.sqrt(np.maximum(square - mean * mean, 0))
    edged = np.argsort(coarse)[len(coarse) // 4 :]
    saturated, black, level, contrast = _middle(tiles[:4]).tolist()
    measured: dict[Measure, float] = {
        "saturated": saturated,
        "black": black,
        "mean": level,
        "contrast": contrast,
        "sharpness": float(_middle(fine[edged] / np.maximum(2 * coarse[edged], 1e-6))),
    }
    if window.ndim == 3:
        measured["tint"] = _tint(window[::step, ::step])
    return measured


def placement(pose: Pose, boxes: Sequence[Box]) -> dict[Measure, float]:
    """Where the aligner found the middle of `boxes`, which are in reference px, and how surely."""
    middles = [(x + width / 2, y + height / 2) for x, y, width, height in boxes]
    middle = np.mean(middles, axis=0)
    matrix = pose_matrix(pose)
    x, y = matrix[:, :2] @ middle + matrix[:, 2] - middle
    return {
        "x_px": float(x),
        "y_px": float(y),
        "angle_deg": pose.angle_deg,
        "scale": pose.scale,
        "match": pose.score,
    }


def cause(
    measured: Mapping[Measure, float], limits: Mapping[Measure, tuple[float, float]]
) -> str | None:
    """The most telling measure beyond its limits, and what else is; None within all."""
    beyond = [
        name
        for name in WORDS
        if name in limits and not limits[name][0] <= measured.get(name, math.nan) <= limits[name][1]
    ]
    if not beyond:
        return None
    name, *others = beyond
    low, high = limits[name]
    value = measured.get(name, math.nan)
    also = f", and {', '.join(others)}" if others else ""
    return (
        f"{name} is {value:.4g}, good units have {low:.4g} to {high:.4g}: "
        f"{WORDS[name][value > high]}{also}"
    )


def _views(window: NDArray[Any], step: int) -> list[Pixels]:
    """Every `step`-th px, and what lies 1 px and 2 px below and to the right; green of colours."""
    plane = window[:, :, 1] if window.ndim == 3 else window
    rows, columns = (max(side - 2, 1) for side in plane.shape)
    views = []
    for move in (0, 1, 2):
        down, right = min(move, plane.shape[0] - rows), min(move, plane.shape[1] - columns)
        view = plane[down : down + rows : step, right : right + columns : step]
        views.append(eight_bit(np.ascontiguousarray(view)))
    return views


def _maps(view: Pixels, near: Pixels, far: Pixels) -> Floats:
    """White and black px, levels and their squares, squared differences: two over 1 px, one over 2."""
    maps = np.empty((7, *view.shape), np.float32)
    white, black, here, square, fine, coarse, onward = maps
    np.greater_equal(view, WHITE, out=white)
    np.less_equal(view, DARK, out=black)
    here[...] = view
    np.multiply(here, here, out=square)
    np.subtract(near, here, out=fine)
    np.subtract(far, here, out=coarse)
    np.subtract(coarse, fine, out=onward)
    maps[4:] *= maps[4:]
    fine += onward
    return maps[:6]


def _tiles(maps: Floats) -> Floats:
    """Means of tiles, (maps, tiles), of `maps` (maps, height, width)."""
    height, width = maps.shape[1:]
    down, across = _mean_of(min(TILES, height), height), _mean_of(min(TILES, width), width)
    return np.asarray(down @ (maps @ across.T)).reshape(len(maps), -1)


def _tint(view: NDArray[Any]) -> float:
    """Red less blue over all light."""
    blue, green, red = _tiles(np.stack([view[:, :, plane] for plane in range(3)], dtype=np.float32))
    return float(_middle((red - blue) / np.maximum(red + green + blue, 1)))


@lru_cache(maxsize=32)
def _mean_of(parts: int, side: int) -> Floats:
    """(parts, side): what averages equal parts of a line, less what is left over at its end."""
    width = side // parts
    means = np.zeros((parts, side), np.float32)
    means[:, : parts * width] = np.kron(np.eye(parts), np.full(width, 1 / width))
    return means


def _middle(values: Floats) -> Floats:
    """The mean of the middle half of each row."""
    count = values.shape[-1]
    middle = np.sort(values)[..., count // 4 : count - count // 4]
    return np.asarray(middle.mean(axis=-1), np.float32)
