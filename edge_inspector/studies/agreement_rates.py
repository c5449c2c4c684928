"""Rates and kappas with their intervals, for studies of how well decisions agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_inspector.studies.metrics import interval

Counts = NDArray[np.int64]
CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Rate:
    """Events of trials with the two-sided 95 % interval of Clopper and Pearson."""

    events: int
    trials: int

    @property
    def value(self) -> float | None:
        """The share, None of nothing."""
        return self.events / self.trials if self.trials else None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Lower and upper end, None of nothing."""
        return interval(self.events, self.trials, CONFIDENCE) if self.trials else None


@dataclass(frozen=True, slots=True)
class Kappa:
    """
    Agreement beyond chance, 1 at most; None where all decisions are the same and it is undefined.

    `bounds` is the 95 % percentile interval over resampled units (Efron, 1979); None where no unit
    disagrees, since resampling cannot show what was never seen.
    """

    value: float | None
    bounds: tuple[float, float] | None


def fleiss(counts: Counts) -> Kappa:
    """
    Kappa of Fleiss (1971) for units judged repeatedly; `counts` is (units, categories).

    Units may differ in their number of judgements, two at least.
    """
    return _with_bounds(counts, _fleiss, bool((counts.max(axis=1) == counts.sum(axis=1)).all()))


def cohen(tables: NDArray[np.int64]) -> Kappa:
    """Kappa of Cohen (1960) of two sides; `tables` is (units, 2, 2), counts of paired decisions."""
    alike = not tables[:, [0, 1], [1, 0]].any()
    return _with_bounds(tables, lambda resampled: _cohen(resampled.sum(axis=-3)), alike)


def _with_bounds(
    units: NDArray[np.int64],
    kappa: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    alike: bool,
) -> Kappa:
    """The kappa of all units, and of units drawn anew from them with replacement."""
    found = float(kappa(units[np.newaxis])[0])
    value = None if np.isnan(found) else found
    if alike or value is None:
        return Kappa(value, None)
    draw = np.random.default_rng(0).integers(0, len(units), (RESAMPLES, len(units)))
    resampled = np.array([kappa(units[rows][np.newaxis])[0] for rows in draw])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(resampled, (tail, 1 - tail))
    return Kappa(value, (float(low), float(high)))


def _fleiss(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Over the last two axes, (units, categories)."""
    judged = counts.sum(axis=-1)
    pairs = (counts * (counts - 1)).sum(axis=-1) / (judged * (judged - 1))
    shares = counts.sum(axis=-2) / judged.sum(axis=-1)[..., np.newaxis]
    return _beyond_chance(pairs.mean(axis=-1), (shares**2).sum(axis=-1))


def _cohen(table: NDArray[np.int64]) -> NDArray[np.float64]:
    """Over the last two axes, one table of both sides."""
    total = table.sum(axis=(-2, -1))
    same = np.trace(table, axis1=-2, axis2=-1) / total
    chance = (table.sum(axis=-1) * table.sum(axis=-2)).sum(axis=-1) / total**2
    return _beyond_chance(same, chance)


def _beyond_chance(same: NDArray[np.float64], chance: NDArray[np.float64]) -> NDArray[np.float64]:
    defined = chance < 1
    beyond = (same - chance) / np.where(defined, 1 - chance, 1.0)
    return np.asarray(np.where(defined, beyond, np.nan), np.float64)
