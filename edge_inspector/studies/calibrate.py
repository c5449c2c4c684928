"""
The threshold of a recipe, from the scores of good units, with the overkill that it promises.

A unit's score is the largest of its regions' normalised scores, so that sixteen regions do not
multiply the overkill. The threshold is an order statistic, so no shape of the scores is assumed
and the promise is exact for units like the ones calibrated with.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_inspector.errors import DataError
from edge_inspector.recipe import Calibration, Scale
from edge_inspector.studies.metrics import binomial_cdf, just_above, upper_bound
from edge_inspector.verdict import scale_key

MAD_TO_SIGMA = 1.4826
SET_ASIDE_SHARE = 0.05
FALSE_ALARM = 0.01
"""How often, per calibration, a good unit may be taken for a defective one."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What a calibration found; `set_aside` and `unit_scores` go by the order of the units."""

    threshold: float
    promised_overkill: float
    provisional: bool
    units: int
    set_aside: tuple[int, ...]
    unit_scores: NDArray[np.float64]
    regions: dict[str, Scale]

    def document(
        self,
        overkill: float,
        confidence: float,
        backend: str,
        engines: Mapping[str, str],
        rules: Mapping[str, str] | None = None,
    ) -> Calibration:
        """The recipe's table; `engines` and `rules` map names to digests."""
        return Calibration(
            threshold=self.threshold,
            overkill=overkill,
            promised_overkill=self.promised_overkill,
            confidence=confidence,
            units=self.units,
            set_aside=len(self.set_aside),
            provisional=self.provisional,
            backend=backend,
            engines=dict(engines),
            rules=dict(rules or {}),
            regions=self.regions,
        )


def calibrate(
    scores: NDArray[np.float64],
    names: Sequence[str],
    overkill: float,
    confidence: float = 0.95,
    both: Collection[str] = (),
) -> Calibrated:
    """
    Threshold on the raw scores of good units, (units, regions), names by column.

    A region named in `both` counts with the smaller score of its engine and its rules.

    The threshold is the smallest that keeps the unit overkill rate at or below `overkill` with
    `confidence`; with too few units it is just above the worst of them, provisional, and promises
    the bound that their number supports. Raises `DataError` for no units or scores not finite.
    """
    if scores.ndim != 2 or scores.shape[1] != len(names) or not scores.size:
        raise DataError(
            f"{scores.shape} scores (units, regions) for {len(names)} regions; "
            "calibration needs at least one good unit"
        )
    if not np.isfinite(scores).all():
        unit, region = np.argwhere(~np.isfinite(scores))[0]
        raise DataError(f"unit {unit}, region '{names[region]}': the score is no finite number")
    regions = {name: _scale(name, column) for name, column in zip(names, scores.T, strict=True)}
    center = np.array([scale.center for scale in regions.values()])
    spread = np.array([scale.spread for scale in regions.values()])
    normalised = dict(zip(names, ((scores - center) / spread).T, strict=True))
    for name in both:
        rules = normalised.pop(scale_key(name, "rules"))
        normalised[name] = np.minimum(normalised[name], rules)
    unit_scores = np.max(list(normalised.values()), axis=0)
    aside = set_aside(unit_scores)
    kept = np.sort(np.delete(unit_scores, aside))
    allowed = exceedances(len(kept), overkill, confidence)
    exceeding = max(allowed, 0)
    return Calibrated(
        threshold=just_above(float(kept[len(kept) - 1 - exceeding])),
        promised_overkill=upper_bound(exceeding, len(kept), confidence),
        provisional=allowed < 0,
        units=len(kept),
        set_aside=tuple(int(index) for index in aside),
        unit_scores=unit_scores,
        regions=regions,
    )


def exceedances(units: int, overkill: float, confidence: float) -> int:
    """
    How many of `units` good units may lie above the threshold; -1 when there are too few.

    The share of all units above the (k+1)-th largest of n is beta distributed with k+1 and n-k,
    so at most `overkill` with `confidence` where P(Bin(n, overkill) <= k) <= 1 - confidence.
    """
    low, high = -1, units
    while high - low > 1:
        middle = (low + high) // 2
        if binomial_cdf(middle, units, overkill) <= 1 - confidence:
            low = middle
        else:
            high = middle
    return low


def units_needed(overkill: float, confidence: float = 0.95) -> int:
    """Good units that the promise needs at least: 299 for 1 %, 2,995 for 0.1 %."""
    return math.ceil(math.log(1 - confidence) / math.log1p(-overkill))


def set_aside(unit_scores: NDArray[np.float64], alarm: float = FALSE_ALARM) -> NDArray[np.intp]:
    """
    Units too far out to be good, worst first, at most 5 % of all; `alarm` as `FALSE_ALARM`.

    The worst k are set aside where the tail of all the others reaches those others but none of
    the k; so there is a gap. A long tail without one, or too many beyond it, is left whole.
    """
    order = np.argsort(unit_scores, kind="stable")
    ordered = unit_scores[order]
    count = len(ordered)
    for k in range(int(SET_ASIDE_SHARE * count), 0, -1):
        if ordered[count - k - 1] <= _reach(ordered[: count - k], alarm) < ordered[count - k]:
            return order[: count - k - 1 : -1]
    return np.empty(0, np.intp)


def _reach(ordered: NDArray[np.float64], alarm: float = FALSE_ALARM) -> float:
    """
    The score that one of these good units would pass in a hundred calibrations, for `alarm` 0.01.

    Extrapolates their 50 %, 80 % and 92 % quantiles (Pickands, 1975), never lighter than an
    exponential tail.
    """
    count, ratio = len(ordered), 2.5
    middle, upper, tail = np.quantile(ordered, (0.5, 0.8, 0.92))
    if tail <= upper or upper <= middle:
        return math.inf
    shape = max(math.log((tail - upper) / (upper - middle)) / math.log(ratio), 1e-6)
    # Quantiles of few units scatter: widen the step by three standard errors.
    step = (tail - upper) * (1 + 3 / math.sqrt(0.2 * count))
    reach = math.log(0.08 * count / alarm)
    return float(tail + step * math.expm1(shape * reach) / -math.expm1(-shape * math.log(ratio)))


def robust_spread(values: NDArray[np.float64]) -> float:
    """1.4826 x median absolute deviation: the standard deviation of a normal distribution."""
    return MAD_TO_SIGMA * float(np.median(np.abs(values - np.median(values))))


LEAST_RULES_SPREAD = 0.05
"""Of the raw score of rules, which is 1 at their own limit."""
RULES_TAIL = 1.2816
"""Standard deviations between the median and the 90th percentile of a normal distribution."""


def _scale(name: str, column: NDArray[np.float64]) -> Scale:
    """
    Median and spread; of rules, with the 90th percentile where that says more.

    Many good units measure exactly nothing, and a heavy tail of what is left should cost the rules
    their sharpness and not, through the shared threshold, the engines theirs.
    """
    center = float(np.median(column))
    if name.endswith(" rules"):
        tail = (float(np.quantile(column, 0.9)) - center) / RULES_TAIL
        return Scale(center=center, spread=max(robust_spread(column), tail, LEAST_RULES_SPREAD))
    return Scale(center=center, spread=max(robust_spread(column), 1e-3 * abs(center), 1e-9))
