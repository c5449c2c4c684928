"""
Too many rejects: raised by counting verdicts, held until somebody resets it, kept over restarts.

`alarms.jsonl` in the store's folder is both state and audit: a line for each alarm that was raised
and each reset. A running daemon reads the resets that others append.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
import structlog

from edge_inspector import clock
from edge_inspector.records import Committed, Outcome
from edge_inspector.resources import Alarms

NAME = "alarms.jsonl"
LOOK_S = 0.2
UNWRITTEN = 1000
"""More verdicts than settle between raising an alarm and writing it down."""


class Raised(msgspec.Struct, frozen=True, tag="raised"):
    """An alarm: which verdict raised it, and what holds until it is reset."""

    kind: Literal["in_a_row", "rate"]
    action: Literal["alarm", "stop"]
    text: str
    vseq: int
    utc_ns: int


class Reset(msgspec.Struct, frozen=True, tag="reset"):
    """Somebody looked: alarms up to this verdict are over, and counting begins behind it."""

    by: str
    vseq: int
    utc_ns: int


_LINE: msgspec.json.Decoder[Raised | Reset] = msgspec.json.Decoder(Raised | Reset)
_ENCODER = msgspec.json.Encoder()


class Tally:
    """
    Counts rejects and says when they are too many: pure.

    `raised` holds until `reset`; a kind that is raised is not raised again before that.
    """

    def __init__(self, limits: Alarms) -> None:
        self.raised: list[Raised] = []
        self._limits = limits
        self._seen = 0
        self._in_a_row = 0
        self._rejected = 0
        self._recent: deque[bool] = deque()
        self._window = limits.rate.window if limits.rate else 0

    @property
    def reach(self) -> int:
        """How many of the newest verdicts can have raised what a killed daemon did not write."""
        row = self._limits.in_a_row.rejects if self._limits.in_a_row else 0
        longest = max(row, self._window)
        return longest + UNWRITTEN if longest else 0

    @property
    def state(self) -> Literal["ready", "degraded", "fault"]:
        """What the alarms that hold make of a station that is well otherwise."""
        if any(alarm.action == "stop" for alarm in self.raised):
            return "fault"
        return "degraded" if self.raised else "ready"

    def settled(self, vseq: int, outcome: Outcome) -> list[Raised]:
        """Count a verdict, each once and in order; the alarms that it raises."""
        if vseq <= self._seen:
            return []
        self._seen = vseq
        rejected = outcome is not Outcome.PASS
        self._in_a_row = self._in_a_row + 1 if rejected else 0
        self._recent.append(rejected)
        self._rejected += rejected
        if len(self._recent) > self._window:
            self._rejected -= self._recent.popleft()
        held = {alarm.kind for alarm in self.raised}
        fresh = [alarm for alarm in self._due(vseq) if alarm.kind not in held]
        self.raised += fresh
        return fresh

    def resume(self, raised: Sequence[Raised], reset_vseq: int) -> None:
        """Go on with what held, behind the verdict of the last reset."""
        self.raised = list(raised)
        self._seen = reset_vseq

    def reset(self, vseq: int) -> None:
        """Alarms up to this verdict are over; what was counted is forgotten."""
        self.raised = [alarm for alarm in self.raised if alarm.vseq > vseq]
        self._in_a_row = self._rejected = 0
        self._recent.clear()

    def _due(self, vseq: int) -> list[Raised]:
        row, rate = self._limits.in_a_row, self._limits.rate
        due: list[Raised] = []
        if row is not None and self._in_a_row >= row.rejects:
            text = f"{self._in_a_row} rejects in a row; the limit is {row.rejects}"
            due.append(Raised("in_a_row", row.action, text, vseq, clock.utc_ns()))
        if rate is not None and self._rejected > rate.share * rate.window:
            text = (
                f"{self._rejected} of the last {len(self._recent)} units rejected; "
                f"the limit is {rate.share:.1%} of {rate.window}"
            )
            due.append(Raised("rate", rate.action, text, vseq, clock.utc_ns()))
        return due


class AlarmSink:
    """
    A station's alarms as a sink among others; files are touched by a thread of its own only.

    `read(from_vseq, limit)` reads the log, once, to go on counting where the daemon left off.
    """

    def __init__(self, folder: Path, limits: Alarms) -> None:
        self._path = folder / NAME
        self._tally = Tally(limits)
        self._unwritten: list[Raised] = []
        self._offset = 0
        self._mute = False
        self._changed = threading.Lock()
        """Guards the tally and what is unwritten; never held while a file is touched."""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._log = structlog.get_logger("edge_inspector")

    @property
    def state(self) -> Literal["ready", "degraded", "fault"]:
        """What the alarms that hold make of a station that is well otherwise."""
        return self._tally.state

    def open(self, newest: Sequence[Committed] = ()) -> None:
        """Go on behind the last reset, counting the `newest` verdicts of the log anew."""
        lines, self._offset = read_from(self._path, 0)
        raised, reset_vseq = holding(lines)
        head = newest[-1].vseq if newest else 0
        self._tally.resume(raised, min(reset_vseq, head))  # the log may have begun anew
        for row in newest:
            self._unwritten += self._tally.settled(row.vseq, row.verdict.outcome)
        for alarm in self._tally.raised:
            self._log.error("alarm", kind=alarm.kind, action=alarm.action, text=alarm.text)
        self._thread = threading.Thread(target=self._serve, name="alarms", daemon=True)
        self._thread.start()

    @property
    def reach(self) -> int:
        """How many of the newest verdicts `open` should be given."""
        return self._tally.reach

    def publish(self, row: Committed) -> None:
        """Count one verdict."""
        with self._changed:
            fresh = self._tally.settled(row.vseq, row.verdict.outcome)
            self._unwritten += fresh
        for alarm in fresh:
            self._log.error("alarm", kind=alarm.kind, action=alarm.action, text=alarm.text)

    def publish_state(self, head_vseq: int, state: str) -> None:
        """Nothing follows from it."""

    def close(self) -> None:
        """Write what is unwritten."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def _serve(self) -> None:
        while not self._stop.wait(LOOK_S):
            self._turn()
        self._turn()

    def _turn(self) -> None:
        with self._changed:
            unwritten, self._unwritten = self._unwritten, []
        try:
            for alarm in unwritten:
                append(self._path, alarm)
            lines, self._offset = read_from(self._path, self._offset)
        except OSError as error:
            with self._changed:
                self._unwritten[:0] = unwritten  # they hold all the same
            if not self._mute:
                self._log.error("alarm_not_written", error=str(error))
            self._mute = True
            return
        self._mute = False
        for reset in (line for line in lines if isinstance(line, Reset)):
            with self._changed:
                self._tally.reset(reset.vseq)
            self._log.warning("alarm_reset", by=reset.by, vseq=reset.vseq)


def append(path: Path, line: Raised | Reset) -> None:
    """Add a line, whoever else does so at the same time, and sync it."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    try:
        os.write(fd, b"\n" + _ENCODER.encode(line) + b"\n")  # what a crash cut short stands alone
        os.fsync(fd)
    finally:
        os.close(fd)


def read_from(path: Path, offset: int) -> tuple[list[Raised | Reset], int]:
    """The whole lines from `offset` on that can be read, and where they end."""
    if not path.exists() or path.stat().st_size <= offset:
        return [], offset
    with path.open("rb") as file:
        file.seek(offset)
        raw = file.read()
    whole = raw[: raw.rfind(b"\n") + 1]
    lines: list[Raised | Reset] = []
    for line in whole.splitlines():
        try:
            lines.append(_LINE.decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
    return lines, offset + len(whole)


def holding(lines: Sequence[Raised | Reset]) -> tuple[list[Raised], int]:
    """The alarms that hold after these lines, and the verdict up to which the last reset went."""
    reset_vseq = max((line.vseq for line in lines if isinstance(line, Reset)), default=0)
    raised = [line for line in lines if isinstance(line, Raised) and line.vseq > reset_vseq]
    return raised, reset_vseq
