"""The threshold of a recipe that observes, set anew by the larger sample of units that ran since."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tomlkit

from edge_inspector.errors import Misuse
from edge_inspector.recipe import Calibration, Recipe
from edge_inspector.studies.calibrate import exceedances, set_aside
from edge_inspector.studies.metrics import just_above, upper_bound

HALF_STEP = 0.5e-4
"""Verdicts hold scores rounded to four places; a threshold must lie above what was rounded down."""


def tighten(recipe: Recipe, scores: Sequence[float], *, loosen: bool = False) -> Calibration:
    """
    The recipe's calibration with threshold and promise of these good units' scores.

    Scales stay, so that scores before and after compare. The threshold is the smallest that keeps
    what was asked for, and where that lies above the one in force, it is refused without `loosen`:
    it would let more through. Raises `Misuse`, with the numbers.
    """
    old = recipe.calibration
    if old is None:
        raise Misuse(f"recipe '{recipe.product}' has no threshold; run 'edge-inspector calibrate'")
    if len(scores) <= old.units:
        raise Misuse(
            f"{len(scores)} good units were observed and the threshold rests on {old.units} "
            "already; observe more of them, then tighten"
        )
    values = np.asarray(scores, np.float64)
    aside = set_aside(values)
    kept = np.sort(np.delete(values, aside))
    allowed = exceedances(len(kept), old.overkill, old.confidence)
    exceeding = max(allowed, 0)
    threshold = just_above(float(kept[len(kept) - 1 - exceeding]) + HALF_STEP)
    above = int((kept >= old.threshold).sum())
    if threshold > old.threshold and not loosen:
        raise Misuse(
            f"{above} of {len(kept)} good units lie at or above the threshold {old.threshold:.4g}, "
            f"{exceeding} may for {old.overkill:.3g} overkill; that takes {threshold:.4g}, which "
            "lets more through: look at them (--html), --confirm the defective ones, or --loosen"
        )
    return old.model_copy(
        update={
            "threshold": threshold,
            "promised_overkill": upper_bound(exceeding, len(kept), old.confidence),
            "units": len(kept),
            "set_aside": len(aside),
            "provisional": allowed < 0,
        }
    )


def write_threshold(document: tomlkit.TOMLDocument, calibration: Calibration) -> None:
    """Put what `tighten` changes into the recipe's document."""
    table = document["calibration"]
    assert isinstance(table, dict)
    keys = {"threshold", "promised_overkill", "units", "set_aside", "provisional"}
    table.update(calibration.model_dump(mode="json", include=keys))
