"""Which model suits a region: seen on its good crops, and said in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edge_inspector.crops import fit
from edge_inspector.errors import Misuse
from edge_inspector.manifest import Input
from edge_inspector.models.weights import installed
from edge_inspector.records import Box, Pixels
from edge_inspector.training.data import COLOURLESS

LOOKED_AT = 64
SIDE = 64
"""Crops are compared at this size: a part that lies 1 px off at 256 px lies the same way still."""
ALIKE = 0.5
"""Share of what crops show that must be common to all for a part that lies the same way in each."""
SURE_MS = 13.0
"""Of one crop of 256 px on one core (docs/results-anomaly.md)."""
BUDGET_SHARE = 0.5
SIDES = ((80, 64), (160, 128))
"""Median shorter side of the regions up to which crops have this side; beyond, 256 px."""
LONGEST = 2.0
"""Aspect that crops keep at most."""
STEP = 32
"""Sides are multiples of this many px, as every model can take."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A model and why it was taken, in words."""

    model: str
    why: str


def crop_shape(boxes: Sequence[Box], pixels: Pixels) -> Input:
    """Crops that show the regions about as the frame does, 3 channels only where there is colour."""
    short = float(np.median([min(box[2:]) for box in boxes]))
    side = next((side for limit, side in SIDES if short <= limit), 256)
    aspect = float(np.clip(np.median([b[2] / b[3] for b in boxes]), 1 / LONGEST, LONGEST))
    across, down = max(aspect, 1.0), max(1 / aspect, 1.0)
    colour = pixels.ndim == 3 and _colour(pixels) > COLOURLESS
    return Input.model_validate(
        {
            "height": STEP * round(side * down / STEP),
            "width": STEP * round(side * across / STEP),
            "channels": 3 if colour else 1,
        }
    )


def _colour(pixels: Pixels) -> float:
    top = 257.0 if pixels.dtype == np.uint16 else 1.0
    return float(np.ptp(pixels[:, :, :3].astype(np.float32), axis=2).mean() / top)


def common(crops: Sequence[Pixels]) -> float:
    """
    Share of the contrast within crops (h, w) or (h, w, c) that all of them have in common, 0 to 1.

    Near 1 a part lies the same way in each; near 0 each crop shows something else, as a grain does.
    """
    step = max(len(crops) // LOOKED_AT, 1)
    looked = np.stack([fit(crop, SIDE, SIDE, 1) for crop in crops[::step][:LOOKED_AT]])
    soft = np.stack([cv2.GaussianBlur(crop.astype(np.float32), (0, 0), 1.0) for crop in looked])
    soft -= soft.mean(axis=(1, 2), keepdims=True)
    count = len(soft)
    power = float(soft.var(axis=(1, 2)).mean())
    if count < 2 or power < 1e-3:
        return 0.0
    # The mean of n crops that have nothing in common still has 1/n of their power.
    shared = (count * float(soft.mean(axis=0).var()) - power) / (count - 1)
    return min(max(shared / power, 0.0), 1.0)


def choose(crops: Sequence[Pixels], shape: Input, per_unit: int, budget_ms: float) -> Choice:
    """The model for crops of this shape, `per_unit` of them in each unit."""
    alike = common(crops)
    seen = f"{alike:.0%} of what the crops show is common to all"
    if alike >= ALIKE:
        return Choice("sensitive", f"{seen}: a part that lies the same way in each")
    cost = SURE_MS * shape.height * shape.width / 256**2 * per_unit
    varies = f"{seen}: what is seen varies"
    if cost > BUDGET_SHARE * budget_ms:
        return Choice(
            "sensitive",
            f"{varies}, and 'sure' would suit it, but {per_unit} crops would take it {cost:.0f} ms "
            f"of the {budget_ms:g} ms there are; fewer regions or more time would help",
        )
    try:
        installed()
    except Misuse as absent:
        return Choice("sensitive", f"{varies}, and 'sure' would suit it, but {absent}")
    return Choice("sure", f"{varies}, as a surface's does")
