"""
Golden samples: units whose verdict is fixed, judged again whenever something may have changed it.

One that is judged otherwise halts the inspection: an engine, a recipe or a runtime that no longer
finds a known defect must not pass others.
"""

from __future__ import annotations

import select
from collections import deque
from dataclasses import dataclass

import numpy as np

from edge_inspector.channel import Channel, Rechecked
from edge_inspector.errors import DocumentError, Uninspectable
from edge_inspector.inspector import Inspector
from edge_inspector.recipe import Golden
from edge_inspector.records import Frame, FrameHead, FrameKey, Inspection, Outcome
from edge_inspector.wire.pixels import to_array


@dataclass(frozen=True, slots=True)
class Rejudged:
    """A golden sample and what is found on its picture now."""

    sample: Golden
    inspection: Inspection

    @property
    def as_expected(self) -> bool:
        """Whether the outcome is the fixed one, and the class where one is fixed."""
        sample, found = self.sample, self.inspection
        return found.outcome is sample.expect and (
            sample.defect_class is None or found.defect_class == sample.defect_class
        )

    @property
    def sentence(self) -> str:
        """What was expected and what was found, for a log or a verdict's detail."""
        sample, found = self.sample, self.inspection
        text = f"golden sample {sample.unit}: expected {said(sample.expect, sample.defect_class)}, "
        text += f"got {said(found.outcome, found.defect_class)}"
        return f"{text} ({found.detail})" if found.detail else text


def said(outcome: Outcome, defect_class: str | None) -> str:
    """An outcome and its class as they are typed: `pass`, `fail`, `fail:missing`."""
    return f"{outcome.value}:{defect_class}" if defect_class else outcome.value


def open_picture(sample: Golden, product: str) -> Frame:
    """The sample's frame; raises `DocumentError` where its picture is missing or damaged."""
    remedy = "put the picture back, or take the sample out of the recipe"
    try:
        buffer = np.fromfile(sample.picture, np.uint8)
    except OSError as error:
        problem = f"golden sample '{sample.unit}': {error.strerror}; {remedy}"
        raise DocumentError(str(sample.picture), None, problem) from None
    head = FrameHead(
        key=FrameKey("golden", sample.unit, 1),
        station="golden",
        camera=sample.camera,
        recipe=product,
        arrived_ns=0,
        time_zero_ns=0,
        unit_id=sample.unit,
        codec="png",
    )
    try:
        return Frame(head, to_array(head, buffer))
    except Uninspectable as error:
        problem = f"golden sample '{sample.unit}': {error.detail}; {remedy}"
        raise DocumentError(str(sample.picture), None, problem) from None


def rejudge(inspector: Inspector, sample: Golden) -> Rejudged:
    """Judge a golden sample now; raises `DocumentError`."""
    frame = open_picture(sample, inspector.recipe.product)
    return Rejudged(sample, inspector.inspect(frame))


def samples(inspector: Inspector) -> list[tuple[Inspector, Golden]]:
    """The samples of a recipe and of the steps of its ladder, each with who must judge it so."""
    judges = (inspector, *inspector.ladder.inspectors.values())
    return [(judge, sample) for judge in judges for sample in judge.recipe.golden]


class Goldens:
    """A worker's golden samples; `halt` says why nothing may pass, empty while all is as expected."""

    def __init__(self, inspector: Inspector) -> None:
        self._samples = samples(inspector)
        self._waiting: deque[tuple[Inspector, Golden]] = deque()
        self._changed: dict[int, str] = {}

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._samples)

    @property
    def halt(self) -> str:
        """The first sample that is judged otherwise than it is fixed to be, in words."""
        return next(iter(self._changed.values()), "")

    def replay(self) -> None:
        """Judge all of them; raises `DocumentError` where a picture is missing."""
        for judge, sample in self._samples:
            self._note(sample, rejudge(judge, sample))

    def ask(self) -> None:
        """All of them are to be judged again, when there is time."""
        self._waiting = deque(self._samples)

    def go_on(self, line: Channel) -> None:
        """Judge those that are asked for while no job waits, so that a job waits for one at most."""
        while self._waiting and not select.select([line], [], [], 0)[0]:
            judge, sample = self._waiting.popleft()
            try:
                self._note(sample, rejudge(judge, sample))
            except DocumentError as error:
                self._changed[id(sample)] = str(error)
            if not self._waiting:
                line.send(self.report())

    def report(self) -> Rechecked:
        """What core logs."""
        text = f"{self.count} golden samples as expected"
        return Rechecked(self.halt or text, bool(self.halt))

    def _note(self, sample: Golden, found: Rejudged) -> None:
        self._changed.pop(id(sample), None)
        if not found.as_expected:
            self._changed[id(sample)] = found.sentence
