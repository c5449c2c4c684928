"""
A second product: a pin connector, so that nothing that is taught can rest on ball grids.

A dark housing with a row of bright pins, a mounting hole at either end and a printed mark lies on
a light belt that runs on beneath, moved and turned by some px. Everything is drawn in half px and averaged.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.errors import Misuse
from edge_inspector.records import Box, Pixels
from edge_inspector.simulator.defects import GOOD
from edge_inspector.simulator.line import LinePlayer
from edge_inspector.simulator.parts import Composed, Variation

WIDTH_PX, HEIGHT_PX = 320, 224
FINE = 2
"""Canvas px for each px of the frame."""
BODY: Box = (24, 44, 272, 96)
PINS, FIRST_PIN_PX, PITCH_PX = 12, 72.0, 16.0
PIN_TOP_PX, PIN_LENGTH_PX, PIN_WIDTH_PX = 136.0, 46.0, 6.0
HOLES = ((46, 76), (274, 76))
HOLE_RADIUS_PX = 10
PRINT = "EI 12P-7"
PRINT_BOX: Box = (98, 64, 124, 24)
USUAL = Variation(jitter_px=0.25, size=0.015, shift_px=1.6, rotation_deg=0.5)
VISIBLE = 8.0
"""Grey levels from which a change belongs to the defect's mask."""
SHIFT_BITS = 4

Floats = NDArray[np.float64]


class ConnectorLine(LinePlayer):
    """A line of connectors, the same ones for a seed each time."""

    def __init__(
        self,
        seed: int = 1,
        defect_rate: float = 0.1,
        kinds: tuple[str, ...] | None = None,
        *,
        pool: int = 0,
        variation: Variation = USUAL,
    ) -> None:
        given = tuple(KINDS) if kinds is None else kinds
        super().__init__(seed, defect_rate, given, pool=pool, variation=variation, known=KINDS)

    def _compose(self, rng: np.random.Generator, kind: str) -> Composed:
        return compose(rng, self._variation, kind)


class Unit:
    """One connector as it is drawn: pins as x offset, length and light, and what marks it."""

    def __init__(self, rng: np.random.Generator, variation: Variation) -> None:
        self.offsets = bell(rng, variation.jitter_px, PINS)
        self.lengths = PIN_LENGTH_PX * (1 + bell(rng, variation.size, PINS))
        self.lights = 205 + bell(rng, 6.0, PINS)
        self.ink = 150 + float(bell(rng, 5.0, 1)[0])
        self.marks: list[Callable[[Pixels], None]] = []
        self.printed = len(PRINT)
        self.belt = rng.integers(0, WIDTH_PX, 2)


def compose(rng: np.random.Generator, variation: Variation = USUAL, defect: str = GOOD) -> Composed:
    """One unit, uint8 (224, 320), with the truth of its defect; raises `Misuse` for an unknown one."""
    if defect != GOOD and defect not in KINDS:
        raise Misuse(f"unknown defect '{defect}'; known: {', '.join(KINDS)}")
    unit = Unit(rng, variation)
    pose, gain = _pose(rng, variation), 1 + float(bell(rng, variation.gain, 1)[0])
    noise = rng.normal(0, variation.noise, (HEIGHT_PX, WIDTH_PX)).astype(np.float32)
    plain = shown = _taken(unit, pose)
    if defect != GOOD:
        KINDS[defect](unit, rng)
        shown = _taken(unit, pose)
    mask = np.where(cv2.absdiff(shown, plain) > VISIBLE, np.uint8(255), np.uint8(0))
    x, y, width, height = cv2.boundingRect(mask)
    pixels = np.clip(np.rint(shown * np.float32(gain) + noise), 0, 255).astype(np.uint8)
    return Composed(pixels, defect, (x, y, width, height) if width else None, mask)


def bell(rng: np.random.Generator, sigma: float, size: int) -> Floats:
    """Normal draws, cut off at three standard deviations."""
    return np.clip(rng.normal(0.0, 1.0, size), -3, 3) * sigma


def _pose(rng: np.random.Generator, variation: Variation) -> Floats:
    """Canvas px to frame px, 2 x 3."""
    angle = float(bell(rng, variation.rotation_deg, 1)[0])
    middle = (WIDTH_PX * FINE / 2, HEIGHT_PX * FINE / 2)
    pose = np.asarray(cv2.getRotationMatrix2D(middle, angle, 1.0), np.float64)
    pose[:, 2] += FINE * bell(rng, variation.shift_px, 2)
    return pose


def _taken(unit: Unit, pose: Floats) -> NDArray[np.float32]:
    """The unit as the camera sees it, but for light and noise."""
    x, y, across, down = (FINE * side for side in BODY)
    canvas = np.roll(_belt(), unit.belt, (0, 1))
    canvas[y : y + down, x : x + across] = _housing()
    _print(canvas, unit)
    for number in range(PINS):
        _pin(canvas, unit, number)
    for mark in unit.marks:
        mark(canvas)
    size = (canvas.shape[1], canvas.shape[0])
    moved = cv2.warpAffine(canvas, pose, size, borderMode=cv2.BORDER_REPLICATE)
    small = cv2.resize(moved, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), 0.6), np.float32)


@lru_cache(maxsize=1)
def _belt() -> Pixels:
    rng = np.random.default_rng(11)
    light = 172 + 5 * _cloud(HEIGHT_PX * FINE, WIDTH_PX * FINE, 24, rng)
    return np.clip(light, 0, 255).astype(np.uint8)


@lru_cache(maxsize=1)
def _housing() -> Pixels:
    """The housing alone, with its ledge and its two holes."""
    rng = np.random.default_rng(12)
    x, y, across, down = BODY
    skin = 62 + 3 * _cloud(down * FINE, across * FINE, 5, rng)
    skin[-14 * FINE :, 40 * FINE : -40 * FINE] -= 22
    picture = np.clip(skin, 0, 255).astype(np.uint8)
    for hole_x, hole_y in HOLES:
        centre = ((hole_x - x) * FINE, (hole_y - y) * FINE)
        cv2.circle(picture, centre, (HOLE_RADIUS_PX + 2) * FINE, 92, -1, cv2.LINE_AA)
        cv2.circle(picture, centre, HOLE_RADIUS_PX * FINE, 165, -1, cv2.LINE_AA)
    return picture


def _cloud(height: int, width: int, cell: int, rng: np.random.Generator) -> Floats:
    """Smooth random texture with patches of about `cell` px."""
    small = rng.standard_normal((height // cell + 2, width // cell + 2))
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))


def _print(canvas: Pixels, unit: Unit) -> None:
    x, y, _, height = (FINE * side for side in PRINT_BOX)
    place = (x, y + height - 4)
    text, font = PRINT[: unit.printed], cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(canvas, text, place, font, 0.78 * FINE, unit.ink, 2 * FINE, cv2.LINE_AA)


def _pin(canvas: Pixels, unit: Unit, number: int) -> None:
    """From its socket down; one without length is an empty socket."""
    x, tip = FIRST_PIN_PX + PITCH_PX * number, PIN_TOP_PX + unit.lengths[number]
    half = PIN_WIDTH_PX / 2
    _fill(canvas, [(x - 5, 128), (x + 5, 128), (x + 5, 140), (x - 5, 140)], 24)
    if unit.lengths[number] < 1:
        return
    low = x + unit.offsets[number]
    corners = [(x - half, 130), (x + half, 130), (low + half, tip - 4), (low + 1, tip)]
    corners += [(low - 1, tip), (low - half, tip - 4)]
    _fill(canvas, corners, unit.lights[number])
    _fill(canvas, [(x - 1, 132), (x, 132), (low, tip - 6), (low - 1, tip - 6)], 250)


def _fill(canvas: Pixels, corners: list[tuple[float, float]], level: float) -> None:
    fine = np.rint((np.array(corners) * FINE + 0.5) * 2**SHIFT_BITS).astype(np.int32)
    cv2.fillPoly(canvas, [fine], float(level), cv2.LINE_AA, SHIFT_BITS)


def _missing_pin(unit: Unit, rng: np.random.Generator) -> None:
    unit.lengths[rng.integers(PINS)] = 0


def _bent_pin(unit: Unit, rng: np.random.Generator) -> None:
    """Its tip 3.5 to 8 px beside its place."""
    unit.offsets[rng.integers(PINS)] = rng.choice([-1.0, 1.0]) * rng.uniform(3.5, 8)


def _short_pin(unit: Unit, rng: np.random.Generator) -> None:
    unit.lengths[rng.integers(PINS)] *= rng.uniform(0.5, 0.8)


def _bad_print(unit: Unit, rng: np.random.Generator) -> None:
    """Some of its letters are not there."""
    unit.printed = int(rng.integers(0, len(PRINT) - 2))


def _blocked_hole(unit: Unit, rng: np.random.Generator) -> None:
    """Moulding flash over a part of a mounting hole."""
    x, y = HOLES[rng.integers(2)]
    angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0, 6)
    centre = (x + reach * np.cos(angle), y + reach * np.sin(angle))
    radius = rng.uniform(6, 10)
    around = np.linspace(0, 2 * np.pi, 14)[:-1]
    wavy = radius * rng.uniform(0.8, 1.2, len(around))
    corners = [
        (float(centre[0] + r * np.cos(a)), float(centre[1] + r * np.sin(a)))
        for a, r in zip(around, wavy, strict=True)
    ]
    unit.marks.append(lambda canvas: _fill(canvas, corners, 68.0))


def _scratch(unit: Unit, rng: np.random.Generator) -> None:
    """A light line on the housing, 1 px wide and 18 to 50 px long."""
    x, y, width, height = BODY
    start = np.array([rng.uniform(x + 8, x + width - 8), rng.uniform(y + 6, y + height - 24)])
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(18, 50)
    end = start + length * np.array([np.cos(angle), np.sin(angle)])
    end = np.clip(end, (x + 4, y + 4), (x + width - 4, y + height - 18))
    level = float(rng.uniform(115, 175))
    ends = [[round(float(v) * FINE * 2**SHIFT_BITS) for v in place] for place in (start, end)]

    def mark(canvas: Pixels) -> None:
        cv2.line(canvas, ends[0], ends[1], level, FINE, cv2.LINE_AA, SHIFT_BITS)

    unit.marks.append(mark)


KINDS: dict[str, Callable[[Unit, np.random.Generator], None]] = {
    "missing_pin": _missing_pin,
    "bent_pin": _bent_pin,
    "short_pin": _short_pin,
    "bad_print": _bad_print,
    "blocked_hole": _blocked_hole,
    "scratch": _scratch,
}
