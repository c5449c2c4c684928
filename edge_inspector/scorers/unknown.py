"""
Whether a crop shows a kind of defect that training never showed: doubt, novelty and anomaly.

Each kind of evidence becomes a surprise, about -ln of the share of known crops that reach it, and
the surprises are summed (Fisher's method of combining tests). Crops that look good and crops that
look like a known defect have limits of their own: of the first a refusal may cost a good unit, of
the others only the name.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_inspector.manifest import GOOD, Strange, Tail, Unknown

UNKNOWN = "unknown"
REFUSED_GOOD, REFUSED_DEFECTS = 0.005, 0.05
"""Shares of known crops that may be called unknown, of those that look good and of the others."""
Floats = NDArray[np.float64]


def is_unknown(
    limits: Unknown,
    classes: Sequence[str],
    probabilities: ArrayLike,
    novelty: float,
    anomaly: float | None,
) -> bool:
    """
    Whether a crop is of none of `classes`; `probabilities` (k,), `novelty` higher is stranger.

    `anomaly` is the deviation of the anomaly engine's score in spreads of good crops, None without.
    """
    shares = np.asarray(probabilities, np.float64)[None]
    deviations = None if anomaly is None else np.array([anomaly])
    return bool(oddness(limits, classes, shares, np.array([novelty]), deviations)[0] >= 1)


def oddness(
    limits: Unknown,
    classes: Sequence[str],
    probabilities: Floats,
    novelty: Floats,
    anomaly: Floats | None,
) -> Floats:
    """Strangeness (n,) in shares of the limit, 1 and above is unknown; of probabilities (n, k)."""
    odd = np.zeros(len(novelty))
    good = looks_good(classes, probabilities)
    for alike, strange in ((good, limits.good), (~good, limits.defects)):
        if strange is not None:
            beside = None if anomaly is None else anomaly[alike]
            found = strangeness(strange, probabilities[alike], novelty[alike], beside)
            odd[alike] = found / strange.limit
    return odd


def certainty(odd: float) -> float:
    """Share of known defects that are less strange, about: their tail falls e-fold in each step."""
    return 1 - float(REFUSED_DEFECTS**odd)


def strangeness(
    strange: Strange, probabilities: Floats, novelty: Floats, anomaly: Floats | None
) -> Floats:
    """Summed surprise (n,) of crops with these probabilities (n, k), novelty and anomaly (n,)."""
    total = surprise(strange.doubt, doubt(probabilities)) + surprise(strange.novelty, novelty)
    if strange.anomaly is not None and anomaly is not None:
        total = total + surprise(strange.anomaly, anomaly)
    return total


def looks_good(classes: Sequence[str], probabilities: Floats) -> NDArray[np.bool_]:
    """Which crops (n,) have the good class as the most probable."""
    good: NDArray[np.bool_] = np.isin(np.array(classes)[probabilities.argmax(axis=1)], GOOD)
    return good


def doubt(probabilities: Floats) -> Floats:
    """1 - probability of the most probable class, (n,)."""
    best: Floats = probabilities.max(axis=1)
    return 1 - best


def surprise(tail: Tail, values: Floats) -> Floats:
    """How far above the usual, in steps over which the tail of known crops falls e-fold."""
    return np.maximum((values - tail.usual) / tail.scale, 0.0)
