"""Crops of good units for each engine of a recipe, cut as the line cuts them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_inspector.align import Aligner, open_alignment
from edge_inspector.crops import cut, expand_region
from edge_inspector.errors import DataError, Uninspectable
from edge_inspector.manifest import Input
from edge_inspector.recipe import Recipe
from edge_inspector.records import Pixels, Pose, Roi
from edge_inspector.training.data import GoodCrops
from edge_inspector.training.teach_choice import crop_shape
from edge_inspector.training.teach_units import Unit

MOST_BYTES = 256 * 1024 * 1024
"""Pixels of all crops of one engine: beyond it, units are taken at even distances."""
LOST = 0.2
"""Share of the units that may have no crops before teaching makes no sense."""
Tick = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Place:
    """What one engine judges: its regions, and the shape of their crops."""

    engine: str
    rois: tuple[Roi, ...]
    shape: Input


def places(recipe: Recipe, units: Sequence[Unit]) -> dict[str, Place]:
    """By engine name, with a shape that suits the regions."""
    first = {frame.camera: frame for frame in units[0].frames}
    found = {}
    for engine in recipe.engines:
        regions = [region for region in recipe.regions if region.engine == engine]
        if not regions:
            continue
        rois = tuple(roi for region in regions for roi in expand_region(region))
        absent = [roi.camera for roi in rois if roi.camera not in first]
        if absent:
            raise DataError(
                f"region '{regions[0].name}' is seen by camera '{absent[0]}', of which nothing "
                f"was recorded; the recording has {', '.join(first)}"
            )
        pixels = first[rois[0].camera].pixels()
        found[engine] = Place(engine, rois, crop_shape([roi.box for roi in rois], pixels))
    return found


def aligners(recipe: Recipe) -> dict[str, Aligner]:
    """By camera."""
    return {camera: open_alignment(spec) for camera, spec in recipe.alignment.items()}


def cut_good(
    found: Mapping[str, Aligner],
    place: Place,
    train: Sequence[Unit],
    held_out: Sequence[Unit],
    tick: Tick,
) -> GoodCrops:
    """
    Crops to learn from and held out; a name is `unit/region`.

    Raises `DataError` where too many units cannot be cut, with what is wrong with the first.
    """
    each = place.shape.height * place.shape.width * place.shape.channels * len(place.rois)
    step = -(-len(train) * each // MOST_BYTES)
    chosen = train[::step]
    total = len(chosen) + len(held_out)
    lost: list[Uninspectable] = []
    names: list[str] = []
    parts = []
    for done, unit in enumerate([*chosen, *held_out]):
        try:
            crops = _of_unit(unit, found, place)
        except Uninspectable as error:
            lost.append(error)
            continue
        finally:
            tick(done + 1, total)
        parts.append((done < len(chosen), crops))
        names += [f"{unit.name}/{roi.name}" for roi in place.rois] if done < len(chosen) else []
    if len(lost) > LOST * total:
        raise DataError(
            f"{len(lost)} of {total} good units cannot be cut for engine '{place.engine}'; the "
            f"first: {lost[0].detail}; see it with 'edge-inspector recipe show'"
        )
    learned = _stack([crops for learning, crops in parts if learning], place)
    apart = _stack([crops for learning, crops in parts if not learning], place)
    if not len(apart):
        raise DataError(f"no held-out unit can be cut; the first: {lost[0].detail}")
    remarks = [f"{len(lost)} units could not be cut, as: {lost[0].detail}"] if lost else []
    if step > 1:
        remarks.append(f"one unit of {step} is learned from, more would not fit into memory")
    return GoodCrops(
        place.shape,
        torch.from_numpy(learned),
        torch.from_numpy(apart),
        (),
        hashlib.sha256(learned.tobytes() + apart.tobytes()).hexdigest(),
        tuple(names),
        tuple(remarks),
    )


def _of_unit(unit: Unit, found: Mapping[str, Aligner], place: Place) -> Pixels:
    """Crops of one unit, (regions, h, w, c)."""
    shape = (place.shape.height, place.shape.width, place.shape.channels)
    cut_out: dict[str, Pixels] = {}
    for frame in unit.frames:
        rois = [roi for roi in place.rois if roi.camera == frame.camera]
        if rois:
            pixels = frame.pixels()
            crops = cut(pixels, pose_in(pixels, frame.camera, found), rois, shape)
            cut_out |= {crop.roi.name: crop.pixels.reshape(shape) for crop in crops}
    return np.stack([cut_out[roi.name] for roi in place.rois])


def pose_in(pixels: NDArray[Any], camera: str, found: Mapping[str, Aligner]) -> Pose:
    """Where the product lies in a frame; raises `Uninspectable`."""
    aligner = found.get(camera)
    return Pose() if aligner is None else aligner.find(pixels)


def _stack(parts: Sequence[Pixels], place: Place) -> Pixels:
    shape = place.shape
    none = np.empty((0, shape.height, shape.width, shape.channels), np.uint8)
    return np.concatenate([none, *parts])
