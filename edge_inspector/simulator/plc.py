"""
The logic of the line controller, as the function blocks in `deploy/plc` have it. Pure.

A shift register follows each part from the camera to the gate. One scan takes the registers that
were read since the last one, moves the belt where it moved, and says what to write and whether the
gate opens. Whatever is missing, late, damaged or of another part is a reject.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

SILENT_MS = 300
ANSWER_MS = 2000
"""How long a new run may go unanswered before it is asked for again."""
LONG_MS = 60_000
MAP_MAJOR = 1
PASS_WORD = 0x5AA5
NEW_RUN = 5


class Slot(NamedTuple):
    """One place of the belt: the part on it, and what is known of it."""

    part: bool = False
    trigger_id: int = 0
    seen: bool = False
    good: bool = False


class Scanned(NamedTuple):
    """What one scan led to: holding registers 0 to 5, and the part that reached the gate."""

    writes: tuple[int, int, int, int, int, int]
    left: Slot
    opens: bool


class PlcLogic:
    """
    One function block, `slots` places from the camera to the gate.

    `counts` has passed, rejected, silent (rejected for want of a fresh toggle), unseen (rejected
    without a verdict), strangers (verdicts of no part on the belt) and damaged (blocks refused).
    """

    def __init__(self, slots: int = 16) -> None:
        self.belt = [Slot()] * slots
        self.trigger_id = 0
        self.running = False
        self.counts: Counter[str] = Counter()
        self._toggle = 0
        self._silent_ms = self._unread_ms = LONG_MS
        self._last = self._ack = self._beat = self._command = 0
        self._begun = False
        self._asked_ms = 0

    @property
    def healthy(self) -> bool:
        """Whether the toggle changed in the last 300 ms."""
        return self._silent_ms <= SILENT_MS

    def scan(
        self,
        registers: Sequence[int] | None,
        elapsed_ms: int,
        *,
        moved: bool = False,
        part: bool = False,
    ) -> Scanned:
        """One cycle; `registers` is None where none were read, `part` is one before the camera."""
        self._silent_ms = min(self._silent_ms + elapsed_ms, LONG_MS)
        self._asked_ms = min(self._asked_ms + elapsed_ms, LONG_MS)
        self._unread_ms = min(self._unread_ms + elapsed_ms, LONG_MS)
        if registers is not None:
            self._listen(registers)
            self._begin(registers[3])
            self._take(registers)
        left, opens = self._move() if moved else (Slot(), False)
        if part:
            self._enter()
        self._beat = (self._beat + 1) % 65_535
        high, low = self.trigger_id >> 16, self.trigger_id & 0xFFFF
        return Scanned((self._beat, self._ack, self._command, 0, high, low), left, opens)

    def _listen(self, registers: Sequence[int]) -> None:
        """Only a change of the toggle is a sign of life, and only where it is known when it was."""
        toggle = registers[1] >> 15
        if self._unread_ms <= SILENT_MS and toggle != self._toggle:
            self._silent_ms = 0
        self._toggle = toggle
        self._unread_ms = 0

    def _begin(self, echo: int) -> None:
        """At power-up part numbers start again: say so, and reject until it is confirmed."""
        if self.running:
            return
        if self._command == NEW_RUN and echo == NEW_RUN:
            self._begun, self._command = True, 0
        elif self._command == 0 and echo == 0:
            self.running = self._begun
            self._command = 0 if self._begun else NEW_RUN
            self._asked_ms = 0
        elif self._command == NEW_RUN and self._asked_ms > ANSWER_MS:
            self._command = 0

    def _take(self, registers: Sequence[int]) -> None:
        """A new result goes to the part that it is of, if that is on the belt; then it is done."""
        counter = registers[4]
        if not self.running or not self.healthy or not counter:
            return
        if not intact(registers):
            self.counts["damaged"] += 1
            return
        if counter != self._last:
            self._last = counter
            self._judge(registers[5] << 16 | registers[6], registers[7] == PASS_WORD)
        self._ack = counter

    def _judge(self, trigger_id: int, good: bool) -> None:
        for place, slot in enumerate(self.belt):
            if slot.trigger_id == trigger_id and trigger_id and not slot.seen:
                self.belt[place] = slot._replace(seen=True, good=good)
                return
        self.counts["strangers"] += 1

    def _move(self) -> tuple[Slot, bool]:
        """The belt moves by one place; the part on the last one is at the gate."""
        left = self.belt[-1]
        self.belt = [Slot(), *self.belt[:-1]]
        opens = left.part and left.good and self.healthy
        if left.part:
            self.counts["passed" if opens else "rejected"] += 1
            self.counts["silent"] += left.good and not opens
            self.counts["unseen"] += not left.seen
        return left, opens

    def _enter(self) -> None:
        """A part is before the camera; without a run it has no number, and is rejected."""
        if self.running:
            self.trigger_id += 1
        self.belt[0] = Slot(part=True, trigger_id=self.trigger_id if self.running else 0)


def intact(registers: Sequence[int]) -> bool:
    """Whether the block is of this map, whole, and as it was sent."""
    return (
        registers[0] >> 8 == MAP_MAJOR
        and registers[4] == registers[19]
        and (registers[17] << 16 | registers[18]) == _crc(registers[4:17])
    )


def _crc(words: Sequence[int]) -> int:
    return zlib.crc32(b"".join(word.to_bytes(2, "big") for word in words))
