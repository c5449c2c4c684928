"""
How this station and another inspection of the same units agree, in figures: pure functions.

The other side is the incumbent, the recipe's rules or its shadow. Where both judged, the two shares
of rejects are compared by McNemar's exact test; what neither or one could judge is counted apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from edge_inspector.records import Outcome
from edge_inspector.studies.metrics import binomial_cdf, interval

JUDGED = (Outcome.PASS, Outcome.FAIL)
CURVE_POINTS = 80
"""Spread over all units, and as many at the upper end, where thresholds lie."""


@dataclass(frozen=True, slots=True)
class Pair:
    """
    A unit with both verdicts; `theirs` is None where the other side gave none.

    `score` compares with the recipe's threshold, None where no scaled evidence spoke; `confirmed`
    says that a person found the unit defective.
    """

    unit_key: str
    vseq: int
    settled_utc_ns: int
    ours: Outcome
    our_class: str | None
    detail: str
    our_ms: float
    score: float | None = None
    theirs: Outcome | None = None
    their_class: str | None = None
    their_ms: float | None = None
    confirmed: bool = False

    @property
    def judged(self) -> bool:
        """Whether both sides said pass or fail."""
        return self.ours in JUDGED and self.theirs in JUDGED

    @property
    def disagrees(self) -> bool:
        """Whether one side let the unit through and the other one failed it."""
        return self.judged and self.ours is not self.theirs


@dataclass(frozen=True, slots=True)
class Point:
    """What would have happened at a threshold, as shares of the units that the other side judged."""

    threshold: float
    rejected: float
    """Of the units that the other side passed."""
    caught: float
    """Of the units that the other side failed."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """The two sides over all pairs; `table` goes by (ours, theirs)."""

    table: dict[tuple[Outcome, Outcome], int]
    unanswered: int
    share: tuple[float, float, float] | None
    """Agreement where both judged, with its 95 % interval (Clopper and Pearson, 1934)."""
    p_value: float | None
    """McNemar's exact test (1947): how likely so uneven disagreements are by chance."""
    our_ms: tuple[float, float] | None
    their_ms: tuple[float, float] | None
    """Median and 99th percentile from time zero."""
    confirmed: int
    """Of the units that only this station failed, how many a person found defective."""
    curve: tuple[Point, ...]

    @property
    def judged(self) -> int:
        """Units that both sides passed or failed."""
        return sum(self.table.get((a, b), 0) for a in JUDGED for b in JUDGED)

    @property
    def only_ours(self) -> int:
        """Units that this station alone failed."""
        return self.table.get((Outcome.FAIL, Outcome.PASS), 0)

    @property
    def only_theirs(self) -> int:
        """Units that the other side alone failed."""
        return self.table.get((Outcome.PASS, Outcome.FAIL), 0)


def agree(pairs: Sequence[Pair]) -> Agreement:
    """The report over these units."""
    table = Counter((pair.ours, pair.theirs) for pair in pairs if pair.theirs is not None)
    judged = [pair for pair in pairs if pair.judged]
    apart = [pair for pair in judged if pair.disagrees]
    ours = sum(pair.ours is Outcome.FAIL for pair in apart)
    same = len(judged) - len(apart)
    return Agreement(
        table={(a, b): count for (a, b), count in table.items() if b is not None},
        unanswered=sum(pair.theirs is None for pair in pairs),
        share=(same / len(judged), *interval(same, len(judged))) if judged else None,
        p_value=mcnemar(ours, len(apart) - ours) if judged else None,
        our_ms=_percentiles(pair.our_ms for pair in pairs),
        their_ms=_percentiles(pair.their_ms for pair in pairs if pair.their_ms is not None),
        confirmed=sum(pair.confirmed for pair in apart if pair.ours is Outcome.FAIL),
        curve=curve(pairs),
    )


def mcnemar(only_one: int, only_other: int) -> float:
    """Two-sided p-value of McNemar's test, exact: under no difference each way is as likely."""
    fewer, apart = min(only_one, only_other), only_one + only_other
    return min(1.0, 2 * binomial_cdf(fewer, apart, 0.5))


def curve(pairs: Iterable[Pair]) -> tuple[Point, ...]:
    """Rejects and catches by threshold, ascending; empty where no unit has both score and verdict."""
    scored = [(p.score, p.theirs) for p in pairs if p.score is not None and p.theirs in JUDGED]
    if not scored:
        return ()
    scores = np.array([score for score, _ in scored], np.float64)
    failed = np.array([theirs is Outcome.FAIL for _, theirs in scored], np.bool_)
    spread = np.quantile(scores, np.linspace(0, 1, CURVE_POINTS), method="nearest")
    steps = np.unique(np.concatenate([spread, np.sort(scores)[-CURVE_POINTS:]]))
    return tuple(
        Point(float(t), _share(scores[~failed] >= t), _share(scores[failed] >= t)) for t in steps
    )


def good_scores(pairs: Iterable[Pair]) -> list[float]:
    """Scores of the units that count as good: the other side passed them, nobody found a defect."""
    return [
        pair.score
        for pair in pairs
        if pair.theirs is Outcome.PASS and not pair.confirmed and pair.score is not None
    ]


def _share(hits: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    return float(hits.mean()) if hits.size else 0.0


def _percentiles(values: Iterable[float]) -> tuple[float, float] | None:
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
