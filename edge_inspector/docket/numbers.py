"""Numbered frames among the units: gaps are opened, filled, and answered for once."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edge_inspector.docket.desk import Memory
from edge_inspector.docket.gaps import Gaps, Sequences, stand_in
from edge_inspector.docket.units import OpenUnits, Unit
from edge_inspector.docket.words import Action, Note, SequenceReset
from edge_inspector.records import FrameHead

MAX_OPEN = 1024
"""Open units beyond which none is announced: a controller that counts wildly fills no memory."""


class Runs:
    """The last runs, the oldest first: when each began, and its number."""

    def __init__(self, began: list[tuple[int, int]]) -> None:
        self._began = began

    @property
    def newest(self) -> int:
        """The run in which trigger ids count."""
        return self._began[-1][1]

    def begin(self, began_ns: int, run: int) -> None:
        """Trigger ids start again."""
        self._began = [*self._began[-7:], (began_ns, run)]

    def of(self, time_zero_ns: int) -> int:
        """A frame belongs to the run that it was captured in, whenever it is offered."""
        began = (run for began_ns, run in reversed(self._began) if began_ns <= time_zero_ns)
        return next(began, self._began[0][1])


class Numbers:
    """What a publisher's own numbers mean for the units that are open or settled."""

    def __init__(
        self,
        units: OpenUnits,
        past: Memory,
        act: Callable[[Action], None],
        deadline: Callable[[FrameHead], int],
    ) -> None:
        self._open = units
        self._past = past
        self._act = act
        self._deadline = deadline
        self._sequences = Sequences()
        self._gaps = Gaps()

    def seen(self, station: str, run: int, trigger_id: int) -> None:
        """The log has a verdict with this trigger id."""
        self._gaps.seen(station, run, trigger_id)

    def expect(self, head: FrameHead, cameras: tuple[str, ...]) -> None:
        """Open the unit of an announced part, whose `head` stands for the frame to come."""
        key = head.unit_key
        if self._open.get(key) is not None or key in self._past:
            return
        if len(self._open) >= MAX_OPEN:
            text = f"announced while {len(self._open)} units are open, the limit is {MAX_OPEN}"
            self._act(Note(key, text, "refused"))
            return
        self._open.add(Unit(key, head.key, head, cameras, self._deadline(head)))

    def place(self, head: FrameHead) -> FrameHead:
        """Find gaps and resets; the head under the key it is known by."""
        return self._assured(head) if head.assured else self._plain(head)

    def _assured(self, head: FrameHead) -> FrameHead:
        """A frame whose number was answered for already gets that answer, whatever it shows."""
        number = _number(head)
        gap = self._open.get(number)
        if number != head.unit_key and (number in self._past or (gap and gap.committed)):
            return msgspec.structs.replace(head, unit_id=None, trigger_id=None)
        if number != head.unit_key and gap is not None:
            self._open.pop(number)
        for missing in self._gaps.missing(head):
            self._await(missing, head)
        return head

    def _plain(self, head: FrameHead) -> FrameHead:
        """A frame offered again moves no counter."""
        renamed = self._sequences.rename(head)
        known = self._digest(renamed)
        near = self._sequences.near(head)
        if known is not None and (known == head.digest or near or not head.advisory):
            return renamed
        number = _number(renamed)
        gap = self._open.get(number)
        awaited = (gap is not None and not gap.parts) or (known is None and number in self._past)
        placed = self._sequences.place(head, awaited=awaited)
        if placed.reset:
            self._act(SequenceReset(head.key.source))
        elif gap is not None and not gap.parts and not gap.committed and not head.advisory:
            self._open.pop(number)
        for key in placed.missing:
            self._await(stand_in(placed.head, key), placed.head)
        return placed.head

    def _await(self, missing: FrameHead, after: FrameHead) -> None:
        """Open a unit for a frame that did not come; without it by then it has no image."""
        key = missing.unit_key
        if self._open.get(key) is None and key not in self._past:
            self._open.add(Unit(key, missing.key, missing, (after.camera,), self._deadline(after)))

    def _digest(self, head: FrameHead) -> int | None:
        """Digest of the frame that this unit already has of this camera, None without one."""
        if (past := self._past.get(head.unit_key)) is not None:
            return past.digests.get(head.camera)
        unit = self._open.get(head.unit_key)
        return None if unit is None else unit.digests.get(head.camera)


def _number(head: FrameHead) -> str:
    return f"f:{head.key.source}/{head.key.epoch}/{head.key.seq}"
