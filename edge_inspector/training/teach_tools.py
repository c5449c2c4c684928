"""Measuring tools for the regions whose good crops are alike enough to be measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_inspector.align import Aligner
from edge_inspector.crops import cut, expand_region
from edge_inspector.errors import Breakage, DataError, Uninspectable
from edge_inspector.recipe import Recipe, Region
from edge_inspector.records import Pixels
from edge_inspector.studies.learn_tools import LARGEST_PX, learn_tools, write_tools
from edge_inspector.training.teach_crops import aligners, pose_in
from edge_inspector.training.teach_units import Unit

MOST_UNITS, MOST_CROPS = 240, 480
"""More good crops hardly move a limit, and each is held in memory."""
SUFFIX = "-tools"
Show = Callable[[str, int, int], None]


def with_tools(
    recipe: Recipe, folder: Path, units: Sequence[Unit], show: Show
) -> tuple[Recipe, dict[str, str]]:
    """
    The recipe with tools beside each engine whose region can be measured, written into `folder`.

    Also says, by region, which tools or why none. Rules that a person chose are left alone.
    """
    found, chosen = aligners(recipe), units[:: -(-len(units) // MOST_UNITS)]
    rules = {name: path for name, path in recipe.rules.items() if not name.endswith(SUFFIX)}
    regions: list[Region] = []
    told: dict[str, str] = {}
    for done, region in enumerate(recipe.regions, start=1):
        show("learning tools", done, len(recipe.regions))
        regions.append(region)
        if region.engine is None or region.rules in rules:
            continue
        name = f"{region.name}{SUFFIX}"
        try:
            tools = learn_tools(native_crops(region, chosen, found))
        except DataError as error:  # too few crops, or too small
            told[region.name] = f"none: {error}"
            continue
        used = bool(tools.used)
        told[region.name] = ", ".join(tools.used) if used else f"none: {_why(tools.left_out)}"
        if used:
            rules[name] = folder / f"{region.name}-v{recipe.version}.toml"
            _make(folder)
            write_tools(tools, rules[name])
        regions[-1] = region.model_copy(update={"rules": name if used else None})
    return recipe.model_copy(update={"regions": tuple(regions), "rules": rules}), told


def native_crops(
    region: Region, units: Sequence[Unit], found: Mapping[str, Aligner]
) -> list[Pixels]:
    """Crops of a region, or of its grid's cells, grey and as large as tools take them, (h, w)."""
    rois = expand_region(region)
    sides = [float(np.median([roi.box[axis] for roi in rois])) for axis in (3, 2)]
    height, width = (round(side * min(1.0, LARGEST_PX / max(sides))) for side in sides)
    crops: list[Pixels] = []
    for unit in units[:: max(len(units) * len(rois) // MOST_CROPS, 1)]:
        frame = next(frame for frame in unit.frames if frame.camera == region.camera)
        pixels: NDArray[Any] = frame.pixels()
        try:
            pose = pose_in(pixels, frame.camera, found)
            crops += [crop.pixels for crop in cut(pixels, pose, rois, (height, width, 1))]
        except Uninspectable:
            continue
    return crops


def _why(left_out: Mapping[str, str]) -> str:
    return "; ".join(dict.fromkeys(left_out.values())) or "good crops are not alike enough"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Breakage(f"{folder}: {os.strerror(error.errno or 0)}; tools need it") from error
