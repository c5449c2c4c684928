"""Verdicts on their way to a PLC: one is shown, up to 64 wait, each until it is acknowledged. Pure."""

from __future__ import annotations

import re
import zlib
from collections import Counter, deque
from collections.abc import Sequence

from edge_inspector.clock import NS_PER_US
from edge_inspector.records import Outcome, Reason, Verdict
from edge_inspector.wire.codes import CODES, NO_CLASS, code_of
from edge_inspector.wire.registers import MAX_TRIGGER, Result, counter_of

QUEUE = 64


class Results:
    """
    The queue of one gateway; `run` is the run that trigger ids count in.

    A verdict that no PLC can match, or that must drive nothing, is passed over: one without a
    trigger id of 32 bit, of another run, or advisory. Without `keep` the newest takes the place of
    the one that is shown. `validity_us` takes the place of the `valid_us` of the verdicts.
    """

    def __init__(
        self,
        classes: Sequence[str] = (),
        run: int = 0,
        *,
        keep: bool = True,
        validity_us: int | None = None,
    ) -> None:
        self.run = run
        self.overrun = False
        self.awaits_run = False
        self.counts: Counter[str] = Counter()
        self._classes = {name: number for number, name in enumerate(classes, 1)}
        self._keep = keep
        self._validity_us = validity_us
        self._queue: deque[Verdict] = deque()
        self._seen = 0
        self._acked = 0

    @property
    def upto(self) -> int:
        """All verdicts up to this one were acknowledged, passed over or given up."""
        return self._queue[0].vseq - 1 if self._queue else self._seen

    @property
    def waiting(self) -> int:
        """How many wait behind the one that is shown."""
        return max(0, len(self._queue) - 1)

    @property
    def shown(self) -> bool:
        """Whether a result waits to be acknowledged."""
        return bool(self._queue)

    def add(self, verdict: Verdict, *, past_ns: int | None = None) -> None:
        """The next verdict of the log; one from before `past_ns` that was too old then is history."""
        self._seen = verdict.vseq
        if verdict.run > self.run:
            self.begin_run(verdict.run)
        if verdict.advisory or not 0 < (verdict.trigger_id or 0) <= MAX_TRIGGER:
            self.counts["modbus_unmatched"] += 1
            return
        if verdict.run != self.run or self.awaits_run:
            self.counts["modbus_other_run"] += 1
            return
        if past_ns is not None and not self._fresh(verdict, past_ns):
            self.counts["modbus_historical"] += 1
            return
        if not self._keep:
            self._queue.clear()
        self._queue.append(verdict)
        if self.waiting > QUEUE:
            del self._queue[1]
            self.overrun = True
            self.counts["modbus_overrun"] += 1

    def skip_to(self, vseq: int) -> None:
        """What is before this verdict is not read any more."""
        self._seen = max(self._seen, vseq - 1)

    def ack(self, counter: int) -> bool:
        """The PLC has this result; False where it is neither the one shown nor the one before."""
        if not self._queue or counter != counter_of(self._queue[0].vseq):
            return counter in (0, self._acked)
        self.dequeue()
        return True

    def dequeue(self) -> None:
        """Show the next one."""
        if self._queue:
            self._acked = counter_of(self._queue.popleft().vseq)
            self.counts["modbus_acked"] += 1

    def await_run(self) -> None:
        """The PLC counts anew: what waits is of parts that are gone."""
        self.awaits_run = True
        self._queue.clear()

    def begin_run(self, run: int) -> None:
        """Trigger ids count in this run from now on."""
        self.awaits_run = False
        if run != self.run:
            self.run = run
            self._queue = deque(verdict for verdict in self._queue if verdict.run == run)

    def result(self, now_ns: int) -> Result:
        """What is shown now: a pass that is too old to be acted on as a timeout."""
        if not self._queue:
            return Result(counter=self._acked)
        verdict = self._queue[0]
        named = verdict.defect_class is not None
        return Result(
            counter=counter_of(verdict.vseq),
            trigger_id=verdict.trigger_id or 0,
            code=self._code(verdict, now_ns),
            defect_class=self._classes.get(verdict.defect_class or "", 0) if named else NO_CLASS,
            score=verdict.anomaly_score or 0.0,
            latency_us=verdict.latency_us,
            vseq=verdict.vseq,
            engine=_digest(verdict.engine),
        )

    def _code(self, verdict: Verdict, now_ns: int) -> int:
        if verdict.outcome is Outcome.PASS and not self._fresh(verdict, now_ns):
            return CODES[Reason.TIMEOUT]
        return code_of(verdict.outcome, verdict.reason)

    def _fresh(self, verdict: Verdict, now_ns: int) -> bool:
        valid_us = verdict.valid_us if self._validity_us is None else self._validity_us
        return 0 <= now_ns - verdict.time_zero_ns < valid_us * NS_PER_US


def _digest(engine: str) -> int:
    """The first 32 bit of the engine's digest, a CRC-32 where there are several engines."""
    one = re.match(r"([0-9a-f]{8})[0-9a-f]*\Z", engine)
    return int(one[1], 16) if one else zlib.crc32(engine.encode())
