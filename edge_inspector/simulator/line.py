"""A simulated line: units in order, good and defective, each known by its number."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edge_inspector.errors import Misuse
from edge_inspector.records import Box, Pixels
from edge_inspector.simulator import package
from edge_inspector.simulator.defects import DEFECTS, GOOD
from edge_inspector.simulator.parts import NORMAL, Composed, Variation, compose

KINDS = ("missing", "extra", "pitch", "size", "bridge")


@dataclass(frozen=True, slots=True)
class SimulatedUnit:
    """One unit of the line with its truth; `label` is `good` or the kind of defect."""

    unit_id: str
    trigger_id: int
    pixels: Pixels
    label: str
    box: Box | None


class LinePlayer:
    """
    Ball grids from a seed, the same ones each time.

    With `pool` only that many different frames are drawn, for load generators: what is measured
    then is the inspection, not the drawing.
    """

    def __init__(
        self,
        seed: int = 1,
        defect_rate: float = 0.1,
        kinds: Sequence[str] = KINDS,
        *,
        pool: int = 0,
        variation: Variation = NORMAL,
        known: Collection[str] = DEFECTS,
    ) -> None:
        if unknown := [kind for kind in kinds if kind not in known]:
            raise Misuse(f"unknown defect '{unknown[0]}'; known: {', '.join(known)}")
        if not 0 <= defect_rate <= 1:
            raise Misuse(f"defect rate {defect_rate}; it lies within 0 and 1")
        self._seed = seed
        self._defect_rate = defect_rate
        self._kinds = tuple(kinds)
        self._variation = variation
        self._pool = [self._draw(number) for number in range(1, pool + 1)]

    def __iter__(self) -> Iterator[SimulatedUnit]:
        number = 0
        while True:
            number += 1
            yield self.unit(number)

    def unit(self, number: int) -> SimulatedUnit:
        """Unit `number`, from 1."""
        made = self._pool[(number - 1) % len(self._pool)] if self._pool else self._draw(number)
        unit_id = f"s{self._seed}-{number:08d}"
        return SimulatedUnit(unit_id, number, made.pixels, made.label, made.box)

    def _draw(self, number: int) -> Composed:
        rng = np.random.default_rng([self._seed, number])
        defective = bool(self._kinds) and rng.random() < self._defect_rate
        kind = str(rng.choice(self._kinds)) if defective else GOOD
        return self._compose(rng, kind)

    def _compose(self, rng: np.random.Generator, kind: str) -> Composed:
        return compose(package.parts(), rng, self._variation, kind)
