"""
Whether a defect is of a kind that training never showed: doubt, novelty and anomaly together.

Each kind of evidence becomes a surprise, about -ln of the share of known crops that reach it, and
the surprises are summed (Fisher's method of combining tests).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_inspector.manifest import Tail, Unknown

UNKNOWN = "unknown"
Floats = NDArray[np.float64]


def is_unknown(
    limits: Unknown,
    classes: Sequence[str],
    probabilities: ArrayLike,
    novelty: float,
    anomaly: float | None,
) -> bool:
    """
    Whether a crop is of none of `classes`, by the (k,) `probabilities` and (), higher is stranger.

    `anomaly` is the deviation of the anomaly engine's score in spreads of good crops, None without.
    """
    shares = np.asarray(probabilities, np.float64)[None]
    deviations = None if anomaly is None else np.array([anomaly])
    return bool(strangeness(limits, shares, np.array([novelty]), deviations)[0] >= limits.limit)


def strangeness(
    limits: Unknown, probabilities: Floats, novelty: Floats, anomaly: Floats | None
) -> Floats:
    """Summed surprise (n,) of crops with these probabilities (n, k), novelty and anomaly (n,)."""
    total = surprise(limits.doubt, doubt(probabilities)) + surprise(limits.novelty, novelty)
    if limits.anomaly is not None and anomaly is not None:
        total = total + surprise(limits.anomaly, anomaly)
    return total


def doubt(probabilities: Floats) -> Floats:
    """1 - probability of the most probable class, (n,)."""
    best: Floats = probabilities.max(axis=1)
    return 1 - best


def surprise(tail: Tail, values: Floats) -> Floats:
    """How far above the usual, in units in which the tail of known crops falls e-fold."""
    return np.maximum((values - tail.usual) / tail.scale, 0.0)
