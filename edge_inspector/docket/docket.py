"""
The promise "exactly one verdict per accepted unit, by its deadline", as a pure state machine.

`step(event, now) -> actions`: no clock, no socket, no file, no pixel. The daemon feeds it and does
what it asks for. A frame's way: `Offered` -> `Journal` and `Dispatch` at once -> `Journaled`,
`Inspected` -> `Commit` -> `Settled` -> `Publish`.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from edge_inspector.clock import NS_PER_US
from edge_inspector.docket.desk import Desk, Memory, Past
from edge_inspector.docket.gaps import announced
from edge_inspector.docket.numbers import Numbers, Runs
from edge_inspector.docket.repeats import Pictures, Repeats, frozen
from edge_inspector.docket.replies import Replies
from edge_inspector.docket.units import OpenUnits, Part, Unit, decide, uninspected
from edge_inspector.docket.words import (
    Action,
    Capacity,
    Commit,
    Event,
    Expected,
    Inspected,
    Journal,
    Journaled,
    Note,
    Offered,
    Publish,
    RunBegan,
    Settled,
    WorkerLost,
)
from edge_inspector.records import Committed, FrameHead, FrameKey, Inspection, Reason


class Docket:
    """
    Every frame in hand, and the verdict it will have.

    `remembered` settled units answer for frames that are offered again; older ones are in the log.
    Cameras that `never_repeat` are frozen when they do. With `observe` every verdict is advisory.
    """

    def __init__(
        self,
        station: str,
        cameras: tuple[str, ...],
        budget_us: int,
        max_queue: int,
        recipe: str,
        recipe_version: int,
        remembered: int = 20_000,
        evidence: str = "",
        never_repeat: Collection[str] = (),
        observe: bool = False,
    ) -> None:
        self.station = station
        self.cameras = cameras
        self.budget_us = budget_us
        self.max_queue = max_queue
        self.recipe = recipe
        self.recipe_version = recipe_version
        self.evidence = evidence
        self.observe = observe
        self._runs = Runs([(0, 0)])
        self._now = 0
        self._actions: list[Action] = []
        self._open = OpenUnits()
        self._past = Memory(remembered)
        self._desk = Desk(self._act)
        self._replies = Replies(self._act)
        self._repeats = Repeats(never_repeat)
        self._numbers = Numbers(self._open, self._past, self._act, self._deadline)

    def resume(self, runs: list[tuple[int, int]], known: Pictures) -> None:
        """Go on in these runs, behind the log's newest verdicts and their pictures, oldest first."""
        self._runs = Runs(runs)
        self._repeats.remember(known)
        for verdict, _ in known:
            if verdict.trigger_id is not None:
                self._numbers.seen(verdict.station, verdict.run, verdict.trigger_id)

    @property
    def run(self) -> int:
        """The run in which trigger ids count."""
        return self._runs.newest

    @property
    def queued(self) -> int:
        """Frames that wait for a worker."""
        return len(self._desk)

    @property
    def open_units(self) -> int:
        """Units without a verdict on disk."""
        return len(self._open)

    def step(self, event: Event, now_ns: int) -> list[Action]:
        """What follows from `event` at `now_ns`; deadlines that have passed by then come first."""
        self._now = now_ns
        self._expire()
        self._take(event)
        self._expire()
        self._desk.feed(self._now)
        actions, self._actions = self._actions, []
        return actions

    def _take(self, event: Event) -> None:
        match event:
            case Offered():
                self._offer(event.head)
            case Journaled():
                self._journaled(event)
            case Inspected():
                self._answered(event.key, event.inspection)
            case WorkerLost():
                self._lost(event)
            case Capacity():
                self._desk.free = event.free
            case Settled():
                self._settle(event.committed)
            case _:
                self._told(event)

    def _told(self, event: Event) -> None:
        """What a line controller says."""
        if isinstance(event, RunBegan):
            self._runs.begin(self._now, event.run)
        elif isinstance(event, Expected):
            part = (self.station, self.cameras[0], self.recipe, self.run, event.trigger_id)
            self._numbers.expect(announced(*part, self._now), self.cameras)

    def next_due(self) -> int | None:
        """The monotonic instant of the next deadline, None when no unit waits for one."""
        unit = self._open.next()
        return None if unit is None else unit.deadline_ns

    def _act(self, action: Action) -> None:
        self._actions.append(action)

    # -- frames in ---------------------------------------------------------------------------

    def _offer(self, head: FrameHead) -> None:
        if run := self._runs.of(head.time_zero_ns):
            head = msgspec.structs.replace(head, run=run)
        if head.numbered:
            head = self._numbers.place(head)
        copies = self._repeats.copies(head)
        unit = self._open.get(head.unit_key)
        if (past := self._past.get(head.unit_key)) is not None:
            self._again_settled(past, head)
        elif unit is not None and (unit.committed or head.camera in unit.parts):
            self._again_open(unit, head)
        else:
            self._accept(unit, head, copy=head.unit_key in copies)
        for unit_key in copies - {head.unit_key}:
            self._copied(unit_key, head)

    def _accept(self, unit: Unit | None, head: FrameHead, *, copy: bool) -> None:
        head = self._checked(self._desk.named(head), copy=copy)
        due = self._deadline(head)
        if unit is None or not unit.parts:
            alone = head.advisory or len(self.cameras) == 1
            wanted = (head.camera,) if alone else self.cameras
            unit = Unit(head.unit_key, head.key, head, wanted, due)
            self._open.add(unit)
        elif due < unit.deadline_ns:
            unit.deadline_ns = due
            self._open.add(unit)
        part = Part(head, unit, released=head.slot < 0)
        unit.parts[head.camera] = self._desk.frames[head.key] = part
        self._replies.expect(part, head)
        self._act(Journal(head, unit.deadline_ns))
        if head.fault is not None:
            part.inspection = uninspected(head.fault, head.detail)
            self._desk.let_go(part)
        elif unit.deadline_ns > self._now:
            self._desk.put(part)
        self._finish(unit)

    def _checked(self, head: FrameHead, *, copy: bool) -> FrameHead:
        """Give the frame a fault where it cannot be taken."""
        if head.fault is not None:
            return head
        if head.camera not in self.cameras:
            known = ", ".join(self.cameras)
            text = f"camera '{head.camera}' is not in recipe '{self.recipe}'; it has: {known}"
            return msgspec.structs.replace(head, fault=Reason.BAD_INPUT, detail=text)
        if copy:
            return msgspec.structs.replace(head, fault=Reason.CAMERA_FAULT, detail=frozen(head))
        if self._desk.free <= 0 and len(self._desk) >= self.max_queue:
            text = f"{len(self._desk)} frames wait already, the limit of max_queue"
            return msgspec.structs.replace(head, fault=Reason.SHED, detail=text)
        return head

    def _again_settled(self, past: Past, head: FrameHead) -> None:
        self._desk.release(head)
        known = past.digests.get(head.camera)
        if known is not None and head.contradicts(known):
            self._replies.refuse(head, f"verdict {past.vseq} of other pixels stands")
            return
        self._replies.again(head, known)
        self._replies.stored(head, past)

    def _again_open(self, unit: Unit, head: FrameHead) -> None:
        self._desk.release(head)
        part = unit.parts.get(head.camera)
        if part is not None and head.contradicts(part.head.digest):
            self._replies.contradict(unit, head)
            self._conflict(unit)
        elif part is not None and not part.journaled:
            self._act(Note(unit.key, f"frame of camera '{head.camera}'", "duplicate"))
            self._replies.expect(part, head)
        else:
            self._replies.again(head, None if part is None else part.head.digest)
            unit.tickets += [head.ticket] if head.ticket else []

    def _journaled(self, event: Journaled) -> None:
        part = self._desk.frames.get(event.key)
        if part is None:
            self._act(Note("", f"journal row of unknown frame {event.key}", "unknown"))
            return
        unit, part.journaled = part.unit, True
        self._replies.journaled(part, conflict=event.conflict)
        if event.stored is not None:
            self._settle(event.stored, {} if event.conflict else unit.digests)
            self._replies.settled(unit, event.stored)
        elif event.conflict:
            self._conflict(unit)
        self._desk.forget(part)

    def _answered(self, key: FrameKey, inspection: Inspection) -> None:
        part = self._desk.answered(key)
        if part is None:
            self._act(Note("", f"answer for unknown frame {key}", "unknown"))
            return
        if part.unit.committed:
            text = f"{inspection.outcome.value} came after the verdict"
            self._act(Note(part.unit.key, text, "late"))
            return
        part.inspection = inspection
        self._finish(part.unit)

    def _lost(self, event: WorkerLost) -> None:
        for key in event.keys:
            self._answered(key, uninspected(Reason.MODEL_FAULT, f"worker lost: {event.detail}"))

    def _settle(self, committed: Committed, digests: dict[str, int] | None = None) -> None:
        key = committed.verdict.unit_key
        unit = self._open.pop(key)
        if committed.fresh:
            self._act(Publish(committed))
        if unit is not None:
            unit.committed = True
            self._desk.drop(unit)
            self._replies.settled(unit, committed)
            digests = unit.digests if digests is None else digests
        self._past.add(committed, digests or {})

    # -- deadlines and verdicts --------------------------------------------------------------

    def _deadline(self, head: FrameHead) -> int:
        budget_us = self.budget_us if head.budget_us is None else head.budget_us
        return head.time_zero_ns + min(budget_us, self.budget_us) * NS_PER_US

    def _expire(self) -> None:
        while (unit := self._open.next()) is not None and unit.deadline_ns <= self._now:
            self._commit(unit)

    def _finish(self, unit: Unit) -> None:
        if unit.complete and not unit.committed:
            self._commit(unit)

    def _conflict(self, unit: Unit) -> None:
        if not unit.committed:
            text = "frames with different pixels came under the same identity"
            self._commit(unit, uninspected(Reason.CONFLICT, text))

    def _copied(self, unit_key: str, original: FrameHead) -> None:
        """A frame that came earlier is a copy of this one: its unit was not seen."""
        unit = self._open.get(unit_key)
        if unit is not None and not unit.committed:
            self._commit(unit, uninspected(Reason.CAMERA_FAULT, frozen(original)))
        else:
            self._act(Note(unit_key, frozen(original), "conflict"))

    def _commit(self, unit: Unit, conflict: Inspection | None = None) -> None:
        unit.committed = True
        verdict = decide(unit, self.recipe, self.recipe_version, self._now, conflict)
        advisory = verdict.advisory or self.observe
        verdict = msgspec.structs.replace(verdict, evidence=self.evidence, advisory=advisory)
        self._act(Commit(verdict))
        self._desk.drop(unit)
