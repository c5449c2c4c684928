"""
What is left out when time is short: the steps of a recipe, the whole of it first.

The default ladder is to leave out the class of a defect (`naming`), then `uninspected`. A recipe may
put others of the same product between: each has its own engines or rules, its own calibration and
challenge, so that no step passes a unit on evidence that was not calibrated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from edge_inspector import clock
from edge_inspector.errors import DocumentError, Uninspectable
from edge_inspector.recipe import Recipe, load_recipe
from edge_inspector.records import Frame, Outcome, Reason, Verdict

if TYPE_CHECKING:
    from edge_inspector.inspector import Inspector, Seen

TIMES = 2
"""A step may take as long as it usually does, so many times that must be left for it."""
AFTER_NS = 5 * clock.NS_PER_MS
"""From the worker's answer to the verdict on disk, in 99 of 100 units (bench/results)."""
FRESH = 0.2
"""Weight of the last run in what it usually takes."""
FORGET = 0.97
"""What it is thought to take shrinks with each time that it is left out, so that it is tried again."""
ALL_BUT = "all but "
"""What a verdict's `degraded` says before the name of the step that judged."""
LONGEST = 0.9
"""Of a unit's budget: one stall, however long, must not make a step seem out of reach for good."""


class Takes:
    """What something usually takes, learned from each run."""

    def __init__(self) -> None:
        self.ns = 0.0

    def took(self, spent_ns: float) -> None:
        """It took so long."""
        before_ns = self.ns or spent_ns
        self.ns = before_ns + FRESH * (spent_ns - before_ns)

    def fits(self, left_ns: int, count: int = 1) -> bool:
        """Whether `count` of them can be had in `left_ns`, with what comes after."""
        if left_ns >= TIMES * count * self.ns + AFTER_NS:
            return True
        self.ns *= FORGET
        return False


@dataclass(frozen=True, slots=True)
class Step:
    """One way to judge a frame, and what it takes; the whole recipe has no name."""

    name: str
    inspector: Inspector
    takes: Takes = field(default_factory=Takes)

    def look(self, frame: Frame, due_ns: int) -> Seen:
        """Judge by this step; the answer says so."""
        started = clock.now_ns()
        seen = self.inspector.look_whole(frame, due_ns)
        budget_ns = max(due_ns - frame.head.time_zero_ns, 0)
        self.takes.took(min(clock.now_ns() - started, LONGEST * budget_ns))
        if not self.name:
            return seen
        left_out = (ALL_BUT + self.name, *seen.inspection.degraded)
        inspection = msgspec.structs.replace(seen.inspection, degraded=left_out)
        return replace(seen, inspection=inspection)


class Ladder:
    """The steps below the whole recipe, in order, and what each takes."""

    def __init__(self, steps: Mapping[str, Inspector] | None = None) -> None:
        self.watching = Takes()
        """Of rules that only watch: they cost no unit its deadline."""
        self._whole = Takes()
        self._steps = [Step(name, inspector) for name, inspector in (steps or {}).items()]

    @property
    def inspectors(self) -> dict[str, Inspector]:
        """By the step's name."""
        return {step.name: step.inspector for step in self._steps}

    def look(self, whole: Inspector, frame: Frame, due_ns: int) -> Seen:
        """
        By the first step that there is time for, else by the quickest while it can be in time.

        Raises `Uninspectable` when even that would come too late.
        """
        left_ns = due_ns - clock.now_ns()
        steps = (Step("", whole, self._whole), *self._steps)
        step = next((step for step in steps if step.takes.fits(left_ns)), None)
        if step is None:
            step = min(steps, key=lambda known: known.takes.ns)
        if step.takes.ns > left_ns:
            text = f"{left_ns / 1e6:.1f} ms were left; it takes {step.takes.ns / 1e6:.1f} ms"
            raise Uninspectable(Reason.TIMEOUT.value, text)
        return step.look(frame, due_ns)


def by_whole(verdict: Verdict) -> bool:
    """Whether the whole recipe judged the unit, so that its scores compare with the recipe's."""
    return not any(left_out.startswith(ALL_BUT) for left_out in verdict.degraded)


def load_steps(recipe: Recipe) -> dict[str, Recipe]:
    """The recipes of the ladder, which nothing watches; raises `DocumentError` for an unfit one."""
    steps: dict[str, Recipe] = {}
    for step in recipe.ladder:
        found = load_recipe(step.recipe)
        problem = next(chain(_elsewhere(recipe, found), _unproven(recipe, found)), None)
        if step.name in steps:
            problem = "another step has this name"
        if problem:
            text = f"cannot be step '{step.name}' of the ladder of '{recipe.product}': {problem}"
            raise DocumentError(str(step.recipe), None, text)
        steps[step.name] = found.model_copy(update={"shadow": None, "baseline": None})
    return steps


def _elsewhere(recipe: Recipe, step: Recipe) -> Iterator[str]:
    """Why a step could pass what the whole recipe looks at."""
    if step.product != recipe.product:
        yield f"it is of product '{step.product}'"
    if step.alignment != recipe.alignment:
        yield "its alignment is another one; give it the same [alignment]"
    if odd := sorted(name for name, *_ in _looked_at(step) ^ _looked_at(recipe)):
        yield f"it does not look at the same places: '{odd[0]}' differs in name, rect, grid or ignore"
    if ungated := sorted(recipe.quality.keys() - step.quality.keys()):
        yield f"it takes frames of camera '{ungated[0]}' as they come; calibrate it with its gate"


def _unproven(recipe: Recipe, step: Recipe) -> Iterator[str]:
    """Why what a step says may rest on nothing."""
    if step.ladder:
        yield f"it has a ladder of its own; list its steps in that of '{recipe.product}'"
    if step.calibration is None:
        yield "it has no threshold; run 'edge-inspector calibrate' with it first"
        return
    named = {region.rules for region in step.regions if region.rules is not None}
    if loose := sorted(named - step.calibration.rules.keys()):
        yield f"rules '{loose[0]}' are not part of its calibration; run 'edge-inspector calibrate'"
    if named and not {sample.expect for sample in step.golden} >= {Outcome.PASS, Outcome.FAIL}:
        yield "rules bring no challenge; add a golden sample that passes and one that fails"


def _looked_at(recipe: Recipe) -> set[tuple[str, ...]]:
    return {
        (
            one.name,
            one.camera,
            *map(repr, (one.rect, one.grid, one.ignore, one.code, one.unreadable)),
        )
        for one in recipe.regions
    }
