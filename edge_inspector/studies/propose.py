"""A recipe from a product's frames: how to find it, where to judge it, which engines to teach."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_inspector.crops import expand
from edge_inspector.errors import DataError, Uninspectable
from edge_inspector.pixels import grey
from edge_inspector.recipe import Recipe
from edge_inspector.recipe_alignment import Alignment, Outline
from edge_inspector.records import Pixels
from edge_inspector.studies.product_area import fit_product
from edge_inspector.studies.propose_alignment import Chosen, choose_alignment
from edge_inspector.studies.propose_regions import Layout, choose_regions

FEWEST_FRAMES = 4
MOST_FRAMES = 16
"""Frames looked at, evenly chosen; more of them say the same more slowly."""
FIRST_MS, CROP_MS = 60.0, 5.0
"""Latency budget to start with: the way of a frame, and each crop on one slow core."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A recipe, why it is so by camera, and by camera the frame to show it on."""

    recipe: Recipe
    why: dict[str, tuple[str, ...]]
    shown: dict[str, NDArray[Any]]


def propose(
    frames: Sequence[NDArray[Any]], product: str, folder: Path, camera: str = "main"
) -> Recipe:
    """
    The recipe for good frames of one camera; template images go to `folder`, which must exist.

    Its engines are `folder/engines/NAME/1`, still to be taught. Raises `DataError` for fewer than
    4 frames, or frames of several sizes.
    """
    return propose_cameras({camera: frames}, product, folder).recipe


def propose_cameras(
    frames: Mapping[str, Sequence[NDArray[Any]]], product: str, folder: Path
) -> Proposal:
    """The same for units that several cameras see."""
    alignment: dict[str, Alignment] = {}
    layouts: dict[str, Layout] = {}
    why: dict[str, tuple[str, ...]] = {}
    shown: dict[str, NDArray[Any]] = {}
    for camera, given in frames.items():
        chosen, layouts[camera], shown[camera] = _camera(
            camera, given, folder, prefix="" if len(frames) == 1 else f"{camera}-"
        )
        why[camera] = (chosen.why, *layouts[camera].why)
        if chosen.measured.spec is not None:
            alignment[camera] = chosen.measured.spec
    regions = tuple(region for layout in layouts.values() for region in layout.regions)
    names = dict.fromkeys(region.engine for region in regions if region.engine is not None)
    recipe = Recipe(
        product=product,
        version=1,
        latency_budget_ms=FIRST_MS,
        engines={name: folder.resolve() / "engines" / name / "1" for name in names},
        alignment=alignment,
        regions=regions,
    )
    budget_ms = 10 * math.ceil((FIRST_MS + CROP_MS * len(expand(recipe))) / 10)
    return Proposal(recipe.model_copy(update={"latency_budget_ms": budget_ms}), why, shown)


def _camera(
    camera: str, given: Sequence[NDArray[Any]], folder: Path, prefix: str
) -> tuple[Chosen, Layout, NDArray[Any]]:
    frames = _some(camera, given)
    greys = _greys(camera, frames)
    middle = np.median(np.stack(greys), axis=0)
    number = int(np.argmin([np.abs(one - middle).mean() for one in greys]))
    reference = greys[number]
    chosen = choose_alignment(greys, reference, folder.resolve() / f"{camera}-mark.png")
    chosen, area = fit_product(greys, chosen)
    spec = chosen.measured.spec
    size = spec.size if isinstance(spec, Outline) else (reference.shape[1], reference.shape[0])
    upright = chosen.measured.upright(greys, size)
    layout = choose_regions(upright, area, camera, prefix, shared=chosen.shared)
    return chosen, layout, frames[number]


def _some(camera: str, given: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    if len(given) < FEWEST_FRAMES:
        raise DataError(
            f"camera '{camera}' has {len(given)} frames; at least {FEWEST_FRAMES} are needed to see "
            "whether the product moves, record more units"
        )
    chosen = np.linspace(0, len(given) - 1, min(len(given), MOST_FRAMES)).round().astype(int)
    return [given[number] for number in chosen.tolist()]


def _greys(camera: str, frames: Sequence[NDArray[Any]]) -> list[Pixels]:
    try:
        greys = [grey(frame) for frame in frames]
    except Uninspectable as error:
        raise DataError(f"camera '{camera}': {error.detail}") from error
    sizes = sorted({f"{one.shape[1]} x {one.shape[0]}" for one in greys})
    if len(sizes) > 1:
        raise DataError(
            f"camera '{camera}' has frames of {len(sizes)} sizes ({', '.join(sizes[:3])} px{', …' * (len(sizes) > 3)}); a "
            "recipe holds for one: bring them to one size or record them anew"
        )
    return greys
