"""Figures of detection, in numpy alone: higher scores are worse, `bad` marks defective units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def auroc(scores: ArrayLike, bad: ArrayLike) -> float:
    """
    Probability that a bad unit scores higher than a good one, ties counting half.

    NaN where either kind is absent.
    """
    values, truth = _pair(scores, bad)
    good, worse = np.sort(values[~truth]), values[truth]
    if not good.size or not worse.size:
        return math.nan
    below = np.searchsorted(good, worse, "left") + np.searchsorted(good, worse, "right")
    return float(below.mean() / 2 / good.size)


def average_precision(scores: ArrayLike, bad: ArrayLike) -> float:
    """Sum of precision times the step in recall over all thresholds; NaN without bad units."""
    values, truth = _pair(scores, bad)
    if not truth.any():
        return math.nan
    _, hits, flagged = _steps(values, truth)
    return float(np.sum(np.diff(hits, prepend=0) * hits / flagged) / truth.sum())


def best_f1_threshold(scores: ArrayLike, bad: ArrayLike) -> float:
    """The score at or above which to fail for the largest F1; choose it on validation units only."""
    values, truth = _pair(scores, bad)
    thresholds, hits, flagged = _steps(values, truth)
    return float(thresholds[np.argmax(2 * hits / (flagged + truth.sum()))])


def confusion(scores: ArrayLike, bad: ArrayLike, threshold: float) -> dict[str, float]:
    """Precision, recall, F1, overkill and escape rate when failing at or above `threshold`."""
    values, truth = _pair(scores, bad)
    failed = values >= threshold
    hits, overkill = int((failed & truth).sum()), int((failed & ~truth).sum())
    n_bad, n_good = int(truth.sum()), int((~truth).sum())
    recall = _ratio(hits, n_bad)
    return {
        "f1": _ratio(2 * hits, 2 * hits + overkill + n_bad - hits),
        "precision": _ratio(hits, hits + overkill),
        "recall": recall,
        "overkill_rate": _ratio(overkill, n_good),
        "escape_rate": 1 - recall,
    }


def threshold_at(good_scores: ArrayLike, overkill: float) -> float:
    """The smallest threshold that fails at most this share of these good units."""
    values = np.sort(np.asarray(good_scores, np.float64))
    allowed = math.floor(overkill * values.size + 1e-9)
    return just_above(float(values[max(values.size - 1 - allowed, 0)]))


def just_above(value: float) -> float:
    """The next larger number: a threshold that `value` itself does not reach."""
    return math.nextafter(value, math.inf)


def binomial_cdf(k: int, n: int, p: float) -> float:
    """Probability of at most `k` events in `n` trials."""
    if k >= n or p <= 0:
        return 1.0
    if k < 0 or p >= 1:
        return 0.0
    i = np.arange(1, k + 1, dtype=np.float64)
    logs = np.cumsum(np.log((n - i + 1) / i)) + i * math.log(p) + (n - i) * math.log1p(-p)
    return float(min(1.0, math.exp(n * math.log1p(-p)) + np.exp(logs).sum()))


def upper_bound(events: int, trials: int, confidence: float = 0.95) -> float:
    """One-sided upper bound of Clopper and Pearson (1934) on a rate."""
    if events >= trials:
        return 1.0
    if events == 0:
        return -math.expm1(math.log1p(-confidence) / trials)
    return _bisect(events, trials, 1 - confidence)


def lower_bound(events: int, trials: int, confidence: float = 0.95) -> float:
    """One-sided lower bound of Clopper and Pearson (1934) on a rate."""
    return 1 - upper_bound(trials - events, trials, confidence)


def interval(events: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided interval of Clopper and Pearson (1934) on a rate."""
    side = (1 + confidence) / 2
    return lower_bound(events, trials, side), upper_bound(events, trials, side)


def _bisect(events: int, trials: int, tail: float) -> float:
    low, high = events / trials, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if binomial_cdf(events, trials, middle) > tail:
            low = middle
        else:
            high = middle
    return high


def _steps(values: Floats, truth: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Distinct thresholds from high to low, with bad and all units at or above each."""
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    last = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    hits = np.cumsum(truth[order])[last].astype(np.float64)
    return ordered[last], hits, (last + 1).astype(np.float64)


def _pair(scores: ArrayLike, bad: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    values, truth = np.asarray(scores, np.float64), np.asarray(bad, np.bool_)
    if values.shape != truth.shape or values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"{values.shape} finite scores for {truth.shape} labels")
    return values, truth


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def rounded(value: Any, digits: int) -> Any:
    """A report with its floats rounded and NaN as None, as JSON knows none."""
    if isinstance(value, dict):
        return {key: rounded(inner, digits) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner, digits) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value
