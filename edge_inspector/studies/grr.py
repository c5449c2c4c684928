"""
Attribute agreement study: how well repeated verdicts on the same units agree.

After AIAG, Measurement Systems Analysis, 4th edition (2010), chapter III section C: within each
appraiser, between appraisers, and against the reference. An appraiser is a station with one
version of its recipe. What counts is what a line acts on: passed or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from edge_inspector.errors import DataError
from edge_inspector.records import Outcome
from edge_inspector.studies.agreement_rates import Kappa, Rate, cohen, fleiss

LIMITS = {"acceptable": (0.90, 0.02, 0.05), "marginal": (0.80, 0.05, 0.10)}
"""Least effectiveness, largest miss rate, largest false alarm rate: the handbook's table."""
GOOD_KAPPA, POOR_KAPPA = 0.75, 0.40
"""The handbook: above, good to excellent agreement; below, poor."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """One verdict on a unit that may be judged again; `score` where there was one."""

    unit: str
    appraiser: str
    outcome: Outcome
    score: float | None = None

    @property
    def passed(self) -> bool:
        """What the line acts on."""
        return self.outcome is Outcome.PASS


@dataclass(frozen=True, slots=True)
class Against:
    """
    One appraiser against the reference.

    `effectiveness` counts units that were judged right each time; `miss` decisions that passed a
    defective unit, `false_alarm` decisions that did not pass a good one. Decisions on one unit
    depend on each other, so the intervals of the last two are narrower than the truth.
    """

    effectiveness: Rate
    miss: Rate
    false_alarm: Rate
    kappa: Kappa

    @property
    def grade(self) -> str:
        """acceptable, marginal or unacceptable by the handbook's table; unknown without both kinds."""
        found = (self.effectiveness.value, self.miss.value, self.false_alarm.value)
        right, miss, alarm = found
        if right is None or miss is None or alarm is None:
            return "unknown"
        for grade, (least, most_missed, most_alarms) in LIMITS.items():
            if right >= least and miss <= most_missed and alarm <= most_alarms:
                return grade
        return "unacceptable"


@dataclass(frozen=True, slots=True)
class Appraiser:
    """One appraiser with itself; `score_spread` is the pooled standard deviation within units."""

    name: str
    units: int
    judgements: int
    uninspected: int
    within: Rate
    kappa: Kappa
    score_spread: float | None
    against: Against | None


@dataclass(frozen=True, slots=True)
class Between:
    """Two appraisers: units on which all their judgements agree, and the k-th with the k-th."""

    names: tuple[str, str]
    agreed: Rate
    kappa: Kappa


@dataclass(frozen=True, slots=True)
class Study:
    """All of it; `torn` are the units that were judged both ways, with how often each."""

    appraisers: tuple[Appraiser, ...]
    between: tuple[Between, ...]
    torn: tuple[tuple[str, dict[str, int]], ...]
    single: int
    """Units judged once by everybody, which say nothing about repeating."""


By = Mapping[str, Mapping[str, Sequence[Judgement]]]
"""Appraiser, unit, judgements in order."""


def study(judgements: Sequence[Judgement], reference: Mapping[str, bool]) -> Study:
    """
    The study; `reference` says of units whether they are good, of none where it is empty.

    Raises `DataError` where no unit was judged twice by the same appraiser.
    """
    by: dict[str, dict[str, list[Judgement]]] = {}
    for one in judgements:
        by.setdefault(one.appraiser, {}).setdefault(one.unit, []).append(one)
    repeated = {
        name: {unit: found for unit, found in units.items() if len(found) > 1}
        for name, units in by.items()
    }
    units = {one.unit for one in judgements}
    if not any(repeated.values()):
        raise DataError(
            f"none of {len(units)} units was judged twice by the same station and recipe version; "
            "show the same units again under the same serial, or as 'ID#2', 'ID#3'"
        )
    again = {unit for found in repeated.values() for unit in found}
    return Study(
        appraisers=tuple(_appraiser(n, found, reference) for n, found in repeated.items() if found),
        between=tuple(_between(by, *pair) for pair in combinations(by, 2) if _shared(by, *pair)),
        torn=_torn(judgements),
        single=len(units - again),
    )


def _appraiser(
    name: str, units: Mapping[str, Sequence[Judgement]], reference: Mapping[str, bool]
) -> Appraiser:
    judged = [one for found in units.values() for one in found]
    counts = np.array([_counts(found) for found in units.values()], np.int64)
    known = {unit: found for unit, found in units.items() if unit in reference}
    return Appraiser(
        name=name,
        units=len(units),
        judgements=len(judged),
        uninspected=sum(one.outcome is Outcome.UNINSPECTED for one in judged),
        within=Rate(int((counts.min(axis=1) == 0).sum()), len(counts)),
        kappa=fleiss(counts),
        score_spread=_score_spread(list(units.values())),
        against=_against(known, reference) if known else None,
    )


def _counts(found: Sequence[Judgement]) -> tuple[int, int]:
    """How often not passed, and how often passed."""
    passed = sum(one.passed for one in found)
    return len(found) - passed, passed


def _against(units: Mapping[str, Sequence[Judgement]], reference: Mapping[str, bool]) -> Against:
    counts = {unit: _counts(found) for unit, found in units.items()}
    good = [both for unit, both in counts.items() if reference[unit]]
    bad = [both for unit, both in counts.items() if not reference[unit]]
    right = sum(failed == 0 for failed, _ in good) + sum(passed == 0 for _, passed in bad)
    tables = np.zeros((len(counts), 2, 2), np.int64)
    for row, (unit, both) in enumerate(counts.items()):
        tables[row, int(reference[unit])] = both
    return Against(
        effectiveness=Rate(right, len(counts)),
        miss=Rate(sum(passed for _, passed in bad), sum(map(sum, bad))),
        false_alarm=Rate(sum(failed for failed, _ in good), sum(map(sum, good))),
        kappa=cohen(tables),
    )


def _shared(by: By, one: str, other: str) -> list[str]:
    return [unit for unit in by[one] if unit in by[other]]


def _between(by: By, one: str, other: str) -> Between:
    shared = _shared(by, one, other)
    tables = np.zeros((len(shared), 2, 2), np.int64)
    agreed = 0
    for row, unit in enumerate(shared):
        ours, theirs = by[one][unit], by[other][unit]
        for mine, yours in zip(
            ours, theirs, strict=False
        ):  # the k-th with the k-th, as far as both go
            tables[row, int(mine.passed), int(yours.passed)] += 1
        agreed += len({judged.passed for judged in (*ours, *theirs)}) == 1
    return Between((one, other), Rate(agreed, len(shared)), cohen(tables))


def _torn(judgements: Sequence[Judgement]) -> tuple[tuple[str, dict[str, int]], ...]:
    said: dict[str, dict[str, int]] = {}
    for one in judgements:
        counts = said.setdefault(one.unit, {})
        counts[one.outcome.value] = counts.get(one.outcome.value, 0) + 1
    both = [
        (unit, counts)
        for unit, counts in said.items()
        if 0 < counts.get("pass", 0) < sum(counts.values())
    ]
    return tuple(both)


def _score_spread(units: Sequence[Sequence[Judgement]]) -> float | None:
    """Root of the mean variance within units, over units with two scores or more."""
    scores: list[NDArray[np.float64]] = [
        np.array([one.score for one in found if one.score is not None], np.float64)
        for found in units
    ]
    variances = [float(one.var(ddof=1)) for one in scores if len(one) > 1]
    return float(np.sqrt(fmean(variances))) if variances else None
