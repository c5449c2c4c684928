"""Limits of frame quality from good units: their own range, with room beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from edge_inspector.errors import Uninspectable
from edge_inspector.inspector import Inspector
from edge_inspector.quality import cause
from edge_inspector.recipe import FrameQuality, Measure
from edge_inspector.studies.calibrate import robust_spread
from edge_inspector.studies.calibrate_recipe import file_frame
from edge_inspector.studies.dataset import Item, read_image

ROOM = 2.0
"""Spreads (1.4826 x median absolute deviation) that are allowed beside the range of good units."""
LEAST_ROOM: dict[Measure, float] = {
    "saturated": 0.05,
    "black": 0.05,
    "mean": 2.0,
    "contrast": 3.0,
    "sharpness": 0.03,
    "tint": 0.005,
    "x_px": 0.5,
    "y_px": 0.5,
    "angle_deg": 0.1,
    "scale": 0.005,
    "match": 0.02,
}
"""Room where good units hardly differ, or few were shown."""
FOLDS = 5
Limits = dict[Measure, tuple[float, float]]
Measured = Sequence[Mapping[Measure, float]]


@dataclass(slots=True)
class Frames:
    """What was measured on the good frames of one camera, and their digests."""

    measured: list[dict[Measure, float]] = field(default_factory=list)
    digests: list[int] = field(default_factory=list)


def measure_frames(inspector: Inspector, units: Iterable[Sequence[Item]]) -> dict[str, Frames]:
    """Frames of good units by camera; those that no region can be cut from are left out."""
    frames: dict[str, Frames] = {camera: Frames() for camera in inspector.recipe.cameras}
    first = inspector.recipe.cameras[0]
    for item in (item for unit in units for item in unit):
        camera, pixels = item.camera or first, read_image(item.path)
        try:
            measured = inspector.measure(file_frame(pixels, camera, inspector.recipe.product))
        except Uninspectable:
            continue
        frames[camera].measured.append(measured)
        frames[camera].digests.append(_digest(pixels))
    return frames


def learn(measured: Measured) -> Limits:
    """The range of each measure, widened by the larger of `ROOM` spreads and the least room."""
    limits: Limits = {}
    for name in measured[0] if measured else ():
        values = np.array([found[name] for found in measured])
        room = max(ROOM * robust_spread(values), LEAST_ROOM[name])
        limits[name] = (round(float(values.min()) - room, 6), round(float(values.max()) + room, 6))
    return limits


def held_out_rejects(measured: Measured) -> int:
    """How many good frames the limits learned from the others would refuse, in five parts."""
    refused = 0
    for fold in range(min(FOLDS, len(measured))):
        others = [found for place, found in enumerate(measured) if place % FOLDS != fold]
        limits = learn(others)
        refused += sum(cause(found, limits) is not None for found in measured[fold::FOLDS])
    return refused


def frame_quality(frames: Frames, known: FrameQuality | None) -> FrameQuality:
    """
    The recipe's table; what a person wrote as `refuse_repeats` stays.

    Without it, repeats are refused where no two of the frames have the same pixels.
    """
    noisy = len(frames.digests) > 1 and len(set(frames.digests)) == len(frames.digests)
    refuse = known.refuse_repeats if known is not None else noisy
    return FrameQuality(refuse_repeats=refuse, limits=learn(frames.measured))


def _digest(pixels: NDArray[Any]) -> int:
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(pixels).data)
