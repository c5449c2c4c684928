"""
Defects of the second generator, by name: nine that the first one knows too, and nine of its own.

Lengths are in px of a 256x256 image with balls of 9 px; all draws come from the generator given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge_inspector.simulator import second_marks as marks
from edge_inspector.simulator.second_balls import Balls, Doubles, Floats
from edge_inspector.simulator.second_body import Stage

Paint = Callable[[Floats], None]
"""Paints on the canvas in place."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a defect may look at: the stage, the good balls, where they belong, and the pose."""

    stage: Stage
    balls: Balls
    nominal: Doubles
    pose: Doubles

    def place(self, rng: np.random.Generator) -> Doubles:
        """Anywhere in the free area."""
        x, y, width, height = self.stage.area
        return np.array([x, y]) + rng.random(2) * (width, height)

    def clear_place(self, rng: np.random.Generator, clear_px: float) -> Doubles:
        """A place with no ball's middle within `clear_px`, or the clearest of 96."""
        x, y, width, height = self.stage.area
        places = np.array([x, y]) + rng.random((96, 2)) * (width, height)
        nearest = np.linalg.norm(places[:, None] - self.balls.places[None], axis=2).min(axis=1)
        fit = np.flatnonzero(nearest >= clear_px)
        return np.asarray(places[fit[0] if len(fit) else nearest.argmax()])

    def any_ball(self, rng: np.random.Generator) -> int:
        """One of the balls."""
        return int(rng.integers(len(self.balls.places)))


@dataclass(frozen=True, slots=True)
class Marred:
    """A unit's balls, what is painted before them and what over them."""

    balls: Balls
    under: Paint
    over: Paint


Kind = Callable[[Scene, np.random.Generator], Marred]


def unmarked(balls: Balls) -> Marred:
    """Nothing but balls."""
    return Marred(balls, _nothing, _nothing)


def _nothing(canvas: Floats) -> None:
    """Leaves the canvas as it is."""


def _missing(scene: Scene, rng: np.random.Generator) -> Marred:
    """The pad shows faintly."""
    row = scene.any_ball(rng)
    place, radius = scene.balls.places[row], float(scene.balls.radii[row])
    pad = marks.ring(place, 0.72 * radius, 1.1, float(rng.uniform(10, 22)))
    return Marred(scene.balls.without(row), pad, _nothing)


def _extra(scene: Scene, rng: np.random.Generator) -> Marred:
    place = scene.clear_place(rng, 2.3 * scene.stage.radius_px)
    twin = np.append(np.arange(len(scene.balls.places)), scene.any_ball(rng))
    radius = scene.stage.radius_px * rng.uniform(0.6, 1.0)
    balls = scene.balls.taken(twin).changed(-1, places=place, radii=radius)
    return unmarked(balls)


def _moved(low_px: float, high_px: float) -> Kind:
    def move(scene: Scene, rng: np.random.Generator) -> Marred:
        row = scene.any_ball(rng)
        step = rng.uniform(low_px, high_px) * _heading(rng)
        return unmarked(scene.balls.changed(row, places=scene.nominal[row] + step))

    return move


def _resized(low: float, high: float) -> Kind:
    def resize(scene: Scene, rng: np.random.Generator) -> Marred:
        row = scene.any_ball(rng)
        factor = 1 + rng.choice((-1.0, 1.0)) * rng.uniform(low, high)
        return unmarked(scene.balls.changed(row, radii=scene.stage.radius_px * factor))

    return resize


def _bridge(scene: Scene, rng: np.random.Generator) -> Marred:
    """A neck of solder to the nearest ball, wide where it leaves them."""
    row = scene.any_ball(rng)
    away = np.linalg.norm(scene.balls.places - scene.balls.places[row], axis=1)
    ends = scene.balls.places[[row, int(np.argsort(away)[1])]]
    neck = marks.neck(ends, rng.uniform(0.9, 2.0), scene.stage.radius_px, rng.uniform(150, 230))
    return Marred(scene.balls, neck, _nothing)


def _scratch(scene: Scene, rng: np.random.Generator) -> Marred:
    """A px wide, slightly bent, fading in and out; balls are not scratched."""
    points = _path(scene, scene.place(rng), rng, rng.uniform(25, 70), bend=0.01)
    return Marred(scene.balls, marks.scratch(points, rng.uniform(35, 80), rng), _nothing)


def _stain(scene: Scene, rng: np.random.Generator) -> Marred:
    place = scene.clear_place(rng, 1.25 * scene.stage.radius_px)
    return Marred(scene.balls, marks.spot(place, rng.uniform(4, 8), 25.0), _nothing)


def _crack(scene: Scene, rng: np.random.Generator) -> Marred:
    """Dark, kinked, with one or two branches."""
    trunk = marks.kinked(scene.place(rng), rng, rng.uniform(30, 70))
    roots = rng.integers(1, len(trunk) - 1, int(rng.integers(1, 3)))
    twigs = [marks.kinked(trunk[root], rng, rng.uniform(8, 22)) for root in roots]
    keep = float(rng.uniform(0.15, 0.4))
    return Marred(scene.balls, marks.crack([trunk, *twigs], scene.stage.outline, keep), _nothing)


def _chip(scene: Scene, rng: np.random.Generator) -> Marred:
    """A corner of the body broken off, rough and grey."""
    x, y, width, height = scene.stage.outline
    side = rng.integers(0, 2, 2)
    corner = np.array([x, y]) - 0.5 + side * (width, height)
    inward = 1.0 - 2.0 * side
    along, down = rng.uniform(5, 12, 2)
    share = np.linspace(0, 1, 7)[1:-1]
    edge = np.column_stack([along * (1 - share), down * share]) * rng.uniform(0.7, 1.1, (5, 1))
    shape = np.vstack([[0, 0], [along, 0], edge, [0, down]]) * inward + corner
    posed = shape @ scene.pose[:, :2].T + scene.pose[:, 2]
    return Marred(scene.balls, marks.fracture(posed, rng.uniform(85, 150), rng), _nothing)


def _fibre(scene: Scene, rng: np.random.Generator) -> Marred:
    """A bright or dark hair that lies across balls too."""
    start = scene.balls.places[scene.any_ball(rng)] + rng.uniform(-3, 3, 2)
    points = _path(scene, start, rng, rng.uniform(25, 60), bend=0.05)
    level = float(rng.choice((rng.uniform(140, 190), rng.uniform(8, 30))))
    width = float(rng.choice((0.5, 1.0)))
    return Marred(scene.balls, _nothing, marks.hair(points, level, width, rng.uniform(0.6, 0.95)))


def _discoloured(scene: Scene, rng: np.random.Generator) -> Marred:
    """The same shape, darker, without shine."""
    row = scene.any_ball(rng)
    level = scene.balls.levels[row] * rng.uniform(0.55, 0.82)
    return unmarked(scene.balls.changed(row, levels=level, gloss=0.0))


def _smear(scene: Scene, rng: np.random.Generator) -> Marred:
    """Solder dragged away from a ball."""
    row = scene.any_ball(rng)
    length = scene.balls.radii[row] + rng.uniform(6, 13)
    streak = marks.streak(
        scene.balls.places[row],
        length * _heading(rng),
        rng.uniform(1.2, 2.2),
        rng.uniform(110, 190),
    )
    return Marred(scene.balls, streak, _nothing)


def _double_ball(scene: Scene, rng: np.random.Generator) -> Marred:
    """Two small balls where one belongs."""
    row = scene.any_ball(rng)
    count, radius = len(scene.balls.places), scene.balls.radii[row]
    step = radius * rng.uniform(0.55, 0.75) * _heading(rng)
    small = radius * rng.uniform(0.6, 0.72, 2)
    here = scene.balls.places[row]
    balls = scene.balls.taken(np.append(np.arange(count), row))
    balls = balls.changed(row, places=here - step, radii=small[0])
    return unmarked(balls.changed(count, places=here + step, radii=small[1]))


def _tilt(scene: Scene, rng: np.random.Generator) -> Marred:
    """A ball seen from the side: elliptical, its light off the middle."""
    row = scene.any_ball(rng)
    squeeze, turn = rng.uniform(0.68, 0.84), rng.uniform(0, np.pi)
    lean = np.array([rng.uniform(-0.2, 0.2), rng.choice((-1.0, 1.0)) * rng.uniform(0.5, 0.8)])
    level = 0.9 * scene.balls.levels[row]
    return unmarked(scene.balls.changed(row, squeeze=squeeze, turns=turn, lean=lean, levels=level))


def _flux(scene: Scene, rng: np.random.Generator) -> Marred:
    """A faint blotch with a brighter rim, under the balls."""
    blot = marks.blotch(
        scene.place(rng), rng.uniform(5, 10), rng.uniform(4, 8), rng.uniform(16, 26), rng
    )
    return Marred(scene.balls, blot, _nothing)


def _dent(scene: Scene, rng: np.random.Generator) -> Marred:
    """A pit: dark on the side of the lamp, bright on the other."""
    place = scene.clear_place(rng, 1.3 * scene.stage.radius_px)
    pit = marks.pit(place, rng.uniform(1.6, 3.2) * _heading(rng), rng.uniform(36, 55))
    return Marred(scene.balls, pit, _nothing)


def _heading(rng: np.random.Generator) -> Doubles:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])


def _path(
    scene: Scene, start: Doubles, rng: np.random.Generator, length: float, bend: float
) -> Doubles:
    """A bent way within the free area, headed away from the nearest of its sides."""
    x, y, width, height = scene.stage.area
    middle = np.array([x + width / 2, y + height / 2])
    way = marks.bent(start, _heading(rng), length, bend * rng.choice((-1.0, 1.0)), rng)
    if np.any(np.abs(way[-1] - middle) > (width / 2, height / 2)):
        way = 2 * way[0] - way
    return np.clip(way, (x, y), (x + width, y + height))


CLASSICAL: dict[str, Kind] = {
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
UNSEEN: dict[str, Kind] = {
    "crack": _crack,
    "chip": _chip,
    "fibre": _fibre,
    "discoloured": _discoloured,
    "smear": _smear,
    "double_ball": _double_ball,
    "tilt": _tilt,
    "flux": _flux,
    "dent": _dent,
}
"""Families that no training composes."""
KINDS = CLASSICAL | UNSEEN
