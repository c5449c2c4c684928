"""
Defects of a kind that training never showed: the limit that calls them unknown, and its figures.

The limit is set on validation crops of known classes only, never on a crop of the unknown kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_inspector.errors import DataError
from edge_inspector.manifest import Tail, Unknown
from edge_inspector.scorers.unknown import Floats, doubt, strangeness
from edge_inspector.studies import metrics
from edge_inspector.studies.dataset import is_good

REFUSED = 0.02
"""Share of known validation crops, good and of each known defect alike, that may be refused."""
HIGH = 0.98
"""Quantile that gives a tail its scale."""
FEWEST = 20


def operating_point(
    labels: Sequence[str],
    probabilities: Floats,
    novelty: Floats,
    anomaly: Floats | None = None,
    *,
    refused: float = REFUSED,
) -> Unknown:
    """
    The limit that calls `refused` of these known crops unknown; from the validation split.

    Probabilities (n, k), novelty and anomaly (n,). Raises `DataError` for too few crops.
    """
    if len(labels) < FEWEST:
        raise DataError(
            f"{len(labels)} validation crops; the limit of 'unknown' needs {FEWEST}, give more"
        )
    good = np.array([is_good(label) for label in labels], np.bool_)
    draft = Unknown(
        limit=0,
        doubt=tail(doubt(probabilities)),
        novelty=tail(novelty),
        anomaly=None if anomaly is None else tail(anomaly),
        refused_defects=0,
        refused_good=0,
    )
    strange = strangeness(draft, probabilities, novelty, anomaly)
    limit = metrics.threshold_at(strange, refused)
    over = strange >= limit
    return draft.model_copy(
        update={
            "limit": limit,
            "refused_defects": float(over[~good].mean()) if (~good).any() else 0.0,
            "refused_good": float(over[good].mean()) if good.any() else 0.0,
        }
    )


def tail(values: Floats) -> Tail:
    """Median, and the step over which the upper tail falls e-fold, of known crops' evidence."""
    usual, high = np.quantile(values, (0.5, HIGH))
    step = (high - usual) / math.log(0.5 / (1 - HIGH))
    return Tail(usual=float(usual), scale=max(float(step), 1e-9))


def open_set_figures(
    limits: Unknown,
    held_out: NDArray[np.bool_],
    probabilities: Floats,
    novelty: Floats,
    anomaly: Floats | None = None,
) -> dict[str, Any]:
    """F1, precision and recall of `unknown` where `held_out` (n,) marks crops of the unknown kind."""
    strange = strangeness(limits, probabilities, novelty, anomaly)
    return {
        "auroc": metrics.auroc(strange, held_out),
        "average_precision": metrics.average_precision(strange, held_out),
        "limit": limits.limit,
        **metrics.confusion(strange, held_out, limits.limit),
    }
