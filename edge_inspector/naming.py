"""
Which defect it is: what a region's classifier says of the place that its engine rejected.

It comes last, and only while there is time: a reject without a class is better than a late one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from edge_inspector import clock
from edge_inspector.crops import cut, expand_region, squared, to_frame
from edge_inspector.engines import Engines
from edge_inspector.errors import EngineRefused, Uninspectable
from edge_inspector.ladder import Takes
from edge_inspector.recipe import Recipe
from edge_inspector.records import (
    Box,
    Crop,
    Frame,
    Inspection,
    Outcome,
    Pixels,
    Pose,
    RegionVerdict,
    Roi,
)
from edge_inspector.scorers.classifier import ClassifierScorer, Named
from edge_inspector.verdict import Evidence

NO_TIME, FAULT = "classifier", "classifier fault"


@dataclass(slots=True)
class Told:
    """What classifiers say of a frame's regions, by name, each with the crop that they looked at."""

    named: dict[str, tuple[Crop, Named]] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)
    degraded: set[str] = field(default_factory=set)
    asked: bool = False

    def __bool__(self) -> bool:
        return bool(self.named or self.left_out)

    def beside(self, found: Evidence, crop: Crop, pose: Pose) -> Evidence:
        """An engine's evidence with the class; `crop` is what the engine looked at."""
        if found.kind != "engine":
            return found
        if found.region in self.left_out:
            return replace(found, naming="left out")
        if found.region not in self.named:
            return found
        seen, named = self.named[found.region]
        score = replace(
            found.score,
            defect_class=named.defect_class,
            probability=named.probability,
            class_map=_over(named.class_map, seen.roi.box, crop.roi.box),
        )
        box = found.box
        if box is None and named.box is not None:
            box = to_frame(seen, named.box, pose)
        return replace(found, score=score, box=box, naming="named")


class Naming:
    """One classifier with its regions, and how long it takes for a crop."""

    def __init__(
        self,
        scorer: ClassifierScorer,
        challenge: Crop,
        rois: Mapping[str, Roi],
        always: Set[str],
    ) -> None:
        self._scorer = scorer
        self._challenge = challenge
        self._rois = rois
        self._always = always
        self._takes = Takes()

    def warm_up(self, rounds: int) -> None:
        """Name its challenge crop, so that the first reject does not pay for lazy set-up."""
        for _ in range(rounds):
            started = clock.now_ns()
            self._scorer.name_defects([self._challenge], [None])
            self._takes.ns = float(clock.now_ns() - started)

    def tell(
        self, told: Told, frame: Frame, pose: Pose, inspection: Inspection, due_ns: int | None
    ) -> None:
        """Add to `told` what it says of the regions that their engine rejected, then of others."""
        ours = [region for region in inspection.regions if region.name in self._rois]
        rejected = [region for region in ours if _by_engine(region)]
        others = [r for r in ours if r.name in self._always and not _by_engine(r)]
        for regions in (rejected, others):
            if not regions:
                continue
            told.asked = True
            if trouble := self._look(told, frame, pose, regions, due_ns):
                told.left_out |= {region.name for region in regions}
                told.degraded.add(trouble)

    def _look(
        self,
        told: Told,
        frame: Frame,
        pose: Pose,
        regions: Sequence[RegionVerdict],
        due_ns: int | None,
    ) -> str:
        """Name regions, all rejected or none; what kept it from that, empty where nothing did."""
        started = clock.now_ns()
        if due_ns is not None and not self._takes.fits(due_ns - started, len(regions)):
            return NO_TIME
        rejected = _by_engine(regions[0])
        try:
            rois = [self._rois[region.name] for region in regions]
            crops = cut(frame.pixels, pose, rois, self._scorer.input_shape)
            beside = [_engine_score(region) for region in regions]
            named = self._scorer.name_defects(crops, beside, rejected=rejected)
        except Uninspectable:
            return FAULT
        self._takes.took((clock.now_ns() - started) / len(regions))
        told.named |= {
            crop.roi.name: (crop, one)
            for crop, one in zip(crops, named, strict=True)
            if rejected or one.defect_class != self._scorer.good
        }
        return ""


def open_namings(recipe: Recipe, engines: Engines) -> tuple[Naming, ...]:
    """The classifiers that regions have beside their engine; raises `EngineRefused`."""
    classifiers = {n: s for n, s in engines.scorers.items() if isinstance(s, ClassifierScorer)}
    check_kinds(recipe, classifiers.keys())
    rois: dict[str, dict[str, Roi]] = {}
    always: set[str] = set()
    for region in recipe.regions:
        if region.classifier is None:
            continue
        for roi in expand_region(region):
            fitting = squared(roi) if region.classifier in engines.square else roi
            rois.setdefault(region.classifier, {})[roi.name] = fitting
            if region.classify == "always":
                always.add(roi.name)
    return tuple(
        Naming(classifiers[name], engines.challenges[name][1], regions, always)
        for name, regions in rois.items()
    )


def check_kinds(recipe: Recipe, classifiers: Set[str]) -> None:
    """Raises `EngineRefused` where a region has an engine in the place of one of another kind."""
    for region in recipe.regions:
        if region.classifier is None or region.engine is None:
            continue
        if region.classifier not in classifiers:
            raise EngineRefused(
                f"region '{region.name}': classifier '{region.classifier}' is an anomaly engine, "
                "which cannot name a defect; give an engine that 'train classifier' made"
            )
        if region.engine in classifiers:
            raise EngineRefused(
                f"region '{region.name}': engine '{region.engine}' is a classifier, which names "
                "what it rejects itself; remove 'classifier', or give an anomaly engine as 'engine'"
            )


def _by_engine(region: RegionVerdict) -> bool:
    return region.outcome is Outcome.FAIL and "engine" in region.spoke.split("+")


def _engine_score(region: RegionVerdict) -> float:
    return region.score if region.engine_score is None else region.engine_score


def _over(class_map: Pixels, seen: Box, shown: Box) -> Pixels:
    """The map of one box, drawn over another of the same region: a square's over all of it."""
    if seen == shown:
        return class_map
    across, down = class_map.shape[1] / seen[2], class_map.shape[0] / seen[3]
    moved = ((seen[0] - shown[0]) * across, (seen[1] - shown[1]) * down)
    matrix = np.array([[1, 0, moved[0]], [0, 1, moved[1]]])
    size = (max(round(shown[2] * across), 1), max(round(shown[3] * down), 1))
    return np.asarray(cv2.warpAffine(class_map, matrix, size), np.uint8)
