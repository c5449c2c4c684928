"""
Balls of the second generator: no stamps, each is shaded where it lies, on a canvas of half px.

A ball is an outline (ellipse, second and third harmonic) over a dome under a ring light: it dims
towards the rim, shines where the lamp mirrors, and shows the camera as a dark dimple now and then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
FINE = 2
"""Canvas px per px of the image, each way."""
RIM_SHARE = 0.2
LEAN_SHARE = 0.3
GLOSS_WIDTH = 0.45
DIMPLED = 0.35
"""Share of balls that mirror the camera."""


@dataclass(frozen=True, slots=True)
class Balls:
    """The balls of one unit, a row each; places and radii in px of the image."""

    places: Doubles
    radii: Doubles
    levels: Doubles
    bumps: Doubles
    """(n, 4): cosine and sine of the second, then of the third harmonic of the outline."""
    squeeze: Doubles
    turns: Doubles
    lean: Doubles
    """(n, 2): where the light seems to come from, in radii."""
    gloss: Doubles
    dimples: Doubles
    """(n, 4): x and y in radii, width in radii, depth in grey levels."""

    def without(self, row: int) -> Balls:
        """All but one."""
        return self.taken(np.delete(np.arange(len(self.places)), row))

    def taken(self, rows: NDArray[np.int64]) -> Balls:
        """These rows, in this order; a row may come twice."""
        return Balls(*(getattr(self, name)[rows] for name in self.__slots__))

    def keys(self) -> list[bytes]:
        """What tells each ball from the others."""
        columns = [getattr(self, name) for name in self.__slots__]
        return [row.tobytes() for row in np.column_stack(columns)]

    def changed(self, row: int, **values: object) -> Balls:
        """A copy in which one ball has other values."""
        columns = {}
        for name, value in values.items():
            column = getattr(self, name).copy()
            column[row] = value
            columns[name] = column
        return replace(self, **columns)


def bell(rng: np.random.Generator, sigma: float, size: int | tuple[int, ...]) -> Doubles:
    """Bell-shaped draws that end at three `sigma`: sums of three even ones."""
    shape = size if isinstance(size, tuple) else (size,)
    return np.asarray(rng.uniform(-sigma, sigma, (3, *shape)).sum(axis=0))


def usual(
    rng: np.random.Generator, places: Doubles, radius_px: float, spread: float, level: float
) -> Balls:
    """Good balls at these places; `spread` is that of their radii."""
    count = len(places)
    dimpled = rng.random(count) < DIMPLED
    depth = np.where(dimpled, rng.uniform(30, 120, count), 0.0)
    where = rng.uniform(-0.35, 0.35, (count, 2))
    width = rng.uniform(0.14, 0.24, count)
    return Balls(
        places=places,
        radii=radius_px * (1 + bell(rng, spread, count)),
        levels=level + bell(rng, 3.0, count),
        bumps=bell(rng, 0.016, (count, 4)),
        squeeze=1 + bell(rng, 0.01, count),
        turns=rng.uniform(0, np.pi, count),
        lean=bell(rng, 0.05, (count, 2)),
        gloss=rng.uniform(25, 55, count),
        dimples=np.column_stack([where, width, depth]),
    )


Shades = dict[bytes, tuple[int, int, Floats, Floats]]
"""Left and top on the canvas, opacity and light, by what makes up the ball."""


def paint(canvas: Floats, balls: Balls, shades: Shades) -> None:
    """Lay the balls on the canvas, as much of each as lies inside; `shades` are kept for later."""
    keys = balls.keys()
    new = np.array([row for row, key in enumerate(keys) if key not in shades], np.int64)
    if len(new):
        fresh = zip(new.tolist(), _shaded(balls.taken(new)), strict=True)
        shades.update((keys[row], shade) for row, shade in fresh)
    for key in keys:
        left, top, cover, light = shades[key]
        side = len(cover)
        window = canvas[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
        if window.shape != cover.shape:
            inside = np.s_[max(-top, 0) :, max(-left, 0) :]
            height, width = window.shape
            cover, light = (v[inside][:height, :width] for v in (cover, light))
        window += (light - window) * cover


def _shaded(balls: Balls) -> list[tuple[int, int, Floats, Floats]]:
    reach = int(np.ceil(1.1 * FINE * balls.radii.max())) + 1
    middles = FINE * balls.places + (FINE - 1) / 2
    corners = np.floor(middles).astype(np.int64) - reach
    axis = np.arange(2 * reach + 1)
    across = (corners[:, :1] + axis - middles[:, :1]).astype(np.float32)[:, None, :]
    down = (corners[:, 1:] + axis - middles[:, 1:]).astype(np.float32)[:, :, None]
    drawn = zip(corners.tolist(), *_shade(across, down, balls), strict=True)
    return [(left, top, cover, light) for (left, top), cover, light in drawn]


def _shade(across: Floats, down: Floats, balls: Balls) -> tuple[Floats, Floats]:
    """Opacity and light of every ball, (n, k, k), around its middle."""
    radius = np.float32(FINE) * balls.radii.astype(np.float32)[:, None, None]
    squeeze = balls.squeeze.astype(np.float32)[:, None, None]
    turns = balls.turns.astype(np.float32)[:, None, None]
    cosine, sine = np.cos(turns) / radius, np.sin(turns) / radius
    u = across * cosine + down * sine
    v = down * (cosine / squeeze) - across * (sine / squeeze)
    uu, vv = u * u, v * v
    squared = np.maximum(uu + vv, np.float32(1e-6))
    distance = np.sqrt(squared)
    a, b, c, d = balls.bumps.astype(np.float32).T[:, :, None, None]
    outline = 1 + (a * (uu - vv) + 2 * b * u * v) / squared
    outline += (c * u * (uu - 3 * vv) + d * v * (3 * uu - vv)) / (squared * distance)
    depth = distance / outline
    alpha = np.clip((1 - depth) * radius + np.float32(0.5), 0, 1)
    dome = np.sqrt(np.maximum(1 - depth * depth, 0))
    lean_x, lean_y = balls.lean.astype(np.float32).T[:, :, None, None]
    level = balls.levels.astype(np.float32)[:, None, None]
    light = level * (1 - RIM_SHARE + RIM_SHARE * dome + LEAN_SHARE * (lean_x * u + lean_y * v))
    gloss = balls.gloss.astype(np.float32)[:, None, None]
    light += gloss * _lobe(u - lean_x, v - lean_y, np.float32(GLOSS_WIDTH))
    x, y, width, dark = balls.dimples.astype(np.float32).T[:, :, None, None]
    light -= dark * _lobe(u - x, v - y, width)
    return np.asarray(alpha, np.float32), np.clip(light, 0, 255, out=light)


def _lobe(x: Floats, y: Floats, width: Floats | np.float32) -> Floats:
    return np.asarray(np.exp(-(x * x + y * y) / (width * width)), np.float32)
