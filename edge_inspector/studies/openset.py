"""
Defects of a kind that training never showed: the limits that call them unknown, and their figures.

Limits are set on validation crops of known classes only, never on a crop of the unknown kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_inspector.errors import DataError
from edge_inspector.manifest import Strange, Tail, Unknown
from edge_inspector.scorers.unknown import (
    REFUSED_DEFECTS,
    REFUSED_GOOD,
    Floats,
    doubt,
    looks_good,
    oddness,
    strangeness,
)
from edge_inspector.studies import metrics
from edge_inspector.studies.dataset import is_good

HIGH = 0.98
"""Quantile that gives a tail its scale."""
FINEST = 1e-3
"""Of a scale: what runtimes may differ by in a probability is no surprise."""
CURVE = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
FEWEST = 20
"""Validation crops that a limit needs."""


def operating_point(
    labels: Sequence[str],
    classes: Sequence[str],
    probabilities: Floats,
    novelty: Floats,
    anomaly: Floats | None = None,
    *,
    refused_good: float = REFUSED_GOOD,
    refused_defects: float = REFUSED_DEFECTS,
) -> Unknown:
    """
    The limits that call these shares of known crops unknown; `labels` (n,) of the validation split.

    Probabilities (n, k) in the order of `classes`, novelty and anomaly (n,); the anomaly counts for
    crops that look good, known defects have it too. Raises `DataError` for too few crops.
    """
    good = np.array([is_good(label) for label in labels], np.bool_)
    seen_good = looks_good(classes, probabilities)
    normals, defects = good & seen_good, ~good & ~seen_good
    if max(normals.sum(), defects.sum()) < FEWEST:
        raise DataError(
            f"{normals.sum()} good validation crops that look good and {defects.sum()} defective "
            f"ones that look so; a limit of 'unknown' needs {FEWEST} of a kind, give more"
        )
    beside = None if anomaly is None else anomaly[normals]
    return Unknown(
        good=_limit(probabilities[normals], novelty[normals], beside, refused_good),
        defects=_limit(probabilities[defects], novelty[defects], None, refused_defects),
    )


def _limit(
    probabilities: Floats, novelty: Floats, anomaly: Floats | None, refused: float
) -> Strange | None:
    """The limit of crops that look alike; None where there are too few of them."""
    if len(novelty) < FEWEST:
        return None
    draft = Strange(
        limit=1.0,
        doubt=tail(doubt(probabilities)),
        novelty=tail(novelty),
        anomaly=None if anomaly is None else tail(anomaly),
        crops=len(novelty),
        refused=0.0,
    )
    strange = strangeness(draft, probabilities, novelty, anomaly)
    limit = max(metrics.threshold_at(strange, refused), FINEST)
    return draft.model_copy(
        update={"limit": limit, "refused": float((strange >= limit).mean())},
    )


def tail(values: Floats) -> Tail:
    """Median, and the step over which the upper tail falls e-fold, of known crops' evidence."""
    usual, high = np.quantile(values, (0.5, HIGH))
    step = (high - usual) / math.log(0.5 / (1 - HIGH))
    return Tail(usual=float(usual), scale=max(float(step), FINEST))


def drift_figures(
    limits: Unknown,
    label: str,
    labels: Sequence[str],
    classes: Sequence[str],
    probabilities: Floats,
    novelty: Floats,
    anomaly: Floats | None = None,
) -> dict[str, Any]:
    """
    How well the crops of `label`, a class that training lacked, are told to be unknown.

    Arrays (n, k), (n,), (n,) over the tested split. Raises `DataError` where `label` is no drift.
    """
    held_out = np.array([name == label for name in labels], np.bool_)
    if label in classes or not held_out.any():
        what = "is a class of this engine" if label in classes else "has no image in this split"
        raise DataError(
            f"'{label}' {what}; the kind that is to be unknown must be in the data and absent from "
            "training"
        )
    odd = oddness(limits, classes, probabilities, novelty, anomaly)
    shown_as = np.array(classes)[probabilities.argmax(axis=1)]
    good = np.array([is_good(name) for name in labels], np.bool_)
    return {
        "label": label,
        "count": int(held_out.sum()),
        **metrics.confusion(odd, held_out, 1.0),
        "auroc": metrics.auroc(odd, held_out),
        "average_precision": metrics.average_precision(odd, held_out),
        "best_f1_possible": best_f1(odd, held_out),
        "refused_good": _share(odd[good] >= 1),
        "refused_defects": _share(odd[~good & ~held_out] >= 1),
        "recall_at_refused": recalls(odd, held_out),
        "looked_like": {name: int((shown_as[held_out] == name).sum()) for name in classes},
    }


def best_f1(odd: Floats, held_out: NDArray[np.bool_]) -> float:
    """The F1 of the best limit there is, known only to who has seen the unknown kind."""
    best = metrics.best_f1_threshold(odd, held_out)
    return metrics.confusion(odd, held_out, best)["f1"]


def recalls(odd: Floats, held_out: NDArray[np.bool_]) -> dict[str, float]:
    """The curve: recall of the unknown kind where a share of these known crops is refused."""
    return {
        f"{share:g}": float((odd[held_out] >= metrics.threshold_at(odd[~held_out], share)).mean())
        for share in CURVE
    }


def _share(refused: NDArray[np.bool_]) -> float:
    return float(refused.mean()) if len(refused) else math.nan
