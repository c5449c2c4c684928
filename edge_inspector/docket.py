"""
The promise "exactly one verdict per accepted unit, by its deadline", as a pure state machine.

`step(event, now) -> actions`: no clock, no socket, no file, no pixel. The daemon feeds it and does
what it asks for. A frame's way: `Offered` -> `Journal` and `Dispatch` at once -> `Journaled`,
`Inspected` -> `Commit` -> `Settled` -> `Publish`.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

import msgspec

from edge_inspector.clock import NS_PER_US
from edge_inspector.docket_gaps import Sequences
from edge_inspector.docket_units import Part, Unit, decide, uninspected
from edge_inspector.docket_words import (
    Action,
    Capacity,
    Commit,
    Dispatch,
    Event,
    Inspected,
    Journal,
    Journaled,
    Note,
    Offered,
    Publish,
    Release,
    Reply,
    SequenceReset,
    Settled,
    Tick,
    WorkerLost,
)
from edge_inspector.records import Committed, FrameHead, FrameKey, Inspection, Reason, Verdict


@dataclass(frozen=True, slots=True)
class _Past:
    """A settled unit as remembered: enough to answer for it again."""

    digests: dict[str, int]
    vseq: int
    body: bytes
    chain: int

    def committed(self) -> Committed:
        verdict = msgspec.msgpack.decode(self.body, type=Verdict)
        return Committed(
            vseq=self.vseq, verdict=verdict, body=self.body, chain=self.chain, fresh=False
        )


class Docket:
    """
    Every frame in hand, and the verdict it will have.

    `remembered` settled units are kept to answer for frames that are offered again; older ones are
    found in the log when the frame is journaled.
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
    ) -> None:
        self.station = station
        self.cameras = cameras
        self.budget_us = budget_us
        self.max_queue = max_queue
        self.recipe = recipe
        self.recipe_version = recipe_version
        self.remembered = remembered
        self._now = 0
        self._free = 0
        self._renamed = 0
        self._actions: list[Action] = []
        self._open: dict[str, Unit] = {}
        self._past: OrderedDict[str, _Past] = OrderedDict()
        self._frames: dict[FrameKey, Part] = {}
        self._queue: dict[FrameKey, Part] = {}
        self._timers: list[tuple[int, str]] = []
        self._sequences = Sequences()

    @property
    def queued(self) -> int:
        """Frames that wait for a worker."""
        return len(self._queue)

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
        self._feed()
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
                self._free = event.free
            case Settled():
                self._settle(event.committed)
            case Tick():
                pass

    def next_due(self) -> int | None:
        """The monotonic instant of the next deadline, None when no unit waits for one."""
        while self._timers and self._due_unit() is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    # -- frames in ---------------------------------------------------------------------------

    def _offer(self, head: FrameHead) -> None:
        if head.numbered:
            head = self._number(head)
        unit = self._open.get(head.unit_key)
        if (past := self._past.get(head.unit_key)) is not None:
            self._past.move_to_end(head.unit_key)
            self._again_settled(past, head)
        elif unit is not None and (unit.committed or head.camera in unit.parts):
            self._again_open(unit, head)
        else:
            self._accept(unit, head)

    def _number(self, head: FrameHead) -> FrameHead:
        """Find gaps and resets; a frame offered again moves no counter."""
        renamed = self._sequences.rename(head)
        known = self._digest(renamed)
        near = self._sequences.near(head)
        if known is not None and (known == head.digest or near or not head.advisory):
            return renamed
        number = f"f:{renamed.key.source}/{renamed.key.epoch}/{renamed.key.seq}"
        gap = self._open.get(number)
        awaited = (gap is not None and not gap.parts) or (known is None and number in self._past)
        placed = self._sequences.place(head, awaited=awaited)
        if placed.reset:
            self._actions.append(SequenceReset(head.key.source))
        elif gap is not None and not gap.parts and not gap.committed and not head.advisory:
            del self._open[number]
        for key in placed.missing:
            self._await(key, placed.head)
        return placed.head

    def _await(self, key: FrameKey, after: FrameHead) -> None:
        """Open a unit for a number that did not come; without a frame by then it has no image."""
        number = msgspec.structs.replace(after, key=key, unit_id=None, trigger_id=None, slot=-1)
        if number.unit_key not in self._open and number.unit_key not in self._past:
            wanted, due = (after.camera,), self._deadline(after)
            self._add(Unit(number.unit_key, key, number, wanted, due))

    def _accept(self, unit: Unit | None, head: FrameHead) -> None:
        unit_key, due = head.unit_key, self._deadline(head)
        head = self._checked(head)
        if unit is None or not unit.parts:
            alone = head.advisory or len(self.cameras) == 1
            unit = Unit(unit_key, head.key, head, (head.camera,) if alone else self.cameras, due)
            self._add(unit)
        elif due < unit.deadline_ns:
            unit.deadline_ns = due
            self._add(unit)
        part = Part(head, unit, released=head.slot < 0)
        unit.parts[head.camera] = self._frames[head.key] = part
        self._tickets(part, head)
        self._actions.append(Journal(head, unit.deadline_ns))
        if head.fault is not None:
            part.inspection = uninspected(head.fault, head.detail)
            self._let_go(part)
        elif unit.deadline_ns > self._now:
            self._queue[head.key] = part
        self._finish(unit)

    def _checked(self, head: FrameHead) -> FrameHead:
        """Give the frame a fault where it cannot be taken, and a key that no other frame holds."""
        if head.key in self._frames:
            self._renamed += 1
            epoch = f"{head.key.epoch}~{self._renamed}"
            key = FrameKey(head.key.source, epoch, head.key.seq)
            head = msgspec.structs.replace(head, key=key)
        if head.fault is not None:
            return head
        if head.camera not in self.cameras:
            known = ", ".join(self.cameras)
            text = f"camera '{head.camera}' is not in recipe '{self.recipe}'; it has: {known}"
            return msgspec.structs.replace(head, fault=Reason.BAD_INPUT, detail=text)
        if self._free <= 0 and len(self._queue) >= self.max_queue:
            text = f"{len(self._queue)} frames wait already, the limit of max_queue"
            return msgspec.structs.replace(head, fault=Reason.SHED, detail=text)
        return head

    # -- frames offered again ----------------------------------------------------------------

    def _again_settled(self, past: _Past, head: FrameHead) -> None:
        self._release(head)
        known = past.digests.get(head.camera)
        if known is not None and known != head.digest:
            self._refuse(head, f"verdict {past.vseq} of other pixels stands")
            return
        kind = self._again(head, known)
        if head.ticket:
            self._reply(head.ticket, "ok" if kind == "duplicate" else "no", kind)
            self._verdict_to(head.ticket, past.committed())

    def _again_open(self, unit: Unit, head: FrameHead) -> None:
        self._release(head)
        part = unit.parts.get(head.camera)
        if part is not None and part.head.digest != head.digest:
            self._refuse(head, "other pixels came under the same identity")
            if not unit.committed:
                conflict = uninspected(Reason.CONFLICT, "two frames with different pixels")
                self._commit(unit, conflict)
            return
        kind = self._again(head, None if part is None else part.head.digest)
        if part is not None and not part.journaled:
            self._tickets(part, head)
        elif head.ticket:
            self._reply(head.ticket, "ok" if kind == "duplicate" else "no", kind)
            unit.tickets.append(head.ticket)

    def _again(self, head: FrameHead, known: int | None) -> str:
        """Note why a frame of a known unit changes nothing."""
        kind: Literal["late", "duplicate"] = "late" if known is None else "duplicate"
        self._actions.append(Note(head.unit_key, f"frame of camera '{head.camera}'", kind))
        return kind

    def _refuse(self, head: FrameHead, text: str) -> None:
        self._actions.append(Note(head.unit_key, text, "conflict"))
        if head.ticket:
            self._reply(head.ticket, "no", f"conflict: {text}", final=True)

    # -- answers -----------------------------------------------------------------------------

    def _journaled(self, event: Journaled) -> None:
        part = self._frames.get(event.key)
        if part is None:
            self._actions.append(Note("", f"journal row of unknown frame {event.key}", "unknown"))
            return
        unit, part.journaled = part.unit, True
        if event.conflict:
            unit.tickets = [t for t in unit.tickets if t not in part.tickets]
            self._actions.append(Note(unit.key, "the log holds other pixels", "conflict"))
        for ticket in part.tickets:
            self._accepted(ticket, part.head, conflict=event.conflict)
        part.tickets.clear()
        if event.stored is not None:
            self._settle(event.stored, {} if event.conflict else unit.digests)
        elif event.conflict and not unit.committed:
            self._commit(unit, uninspected(Reason.CONFLICT, "the log holds other pixels"))
        self._forget(part)

    def _accepted(self, ticket: int, head: FrameHead, *, conflict: bool) -> None:
        if conflict:
            self._reply(ticket, "no", "conflict: the log holds other pixels", final=True)
        elif head.fault is not None:
            self._reply(ticket, "no", f"{head.fault.value}: {head.detail}")
        else:
            self._reply(ticket, "ok")

    def _answered(self, key: FrameKey, inspection: Inspection) -> None:
        part = self._frames.get(key)
        if part is None or not part.working:
            self._actions.append(Note("", f"answer for unknown frame {key}", "unknown"))
            return
        part.working = False
        self._let_go(part)
        if part.unit.committed:
            text = f"{inspection.outcome.value} came after the verdict"
            self._actions.append(Note(part.unit.key, text, "late"))
            return
        part.inspection = inspection
        self._finish(part.unit)

    def _lost(self, event: WorkerLost) -> None:
        for key in event.keys:
            self._answered(key, uninspected(Reason.MODEL_FAULT, f"worker lost: {event.detail}"))

    def _settle(self, committed: Committed, digests: dict[str, int] | None = None) -> None:
        key = committed.verdict.unit_key
        unit = self._open.pop(key, None)
        if committed.fresh:
            self._actions.append(Publish(committed))
        if unit is not None:
            unit.committed = True
            self._stop_waiting(unit)
            for ticket in unit.tickets:
                self._verdict_to(ticket, committed)
            digests = unit.digests if digests is None else digests
        if key not in self._past:
            self._past[key] = _Past(digests or {}, committed.vseq, committed.body, committed.chain)
        while len(self._past) > self.remembered:
            self._past.popitem(last=False)

    # -- deadlines and verdicts --------------------------------------------------------------

    def _deadline(self, head: FrameHead) -> int:
        budget_us = self.budget_us if head.budget_us is None else head.budget_us
        return head.time_zero_ns + min(budget_us, self.budget_us) * NS_PER_US

    def _add(self, unit: Unit) -> None:
        self._open[unit.key] = unit
        heapq.heappush(self._timers, (unit.deadline_ns, unit.key))

    def _due_unit(self) -> Unit | None:
        """The unit of the first timer, None when that timer no longer counts."""
        due, key = self._timers[0]
        unit = self._open.get(key)
        live = unit is not None and not unit.committed and unit.deadline_ns == due
        return unit if live else None

    def _expire(self) -> None:
        while (due := self.next_due()) is not None and due <= self._now:
            unit = self._due_unit()
            if unit is not None:
                self._commit(unit)

    def _finish(self, unit: Unit) -> None:
        if unit.complete and not unit.committed:
            self._commit(unit)

    def _commit(self, unit: Unit, conflict: Inspection | None = None) -> None:
        unit.committed = True
        verdict = decide(unit, self.recipe, self.recipe_version, self._now, conflict)
        self._actions.append(Commit(verdict))
        self._stop_waiting(unit)

    # -- queue and slots ---------------------------------------------------------------------

    def _feed(self) -> None:
        while self._free > 0 and self._queue:
            part = self._queue.pop(next(iter(self._queue)))
            part.working, part.dispatched_ns = True, self._now
            self._free -= 1
            self._actions.append(Dispatch(part.head, part.unit.deadline_ns))

    def _stop_waiting(self, unit: Unit) -> None:
        for part in unit.parts.values():
            if not part.working:
                self._queue.pop(part.head.key, None)
                self._let_go(part)

    def _let_go(self, part: Part) -> None:
        if not part.released:
            part.released = True
            self._release(part.head)
        self._forget(part)

    def _forget(self, part: Part) -> None:
        if part.journaled and part.released and not part.working:
            self._frames.pop(part.head.key, None)

    def _release(self, head: FrameHead) -> None:
        if head.slot >= 0:
            self._actions.append(Release(head.slot))

    # -- replies -----------------------------------------------------------------------------

    def _tickets(self, part: Part, head: FrameHead) -> None:
        if head.ticket:
            part.tickets.append(head.ticket)
            part.unit.tickets.append(head.ticket)

    def _reply(
        self, ticket: int, kind: Literal["ok", "no"], detail: str = "", *, final: bool = False
    ) -> None:
        self._actions.append(Reply(ticket, kind, detail, final=final))

    def _verdict_to(self, ticket: int, committed: Committed) -> None:
        self._actions.append(Reply(ticket, "verdict", committed=committed, final=True))

    def _digest(self, head: FrameHead) -> int | None:
        """Digest of the frame that this unit already has of this camera, None without one."""
        if (past := self._past.get(head.unit_key)) is not None:
            return past.digests.get(head.camera)
        unit = self._open.get(head.unit_key)
        return None if unit is None else unit.digests.get(head.camera)
