"""Regions of a recipe by what scores them, so that crops of one scorer make one batch."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from typing import Protocol

from edge_inspector.crops import expand_region, squared
from edge_inspector.protocols import Scorer
from edge_inspector.recipe import Fuse, Recipe, Region
from edge_inspector.records import EvidenceKind, Roi


class Rules(Scorer, Protocol):
    """A scorer from a rules file, which says whether its limits were learned or preset."""

    kind: EvidenceKind


@dataclass(frozen=True, slots=True)
class Group:
    """Regions of one camera that share a scorer; `fuse` says how they go with other evidence."""

    scorer: Scorer
    rois: tuple[Roi, ...]
    kind: EvidenceKind = "engine"
    fuse: Fuse = "either"


def group_regions(
    recipe: Recipe,
    engines: Mapping[str, Scorer],
    square: Set[str],
    rules: Mapping[str, Rules],
) -> dict[str, tuple[Group, ...]]:
    """By camera; a region with an engine and rules is in a group of each, one with a code in none."""
    groups: dict[str, dict[str, Group]] = {camera: {} for camera in recipe.cameras}
    for region in recipe.regions:
        for key, empty in _scored_by(region, engines, rules).items():
            known = groups[region.camera].get(key, empty)
            rois = expand_region(region)
            if empty.kind == "engine" and region.engine in square:
                rois = tuple(squared(roi) for roi in rois)
            groups[region.camera][key] = replace(known, rois=known.rois + rois)
    return {camera: tuple(by_scorer.values()) for camera, by_scorer in groups.items()}


def _scored_by(
    region: Region,
    engines: Mapping[str, Scorer],
    rules: Mapping[str, Rules],
) -> dict[str, Group]:
    """The groups that a region belongs to, by a key, without any region yet."""
    found: dict[str, Group] = {}
    if region.engine is not None:
        key = f"engine {region.engine} {region.fuse}"
        found[key] = Group(engines[region.engine], (), "engine", region.fuse)
    if region.rules is not None:
        scorer = rules[region.rules]
        key = f"rules {region.rules} {region.fuse}"
        found[key] = Group(scorer, (), scorer.kind, region.fuse)
    return found
