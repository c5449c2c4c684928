"""
The whole product for anyone who wants it as a library: a frame goes in, an answer comes out.

    with open_inspector(Path("recipe.toml")) as inspector:
        inspection = inspector.inspect(frame)

Plain synchronous code; read `Inspector.inspect` from top to bottom to follow a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from edge_inspector import clock
from edge_inspector.align import Aligner, open_alignment
from edge_inspector.choice import Runtimes, silent
from edge_inspector.codes import CodeReader, named, open_codes, read_codes
from edge_inspector.crops import cut, to_frame
from edge_inspector.engines import open_engines, usual_runners
from edge_inspector.errors import Uninspectable
from edge_inspector.groups import Group, group_regions
from edge_inspector.importer import load
from edge_inspector.ladder import Ladder, load_steps
from edge_inspector.naming import Naming, Told, open_namings
from edge_inspector.protocols import Scorer
from edge_inspector.quality import cause, measure, placement
from edge_inspector.recipe import Calibration, Measure, Recipe, load_recipe
from edge_inspector.records import (
    Baseline,
    Crop,
    EvidenceKind,
    Frame,
    Inspection,
    Outcome,
    Pose,
    Reason,
    Score,
)
from edge_inspector.shadow import Shadow
from edge_inspector.verdict import RULES_THRESHOLD, Evidence, decide, explained, uninspected

RULES = "edge_inspector.rules:open_rules"


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame with all that was measured on it; what pictures and calibration are made from."""

    inspection: Inspection
    crops: tuple[Crop, ...] = ()
    scores: tuple[Score, ...] = ()
    kinds: tuple[EvidenceKind, ...] = ()
    """Of the scores; a region with an engine and rules has two."""


@dataclass(frozen=True, slots=True)
class Inspector:
    """One recipe, ready: its alignment, its scorers, and the rules that watch beside them."""

    recipe: Recipe
    groups: Mapping[str, tuple[Group, ...]]
    """By camera."""
    aligners: Mapping[str, Aligner]
    baseline: Scorer | None = None
    shadow: Shadow | None = None
    engine: str = ""
    """Digest over the engines, the first 16 hex digits of each."""
    backend: str = ""
    challenges: tuple[tuple[Scorer, Crop], ...] = field(default=())
    codes: Mapping[str, tuple[CodeReader, ...]] = field(default_factory=dict)
    """By camera."""
    namings: tuple[Naming, ...] = ()
    ladder: Ladder = field(default_factory=Ladder)

    def inspect(self, frame: Frame) -> Inspection:
        """The answer for one frame; never raises for a bad frame."""
        return self.look(frame).inspection

    def look(self, frame: Frame, due_ns: int | None = None) -> Seen:
        """As `inspect`, with the crops and scores behind it; where it is near due by a lower step."""
        if due_ns is None:
            return self.look_whole(frame)
        try:
            return self.ladder.look(self, frame, due_ns)
        except Uninspectable as reason:
            return self._refused(reason)

    def look_whole(self, frame: Frame, due_ns: int | None = None) -> Seen:
        """By this recipe and no step of its ladder, without a class where it is near due."""
        started = clock.now_ns()
        try:
            pose = self._pose(frame)
            batches = self._cut(frame, pose)
            self._gate(frame, pose, [crop for _, crops in batches for crop in crops])
            was_cut = clock.now_ns()
            serial, unread = read_codes(self.codes.get(frame.head.camera, ()), frame.pixels, pose)
            read = clock.now_ns()
            scored = [(group, crops, group.scorer.score(crops)) for group, crops in batches]
        except Uninspectable as reason:
            return self._refused(reason)
        inferred = clock.now_ns()
        evidence = [
            _evidence(crop, score, pose, group, self.recipe.calibration)
            for group, crops, scores in scored
            for crop, score in zip(crops, scores, strict=True)
        ]
        inspection = decide(evidence, self.recipe.calibration)
        decided = clock.now_ns()
        crops = tuple(crop for _, crops, _ in scored for crop in crops)
        told = self._ask(frame, pose, inspection, due_ns)
        if told:
            evidence = [told.beside(*seen, pose) for seen in zip(evidence, crops, strict=True)]
            degraded = tuple(sorted(told.degraded))
            inspection = decide(evidence, self.recipe.calibration)
            inspection = msgspec.structs.replace(inspection, degraded=degraded)
        stages = {
            "cut": (was_cut - started) // 1000,
            "infer": (inferred - read) // 1000,
            "decide": (decided - inferred) // 1000,
        }
        if self.codes:
            stages["read"] = (read - was_cut) // 1000
        if told.asked:
            stages["classify"] = (clock.now_ns() - decided) // 1000
        raw = [score for _, _, scores in scored for score in scores]
        return Seen(
            self._stamp(named(inspection, serial, unread), stages),
            crops,
            tuple(
                found.score if found.naming == "named" else score
                for found, score in zip(evidence, raw, strict=True)
            ),
            tuple(group.kind for group, crops, _ in scored for _ in crops),
        )

    def _ask(self, frame: Frame, pose: Pose, inspection: Inspection, due_ns: int | None) -> Told:
        """What classifiers say of the regions."""
        told = Told()
        for naming in self.namings:
            naming.tell(told, frame, pose, inspection, due_ns)
        return told

    def watch(self, frame: Frame, inspection: Inspection, due_ns: int | None = None) -> Inspection:
        """`inspection` with what the recipe's rules and shadow say of the frame; due at `due_ns`."""
        if self.shadow is not None:
            inspection = self.shadow.beside(frame, inspection, due_ns)
        if self.baseline is None:
            return inspection
        started = clock.now_ns()
        if due_ns is not None and not self.ladder.watching.fits(due_ns - started):
            return inspection
        said = self._rules_say(frame)
        self.ladder.watching.took(spent_ns := clock.now_ns() - started)
        stages = {**inspection.stages_us, "baseline": spent_ns // 1000}
        return msgspec.structs.replace(inspection, baseline=said, stages_us=stages)

    def warm_up(self, rounds: int = 3) -> None:
        """Run the challenge crops, so that the first unit does not pay for lazy set-up."""
        for _ in range(rounds):
            for scorer, crop in self.challenges:
                scorer.score([crop])
        for naming in self.namings:
            naming.warm_up(rounds)
        for step in self.ladder.inspectors.values():
            step.warm_up(rounds)

    def _rules_say(self, frame: Frame) -> Baseline:
        assert self.baseline is not None
        try:
            pose = self._pose(frame)
            groups = self._groups(frame.head.camera)
            rois = {roi.name: roi for group in groups for roi in group.rois}
            crops = cut(frame.pixels, pose, list(rois.values()), self.baseline.input_shape)
            scores = self.baseline.score(crops)
        except Uninspectable:
            return Baseline(Outcome.UNINSPECTED)
        worst = max(scores, key=lambda score: score.anomaly_score)
        failed = not worst.anomaly_score < RULES_THRESHOLD
        return Baseline(
            Outcome.FAIL if failed else Outcome.PASS,
            worst.defect_class if failed else None,
            round(worst.anomaly_score, 4),
        )

    def measure(self, frame: Frame) -> dict[Measure, float]:
        """What the quality gate looks at in this frame; raises `Uninspectable`."""
        pose = self._pose(frame)
        crops = [crop for _, crops in self._cut(frame, pose) for crop in crops]
        return self._measure(frame, pose, crops)

    def _cut(self, frame: Frame, pose: Pose) -> list[tuple[Group, list[Crop]]]:
        return [
            (group, cut(frame.pixels, pose, group.rois, group.scorer.input_shape))
            for group in self._groups(frame.head.camera)
        ]

    def _gate(self, frame: Frame, pose: Pose, crops: Sequence[Crop]) -> None:
        asked = self.recipe.quality.get(frame.head.camera)
        if asked is None or not asked.limits:
            return
        if fault := cause(self._measure(frame, pose, crops), asked.limits):
            raise Uninspectable(
                Reason.CAMERA_FAULT.value,
                f"{fault} (camera '{frame.head.camera}'); mend it, or calibrate with such frames",
            )

    def _measure(self, frame: Frame, pose: Pose, crops: Sequence[Crop]) -> dict[Measure, float]:
        measured = measure(frame.pixels, [crop.frame_box for crop in crops])
        if frame.head.camera in self.aligners:
            measured |= placement(pose, [crop.roi.box for crop in crops])
        return measured

    def _pose(self, frame: Frame) -> Pose:
        aligner = self.aligners.get(frame.head.camera)
        return aligner.find(frame.pixels) if aligner is not None else Pose()

    def _groups(self, camera: str) -> Sequence[Group]:
        if camera not in self.groups:
            raise Uninspectable(
                Reason.BAD_INPUT.value,
                f"camera '{camera}' has no region in recipe '{self.recipe.product}'; "
                f"it knows {', '.join(self.groups)}",
            )
        return self.groups[camera]

    def _refused(self, why: Uninspectable) -> Seen:
        return Seen(self._stamp(uninspected(Reason(why.reason), why.detail), {}))

    def _stamp(self, inspection: Inspection, stages: dict[str, int]) -> Inspection:
        return msgspec.structs.replace(
            inspection,
            engine=self.engine,
            recipe_version=self.recipe.version,
            stages_us=stages,
        )


def _evidence(
    crop: Crop, score: Score, pose: Pose, group: Group, calibration: Calibration | None
) -> Evidence:
    box = None
    score = explained(score, crop.roi.name, group.kind, calibration)
    if score.box is not None:
        box = to_frame(crop, score.box, pose)
    return Evidence(crop.roi.name, score, box, group.kind, group.fuse)


@contextmanager
def open_inspector(
    recipe: Path | Recipe,
    *,
    backends: Sequence[str] | None = None,
    threads: int = 1,
    store: Path | None = None,
    tell: Callable[[str], None] = silent,
) -> Iterator[Inspector]:
    """
    Open the recipe's engines, verified and challenged, and close them at the end.

    `backends` are runners by preference, by default those of the precision it was calibrated in;
    `store` is the station's folder, where what was measured for `auto` is kept; `tell` hears of it.
    Raises `DocumentError`, `EngineRefused` or `BackendMissing`; nothing is opened by halves.
    """
    with ExitStack() as stack:
        opened = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
        named = usual_runners(opened) if backends is None else backends
        yield _open(opened, Runtimes(named, threads, store, tell), stack)


def _open(recipe: Recipe, runtimes: Runtimes, stack: ExitStack) -> Inspector:
    engines = open_engines(recipe, runtimes, stack)
    rules = {name: load(RULES)(path, recipe.mm_per_px) for name, path in recipe.rules.items()}
    return Inspector(
        recipe=recipe,
        groups=group_regions(recipe, engines.scorers, engines.square, rules),
        aligners={c: open_alignment(spec) for c, spec in recipe.alignment.items()},
        baseline=rules[recipe.baseline] if recipe.baseline else None,
        shadow=Shadow(_open(_alone(recipe.shadow), runtimes, stack)) if recipe.shadow else None,
        engine=engines.digest,
        backend=engines.backend,
        challenges=tuple(
            (engines.scorers[name], crop)
            for name, pair in engines.challenges.items()
            for crop in pair
        ),
        codes=open_codes(recipe),
        namings=open_namings(recipe, engines),
        ladder=Ladder({n: _open(r, runtimes, stack) for n, r in load_steps(recipe).items()}),
    )


def _alone(path: Path) -> Recipe:
    """A recipe beside which nothing watches."""
    return load_recipe(path).model_copy(update={"shadow": None, "baseline": None, "ladder": ()})
