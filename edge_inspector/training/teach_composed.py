"""
What a taught recipe does not see, measured: small defects drawn into good frames and judged.

They are drawn here in ways of their own, not by the `faults` that a network learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.crops import expand
from edge_inspector.errors import DataError
from edge_inspector.inspector import Inspector
from edge_inspector.records import Box, Outcome
from edge_inspector.studies.calibrate_recipe import file_frame
from edge_inspector.training.teach_units import Unit

EACH = 24
"""Defects of one kind and size: a rate of a half is known to about a fifth."""
SIZES = (0.03, 0.06, 0.12, 0.25)
"""Of the region's shorter side."""
LEAST_PX = 2.0
CONTRAST = 0.25
"""Of the grey levels that the region spans (1st to 99th percentile)."""
LEAST_CONTRAST = 20.0
VISIBLE = 8.0
"""Grey levels that the strongest px of a defect must change by, or there is nothing to catch."""
TRIES = 8
Floats = NDArray[np.float32]
Draw = Callable[[Floats, tuple[float, float], float, np.random.Generator], None]
"""Draws on a region, float32 (h, w) or (h, w, 3), at x, y with a size in px."""


@dataclass(frozen=True, slots=True)
class Caught:
    """How many composed defects of one kind and size were not passed."""

    kind: str
    size_px: float
    caught: int
    drawn: int


def caught(inspector: Inspector, units: Sequence[Unit], seed: int) -> list[Caught]:
    """Each kind and size on good units that the recipe passes; raises nothing for a bad one."""
    rng = np.random.default_rng([seed, 5])
    rois = [roi for roi in expand(inspector.recipe) if roi.name in _judged(inspector)]
    side = float(np.median([min(roi.box[2:]) for roi in rois]))
    sizes = dict.fromkeys(max(round(share * side), LEAST_PX) for share in SIZES)
    found = []
    for kind, draw in KINDS.items():
        for size in sizes:
            drawn, hits = 0, 0
            for place in rng.integers(len(units), size=EACH):
                roi = rois[int(rng.integers(len(rois)))]
                outcome = _judge_one(inspector, units[place], roi.camera, roi.box, draw, size, rng)
                drawn += outcome is not None
                hits += outcome not in (None, Outcome.PASS)
            found.append(Caught(kind, size, hits, drawn))
    return found


def _judged(inspector: Inspector) -> set[str]:
    return {
        roi.name for groups in inspector.groups.values() for group in groups for roi in group.rois
    }


def _judge_one(
    inspector: Inspector,
    unit: Unit,
    camera: str,
    box: Box,
    draw: Draw,
    size: float,
    rng: np.random.Generator,
) -> Outcome | None:
    """The outcome for the frame with a defect; None where none could be seen in it."""
    frame = next(frame for frame in unit.frames if frame.camera == camera)
    try:
        marred = with_defect(frame.pixels(), box, draw, size, rng)
    except DataError:
        return None
    if marred is None:
        return None
    return inspector.inspect(file_frame(marred, camera, inspector.recipe.product)).outcome


def with_defect(
    pixels: NDArray[Any], box: Box, draw: Draw, size: float, rng: np.random.Generator
) -> NDArray[Any] | None:
    """A copy with one defect somewhere in the box, in px of the frame; None where it cannot be seen."""
    height, width = pixels.shape[:2]
    left, top = max(box[0], 0), max(box[1], 0)
    right, bottom = min(box[0] + box[2], width), min(box[1] + box[3], height)
    margin = min(size / 2 + 2, (right - left) / 2 - 1, (bottom - top) / 2 - 1)
    unit = 257.0 if pixels.dtype == np.uint16 else 1.0
    clean = pixels[top:bottom, left:right, ...][..., :3] if pixels.ndim == 3 else None
    region = (pixels[top:bottom, left:right] if clean is None else clean).astype(np.float32) / unit
    for _ in range(TRIES):
        x = float(rng.uniform(margin, region.shape[1] - margin))
        y = float(rng.uniform(margin, region.shape[0] - margin))
        image = np.ascontiguousarray(region.copy())
        draw(image, (x, y), size, rng)
        image = np.clip(image, 0, 255)
        if np.abs(image - region).max() < VISIBLE:
            continue
        marred = pixels.copy()
        target = marred[top:bottom, left:right]
        (target if pixels.ndim == 2 else target[..., :3])[...] = np.rint(image * unit)
        return marred
    return None


def _tint(image: Floats, share: Floats, rng: np.random.Generator) -> None:
    """Towards the far side of what is there, half of the time the near one."""
    low, high = np.percentile(image, (1, 99))
    level = max(CONTRAST * float(high - low), LEAST_CONTRAST)
    here = float((image.mean(axis=2) if image.ndim == 3 else image)[share > 0.5].mean())
    sign = -1.0 if here + level > 255 or (here - level >= 0 and rng.random() < 0.5) else 1.0
    image += np.float32(sign * level) * (share if image.ndim == 2 else share[..., None])


def _disc(image: Floats, at: tuple[float, float], size: float) -> Floats:
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    away = np.hypot(columns - np.float32(at[0]), rows - np.float32(at[1]))
    return np.asarray(np.clip(size / 2 + 0.5 - away, 0, 1), np.float32)


def _spot(image: Floats, at: tuple[float, float], size: float, rng: np.random.Generator) -> None:
    _tint(image, _disc(image, at, max(size, 2.0)), rng)


def _scratch(image: Floats, at: tuple[float, float], size: float, rng: np.random.Generator) -> None:
    angle = rng.uniform(0, np.pi)
    reach = size * np.array([np.cos(angle), np.sin(angle)])
    ends = np.rint(np.stack([at - reach, at + reach]) * 16).astype(np.int32)
    sheet = np.zeros(image.shape[:2], np.uint8)
    cv2.line(sheet, tuple(ends[0]), tuple(ends[1]), 255, 1, cv2.LINE_AA, 4)
    share = sheet.astype(np.float32) / np.float32(255)
    if share.max() > 0.5:
        _tint(image, share, rng)


def _gone(image: Floats, at: tuple[float, float], size: float, rng: np.random.Generator) -> None:
    """What is there is filled in from around it, as where something is missing."""
    share = _disc(image, at, size)
    ring = (_disc(image, at, 1.8 * size + 2) > 0) & (share == 0)
    level = np.median(image[ring], axis=0)
    weight = share if image.ndim == 2 else share[..., None]
    image += weight * (np.asarray(level, np.float32) - image)


def _moved(image: Floats, at: tuple[float, float], size: float, rng: np.random.Generator) -> None:
    """What is there lies off its place by `size`, fading out around it."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    away = np.hypot(columns - np.float32(at[0]), rows - np.float32(at[1]))
    share = np.exp(-0.5 * (away / np.float32(2 * size + 3)) ** 2)
    angle = rng.uniform(0, 2 * np.pi)
    dx, dy = size * np.cos(angle), size * np.sin(angle)
    image[...] = cv2.remap(
        image,
        (columns - np.float32(dx) * share).astype(np.float32),
        (rows - np.float32(dy) * share).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


KINDS: dict[str, Draw] = {
    "spot": _spot,
    "scratch": _scratch,
    "missing": _gone,
    "moved": _moved,
}
