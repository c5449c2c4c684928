"""
Faults to learn from, made of good crops alone: no photograph of a defect, no knowledge of a product.

What is seen is moved, resized, laid elsewhere, joined, scratched, stained, dulled. Places are chosen
where a crop has something to see, so that a ball grid, a weld and a grain each get faults of their
own. Sizes are in px of crops whose shorter side is 256.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.studies.calibrate import MAD_TO_SIGMA

Floats = NDArray[np.float32]
Rng = np.random.Generator
Where = tuple[slice, slice]
SUBPIXEL_BITS = 4
LOST = 0.6
"""Share of the noise that resampling between pixels takes away, as a standard deviation."""
PROMINENCE = 2.5
"""How much likelier the first of the places is than the last."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """A crop to draw on, float32 (h, w) or (h, w, 3), and the places (n, 2) where it shows something."""

    image: Floats
    places: Floats
    unit: float
    """Px of this crop per px of one whose shorter side is 256."""
    noise: float = 0.0
    """Standard deviation of the camera's noise in grey levels."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.image.shape[1], self.image.shape[0]


Fault = Callable[[Canvas, Rng], None]


def places(crop: NDArray[np.uint8], unit: float) -> Floats:
    """Centres (n, 2) of what stands out from its surroundings, the most of it first; never none."""
    grey = crop.astype(np.float32) if crop.ndim == 2 else crop.mean(axis=2, dtype=np.float32)
    inner = cv2.GaussianBlur(grey, (0, 0), 2.5 * unit)
    contrast = np.abs(inner - cv2.GaussianBlur(grey, (0, 0), 7.0 * unit))
    reach = 2 * round(3 * unit) + 1
    peak = contrast == cv2.dilate(contrast, np.ones((reach, reach), np.uint8))
    y, x = np.nonzero(peak & (contrast > max(3.0, 0.25 * float(np.percentile(contrast, 99.5)))))
    order = np.argsort(-contrast[y, x], kind="stable")
    found = np.stack([x, y], axis=1).astype(np.float32)[order]
    middle = np.array([[crop.shape[1] / 2, crop.shape[0] / 2]], np.float32)
    return found if len(found) else middle


def noise_of(crop: NDArray[np.uint8]) -> float:
    """
    Standard deviation of a crop's noise in grey levels.

    From the median of a difference that straight edges do not move (after Immerkær, "Fast noise
    variance estimation", 1996).
    """
    grey = crop.astype(np.float32) if crop.ndim == 2 else crop.mean(axis=2, dtype=np.float32)
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / np.float32(6)
    return MAD_TO_SIGMA * float(np.median(np.abs(cv2.filter2D(grey, -1, kernel))))


def scale_of(rng: Rng, unit: float) -> float:
    """Px per unit of one fault: now and then a large one."""
    return unit * (float(rng.uniform(1.5, 3.0)) if rng.random() < 0.08 else 1.0)


def warp(
    canvas: Canvas,
    rng: Rng,
    bump: tuple[float, float, float],
    matrix: NDArray[np.float64],
    shift: tuple[float, float] = (0.0, 0.0),
) -> None:
    """
    Map what lies within (x, y, radius) by matrix and shift, fading out to 1.9 of the radius.

    Noise that resampling took away is added again: its lack would tell where to look.
    """
    x, y, radius = bump
    at = _window(canvas, x, y, int(2 * radius + abs(shift[0]) + abs(shift[1])) + 2)
    rows, columns = np.mgrid[at].astype(np.float32)
    across, down = columns - np.float32(x + shift[0]), rows - np.float32(y + shift[1])
    share = np.clip((1.9 * radius - np.hypot(across, down)) / (0.9 * radius), 0, 1)
    share = (share * share * (3 - 2 * share)).astype(np.float32)
    inverse = np.linalg.inv(matrix).astype(np.float32)
    from_x = x + inverse[0, 0] * across + inverse[0, 1] * down
    from_y = y + inverse[1, 0] * across + inverse[1, 1] * down
    moved = cv2.remap(
        canvas.image,
        (columns + share * (from_x - columns)).astype(np.float32),
        (rows + share * (from_y - rows)).astype(np.float32),
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    lost = LOST * canvas.noise * rng.standard_normal(moved.shape, dtype=np.float32)
    touched = share > 0
    canvas.image[at] = moved + lost * (touched if moved.ndim == 2 else touched[..., None])


def place(canvas: Canvas, rng: Rng, seen: float) -> tuple[float, float]:
    """A place of something, with probability `seen`, else anywhere; what stands out more is likelier."""
    if rng.random() < seen:
        x, y = canvas.places[int(len(canvas.places) * rng.random() ** PROMINENCE)]
        return float(x + rng.normal(0, 0.7)), float(y + rng.normal(0, 0.7))
    width, height = canvas.size
    return float(rng.uniform(2, width - 2)), float(rng.uniform(2, height - 2))


def _move(canvas: Canvas, rng: Rng) -> None:
    unit = scale_of(rng, canvas.unit)
    x, y = place(canvas, rng, 0.85)
    far = rng.uniform(2.6, 4.2) if rng.random() < 0.7 else rng.uniform(4.0, 8.0)
    dx, dy = (float(v) for v in unit * far * _direction(rng))
    warp(canvas, rng, (x, y, unit * rng.uniform(5, 10)), np.eye(2), (dx, dy))


def _resize(canvas: Canvas, rng: Rng) -> None:
    """Larger or smaller, mostly alike in all directions."""
    bump = (*place(canvas, rng, 0.85), scale_of(rng, canvas.unit) * rng.uniform(5, 9))
    size = rng.uniform(0.16, 0.32) if rng.random() < 0.7 else rng.uniform(0.32, 0.7)
    scale = float(np.exp(rng.choice([-1.0, 1.0]) * size))
    along = _direction(rng)
    axes = np.array([along, (-along[1], along[0])])
    even = rng.random() < 0.8
    warp(canvas, rng, bump, axes.T @ np.diag([scale, scale if even else 1.0]) @ axes)


def _paste(canvas: Canvas, rng: Rng) -> None:
    """What is seen at one place at another, near or far: something missing, something more."""
    unit = scale_of(rng, canvas.unit)
    radius = unit * rng.uniform(4, 10)
    reach = int(radius) + 2
    to = place(canvas, rng, 0.5)
    near = np.array(to) + unit * rng.uniform(6, 20) * _direction(rng)
    source = near if rng.random() < 0.5 else place(canvas, rng, 0.5)
    width, height = canvas.size
    x, y, from_x, from_y = (int(v) for v in (*to, *source))
    if min(x, y, from_x, from_y) < reach or max(x, from_x) >= width - reach:
        return
    if max(y, from_y) >= height - reach:
        return
    at = _window(canvas, x, y, reach)
    taken = canvas.image[_window(canvas, from_x, from_y, reach)].copy()
    rows, columns = np.mgrid[at].astype(np.float32)
    _blend(canvas, at, np.clip((radius - np.hypot(columns - x, rows - y)) / 2 + 0.5, 0, 1), taken)


def _stroke(canvas: Canvas, rng: Rng) -> None:
    """A thin line, straight or not, brighter or darker."""
    point, way = np.array(place(canvas, rng, 0.3)), _direction(rng)
    pieces = int(rng.integers(1, 6))
    step = canvas.unit * rng.uniform(8, 70) / pieces
    points = [point]
    for _ in range(pieces):
        way = way + rng.normal(0, 0.35 if pieces > 1 else 0.0, 2)
        way = way / np.hypot(*way)
        points.append(points[-1] + step * way)
    at, share = _line(canvas, points, 1 if rng.random() < 0.7 else 2)
    low, high = (20, 50) if rng.random() < 0.6 else (40, 120)
    _tint(canvas, at, share, rng.choice([-1, 1], p=[0.4, 0.6]) * rng.uniform(low, high), rng)


def _join(canvas: Canvas, rng: Rng) -> None:
    """A bar from one thing towards a neighbour, nearly as bright as the thing."""
    known = canvas.places
    one = known[rng.integers(len(known))]
    nearest = np.argsort(np.hypot(*(known - one).T))[1:4]
    if not len(nearest):
        return
    other = known[rng.choice(nearest)]
    if np.hypot(*(other - one)) > 40 * canvas.unit:
        return
    end = one + (other - one) * rng.uniform(0.5, 1)
    at, share = _line(canvas, [one, end], int(rng.integers(1, 5)))
    level = canvas.image[int(one[1]), int(one[0])] * np.float32(rng.uniform(0.6, 1))
    _blend(canvas, at, share, np.broadcast_to(level, canvas.image[at].shape))


def _spot(canvas: Canvas, rng: Rng) -> None:
    """A soft or a sharp ellipse, brighter or darker."""
    unit = scale_of(rng, canvas.unit)
    x, y = place(canvas, rng, 0.25)
    size, stretch = unit * rng.uniform(1.2, 4.5), rng.uniform(0.6, 1.6)
    at = _window(canvas, x, y, int(6.4 * size) + 1)
    rows, columns = np.mgrid[at].astype(np.float32)
    along, way = np.stack([columns - x, rows - y]), _direction(rng)
    major = (way[0] * along[0] + way[1] * along[1]) / (size * stretch)
    minor = (way[0] * along[1] - way[1] * along[0]) / (size / stretch)
    squared = major * major + minor * minor
    soft = rng.random() < 0.7
    share = np.exp(-squared / 2) if soft else np.clip(3.5 - 2 * np.sqrt(squared), 0, 1)
    low, high = (15, 35) if rng.random() < 0.6 else (30, 120)
    _tint(canvas, at, share, rng.choice([-1, 1], p=[0.45, 0.55]) * rng.uniform(low, high), rng)


def _cloud(canvas: Canvas, rng: Rng) -> None:
    """A ragged patch: another brightness, duller, or out of focus."""
    x, y = place(canvas, rng, 0.4)
    radius = scale_of(rng, canvas.unit) * rng.uniform(4, 14)
    at = _window(canvas, x, y, int(radius) + 1)
    rows, columns = np.mgrid[at].astype(np.float32)
    ragged = cv2.resize(
        rng.standard_normal((4, 4)).astype(np.float32),
        (rows.shape[1], rows.shape[0]),
        interpolation=cv2.INTER_CUBIC,
    )
    inside = np.clip((radius - np.hypot(columns - x, rows - y)) / 2, 0, 1)
    share = np.clip(2 * ragged + 1, 0, 1) * inside
    kind = int(rng.integers(3))
    if kind == 0:
        _tint(canvas, at, share, rng.choice([-1, 1]) * rng.uniform(15, 60), rng)
        return
    part = canvas.image[at]
    dull = part * np.float32(rng.uniform(0.5, 0.85))
    _blend(canvas, at, share, dull if kind == 1 else np.asarray(cv2.blur(part, (5, 5))))


KINDS: tuple[Fault, ...] = (_move, _resize, _paste, _stroke, _join, _spot, _cloud)
SHARES = (0.3, 0.22, 0.1, 0.14, 0.08, 0.11, 0.05)


def _direction(rng: Rng) -> NDArray[np.float64]:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])


def _window(canvas: Canvas, x: float, y: float, reach: int) -> Where:
    width, height = canvas.size
    column, row = min(max(int(x), 0), width - 1), min(max(int(y), 0), height - 1)
    return (
        slice(max(row - reach, 0), min(row + reach + 1, height)),
        slice(max(column - reach, 0), min(column + reach + 1, width)),
    )


def _line(canvas: Canvas, points: list[NDArray[np.float64]], width: int) -> tuple[Where, Floats]:
    """The window around an anti-aliased line, and its share of each px there."""
    ends = np.array(points)
    middle, half = (ends.max(0) + ends.min(0)) / 2, np.ptp(ends, axis=0).max() / 2
    at = _window(canvas, float(middle[0]), float(middle[1]), int(half) + width + 4)
    sheet = np.zeros((at[0].stop - at[0].start, at[1].stop - at[1].start), np.uint8)
    fixed = np.round((ends - (at[1].start, at[0].start)) * 2**SUBPIXEL_BITS).astype(np.int32)
    cv2.polylines(sheet, [fixed], False, 255, width, cv2.LINE_AA, SUBPIXEL_BITS)
    return at, sheet.astype(np.float32) / np.float32(255)


def _tint(canvas: Canvas, at: Where, share: Floats, level: float, rng: Rng) -> None:
    """Add `level` grey levels; half of the time only to what is as bright as most of the window."""
    part = canvas.image[at]
    if rng.random() < 0.5:
        grey = cv2.blur(part if part.ndim == 2 else part.mean(axis=2), (3, 3))
        share = share * (np.abs(grey - np.median(grey)) < 55)
    if part.ndim == 3:
        part += share[..., None] * (level * rng.uniform(0.6, 1, 3)).astype(np.float32)
    else:
        part += (share * level).astype(np.float32)


def _blend(canvas: Canvas, at: Where, share: Floats, other: Floats) -> None:
    part = canvas.image[at]
    weight = share.astype(np.float32)
    if part.ndim == 3:
        weight = weight[..., None]
    part += weight * (other - part)
