"""Good units through the line's own pipeline and backend, and the threshold into the recipe."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomlkit
from numpy.typing import NDArray

from edge_inspector.crops import expand_region, fit
from edge_inspector.documents import parse_toml, read_toml, validate
from edge_inspector.errors import DataError, Misuse, Uninspectable
from edge_inspector.inspector import Inspector
from edge_inspector.recipe import Calibration, FrameQuality, Recipe
from edge_inspector.records import Crop, Frame, FrameHead, FrameKey, Roi
from edge_inspector.studies.dataset import Item, is_good, read_image
from edge_inspector.studies.evaluate import Target, Tick
from edge_inspector.studies.recipe_text import replace_text
from edge_inspector.verdict import scale_key

Evidence = Callable[[NDArray[Any], str], dict[str, float]]
"""Pixels of a frame and its camera to the raw score of each region; may raise `Uninspectable`."""
WHOLE = "image"


@dataclass(frozen=True, slots=True)
class Collected:
    """Raw scores (units, regions) of good units by name, and the units that gave none, with why."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    scores: NDArray[np.float64]
    skipped: dict[str, str]


def good_units(items: Sequence[Item], split: str, cameras: Sequence[str]) -> list[list[Item]]:
    """Good units of a split, each with its frame of every camera; raises `DataError`."""
    good = [item for item in items if item.split == split and is_good(item.label)]
    if not good:
        raise DataError(
            f"split '{split}' has no image labelled good or normal; calibration needs good units"
        )
    if len(cameras) == 1:
        return [[item] for item in good]
    units: dict[str, dict[str, Item]] = {}
    for item in good:
        units.setdefault(item.group, {})[item.camera] = item
    for name, frames in units.items():
        if set(frames) != set(cameras):
            raise DataError(
                f"unit '{name}' has frames of {sorted(frames)}, the recipe's cameras are "
                f"{sorted(cameras)}; give a CSV with the columns group (the unit) and camera"
            )
    return [[frames[camera] for camera in cameras] for frames in units.values()]


def collect(units: Sequence[Sequence[Item]], evidence: Evidence, tick: Tick) -> Collected:
    """Score every unit; one that cannot be read or inspected is skipped and named."""
    rows: dict[str, dict[str, float]] = {}
    skipped: dict[str, str] = {}
    for count, frames in enumerate(units, start=1):
        name = str(frames[0].path)
        row: dict[str, float] = {}
        try:
            for item in frames:
                row |= evidence(read_image(item.path), item.camera)
            rows[name] = row
        except (DataError, Uninspectable) as error:
            skipped[name] = str(error)
        tick(count, len(units))
    if not rows:
        raise DataError(
            f"none of {len(units)} good units could be inspected; the first: "
            f"{next(iter(skipped.values()))}"
        )
    names = tuple(next(iter(rows.values())))
    scores = np.array([[row[name] for name in names] for row in rows.values()], np.float64)
    return Collected(names, tuple(rows), scores, skipped)


def recipe_evidence(inspector: Inspector) -> Evidence:
    """
    Raw scores by the keys of `calibration.regions`: of engines, and of rules and tools beside them.

    Rules alone bring their own threshold; tools may, or may be calibrated.
    """
    kinds = {group.kind for groups in inspector.groups.values() for group in groups}
    if not kinds - {"rules"}:
        raise Misuse(
            f"recipe '{inspector.recipe.product}' has no region with an engine or tools; "
            "rules need no calibration"
        )
    first = inspector.recipe.cameras[0]

    def evidence(pixels: NDArray[Any], camera: str) -> dict[str, float]:
        seen = inspector.look(file_frame(pixels, camera or first, inspector.recipe.product))
        if not seen.scores:
            reason = seen.inspection.reason
            raise Uninspectable(reason.value if reason else "", seen.inspection.detail)
        return {
            scale_key(crop.roi.name, kind): score.anomaly_score
            for crop, score, kind in zip(seen.crops, seen.scores, seen.kinds, strict=True)
        }

    return evidence


def fused(recipe: Recipe) -> tuple[str, ...]:
    """Names of the regions that fail only where their engine and their rules both say so."""
    regions = (region for region in recipe.regions if region.fuse == "both")
    return tuple(roi.name for region in regions for roi in expand_region(region))


def engine_evidence(target: Target) -> Evidence:
    """Raw score of the whole image, for an engine without a recipe."""
    shape = target.shape

    def evidence(pixels: NDArray[Any], camera: str) -> dict[str, float]:
        crop = fit(pixels, shape.height, shape.width, shape.channels, square=shape.square)
        box = (0, 0, shape.width, shape.height)
        region = Crop(Roi(WHOLE, "main", box), crop, box)
        return {WHOLE: target.scorer.score([region])[0].anomaly_score}

    return evidence


def one_region_recipe(
    engine: Path, product: str, size: tuple[int, int], calibration: Calibration, out: Path
) -> None:
    """Write a new recipe: the whole frame, `size` (width, height) px, judged by one engine."""
    if out.exists():
        raise Misuse(f"{out} exists; calibrate that recipe, or give another --out")
    document = {
        "product": product,
        "version": 1,
        "latency_budget_ms": 100,
        "engines": {product: os.path.relpath(engine.resolve(), out.resolve().parent)},
        "regions": [{"name": WHOLE, "rect": [0, 0, *size], "engine": product}],
        "calibration": calibration.model_dump(mode="json"),
    }
    text = tomlkit.dumps(document)
    validate(Recipe, parse_toml(text, out), out, text)
    replace_text(out, text)


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Put `[calibration]` into the recipe, in place of one that is there; comments stay."""
    _write_table(path, "calibration", calibration.model_dump(mode="json"))


def write_quality(path: Path, quality: Mapping[str, FrameQuality]) -> None:
    """Put `[quality]` into the recipe, in place of one that is there; none where it is empty."""
    tables = {camera: table.model_dump(mode="json") for camera, table in quality.items()}
    _write_table(path, "quality", tables)


def _write_table(path: Path, name: str, values: Mapping[str, Any]) -> None:
    _, text = read_toml(path)
    table = f"\n{tomlkit.dumps({name: values})}" if values else ""
    written = f"{_without(text, name).rstrip()}\n{table}"
    validate(Recipe, parse_toml(written, path), path, written)
    replace_text(path, written)


_HEADER = re.compile(r"^\s*\[\[?\s*([^\]]+?)\s*\]")


def _without(text: str, name: str) -> str:
    """The text less the keys and headers of the table `name` and those below it."""
    kept: list[str] = []
    inside = False
    for line in text.splitlines():
        if header := _HEADER.match(line):
            inside = header[1].split(".")[0].strip() == name
        if not inside or line.lstrip().startswith("#"):
            kept.append(line)
    return "\n".join(kept)


def file_frame(pixels: NDArray[Any], camera: str, product: str) -> Frame:
    """A frame that comes from a file."""
    head = FrameHead(
        key=FrameKey("file", "", 1),
        station="file",
        camera=camera,
        recipe=product,
        arrived_ns=0,
        time_zero_ns=0,
    )
    return Frame(head, pixels)
