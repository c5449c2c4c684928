"""
The second generator, frozen: another way to draw the same product, with defects of its own.

What one generator teaches, the other examines: they share no code that draws, no noise, no pose.
Here a unit is painted where it lies on a canvas of half px, which is then averaged; shot noise
grows with the light, and the light falls off towards the corners. A change of what it draws is a
change of every figure that was measured with it: make a third generator instead.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from edge_inspector.errors import Misuse
from edge_inspector.records import Pixels
from edge_inspector.simulator.defects import GOOD
from edge_inspector.simulator.parts import NORMAL, VISIBLE, Composed, Variation
from edge_inspector.simulator.second_balls import (
    FINE,
    Doubles,
    Floats,
    Shades,
    bell,
    paint,
    usual,
)
from edge_inspector.simulator.second_body import Stage, field, photographed, rendered
from edge_inspector.simulator.second_defects import KINDS, UNSEEN, Marred, Scene, unmarked

__all__ = ["KINDS", "UNSEEN", "Stage", "compose", "photographed", "rendered"]

GRAIN = 1.2
"""Grey levels by which the moulded skin of one unit differs from another's."""
FALL_OFF = 0.07
"""Share of the light that the corners lack."""
DRIFT = 0.004
READ_SHARE, SHOT_SHARE = 0.4, 0.005
"""Variance of the noise over that of `Variation.noise`: that of the dark, and per grey level."""
SOFT_PX = 0.45


def compose(
    stage: Stage, rng: np.random.Generator, variation: Variation = NORMAL, defect: str = GOOD
) -> Composed:
    """
    One unit; outside its mask it is the unit that the same generator makes without `defect`.

    Raises `Misuse` for an unknown defect.
    """
    if defect != GOOD and defect not in KINDS:
        raise Misuse(f"unknown defect '{defect}'; known: {', '.join(KINDS)}")
    height, width = (side // FINE for side in stage.canvas.shape)
    pose = _pose(width, height, rng, variation)
    nominal = stage.centres @ pose[:, :2].T + pose[:, 2]
    jitter = bell(rng, variation.jitter_px, nominal.shape)
    balls = usual(rng, nominal + jitter, stage.radius_px, variation.size, stage.level)
    skin = _grained(_posed(stage.canvas, pose), rng)
    light = _light(width, height, rng, variation)
    noise = rng.standard_normal((height, width), np.float32)
    shades: Shades = {}
    plain = _painted(skin, unmarked(balls), shades)
    shown = plain
    if defect != GOOD:
        marred = KINDS[defect](Scene(stage, balls, nominal, pose), rng)
        shown = _painted(skin, marred, shades)
    _, changed = cv2.threshold(cv2.absdiff(shown, plain), VISIBLE, 255, cv2.THRESH_BINARY)
    mask = changed.astype(np.uint8)
    x, y, across, down = cv2.boundingRect(mask)
    lit = shown * light
    noise *= np.sqrt(variation.noise**2 * (READ_SHARE + SHOT_SHARE * lit), dtype=np.float32)
    pixels = np.clip(np.rint(lit + noise), 0, 255).astype(np.uint8)
    return Composed(pixels, defect, (x, y, across, down) if across else None, mask)


def _pose(width: int, height: int, rng: np.random.Generator, variation: Variation) -> Doubles:
    """Stage px to image px, 2 x 3: a turn about the middle and a shift."""
    angle = np.radians(bell(rng, variation.rotation_deg, 1)[0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([width - 1, height - 1]) / 2
    shift = middle - turn @ middle + bell(rng, variation.shift_px, 2)
    return np.column_stack([turn, shift])


def _posed(canvas: Pixels, pose: Doubles) -> Floats:
    """The canvas moved; its px are `FINE` times as many, centres on centres."""
    offset = (FINE - 1) / 2
    fine = pose.copy()
    fine[:, 2] = FINE * pose[:, 2] + offset - pose[:, :2] @ (offset, offset)
    size = (canvas.shape[1], canvas.shape[0])
    moved = cv2.warpAffine(canvas, fine, size, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)


def _grained(skin: Floats, rng: np.random.Generator) -> Floats:
    """The skin with a window of a fine texture, another one for every unit."""
    texture = field(21, 0.8)
    short = np.maximum(np.array(skin.shape) - len(texture), 0)
    if short.any():
        texture = np.pad(texture, [(0, int(side)) for side in short], mode="wrap")
    top, left = rng.integers(0, np.array(texture.shape) - skin.shape + 1)
    window = texture[top : top + skin.shape[0], left : left + skin.shape[1]]
    return np.asarray(cv2.scaleAdd(window, GRAIN, skin), np.float32)


def _light(width: int, height: int, rng: np.random.Generator, variation: Variation) -> Floats:
    gain = 1 + float(bell(rng, variation.gain, 1)[0])
    drift_x, drift_y = bell(rng, DRIFT if variation.gain else 0.0, 2).astype(np.float32)
    fall_off, x, y = _lens(width, height)
    return np.asarray(np.float32(gain) * fall_off + drift_x * x + drift_y * y, np.float32)


@lru_cache(maxsize=4)
def _lens(width: int, height: int) -> tuple[Floats, Floats, Floats]:
    """The share of light that arrives, and x and y from -1 to 1."""
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    return np.asarray(1 - np.float32(FALL_OFF / 2) * (x * x + y * y), np.float32), x, y


def _painted(skin: Floats, unit: Marred, shades: Shades) -> Floats:
    """What reaches the lens, in px of the image."""
    canvas = skin.copy()
    unit.under(canvas)
    paint(canvas, unit.balls, shades)
    unit.over(canvas)
    size = (canvas.shape[1] // FINE, canvas.shape[0] // FINE)
    image = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(image, (3, 3), SOFT_PX), np.float32)
