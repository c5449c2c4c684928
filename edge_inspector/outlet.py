"""Where core's answers go: sinks, metrics, the log line of each unit, publishers that wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import structlog

from edge_inspector import clock
from edge_inspector.channel import Answer, Answers
from edge_inspector.docket import words as d
from edge_inspector.failpoints import passing
from edge_inspector.metrics import Metrics
from edge_inspector.protocols import Sink
from edge_inspector.records import Committed, FrameHead
from edge_inspector.wire import telemetry
from edge_inspector.wire.codes import code_of

AT_ONCE = 8
"""Answers in one message: each holds a verdict as JSON at most."""


class Outlet:
    """
    Tells everybody who must hear of a committed verdict, and only then.

    `wants_verdict` names the sources whose publishers wait for the verdict instead of an OK;
    `answer` reaches such publishers, or an assured source, through ingest. Replies are gathered
    until `flush`; the final one takes the place of the one before it.
    """

    def __init__(
        self,
        wants_verdict: frozenset[str],
        metrics: Metrics,
        answer: Callable[[Answers], object],
    ) -> None:
        self.sinks: Sequence[Sink] = ()
        self.notes: Counter[str] = Counter()
        self._wants_verdict = wants_verdict
        self._metrics = metrics
        self._answer = answer
        self._gathered: dict[int, Answer] = {}
        self._waiting: dict[int, str] = {}
        """Ticket -> what it waits for: ok, verdict or assured."""
        self._log = structlog.get_logger("edge_inspector")

    def expect(self, head: FrameHead) -> None:
        """Somebody may wait for an answer to this frame."""
        if head.ticket:
            wants = "verdict" if head.key.source in self._wants_verdict else "ok"
            self._waiting[head.ticket] = "assured" if head.assured else wants

    def forget_tickets(self) -> None:
        """Ingest is gone, and with it everybody who waited."""
        self._waiting.clear()

    def publish(self, row: Committed) -> None:
        """A verdict is on disk."""
        for sink in self.sinks:
            sink.publish(row)
        self._metrics.settled(row, clock.now_ns())
        verdict = row.verdict
        self._log.info(
            "unit",
            vseq=row.vseq,
            unit=verdict.unit_key,
            outcome=verdict.outcome.value,
            reason=verdict.reason.value if verdict.reason else None,
            defect_class=verdict.defect_class,
            score=verdict.anomaly_score,
            latency_us=verdict.latency_us,
        )

    def publish_state(self, head_vseq: int, state: str) -> None:
        """Once a second: how the station is."""
        for sink in self.sinks:
            sink.publish_state(head_vseq, state)

    def reply(self, reply: d.Reply) -> None:
        """Answer a ticket: with what comes first, or with the verdict where that was asked for."""
        wants = self._waiting.get(reply.ticket)
        if wants is None or (wants == "verdict" and not reply.final):
            return
        if wants == "assured":
            self._tell_assured(reply)
            return
        del self._waiting[reply.ticket]
        if wants == "verdict" and reply.committed is not None:
            text = telemetry.encode(reply.committed)[1].decode()
        else:
            text = "NO " + reply.detail if reply.kind == "no" else "OK"
        self._gather(Answer(reply.ticket, text))

    def flush(self) -> None:
        """Send the answers that were gathered."""
        if self._gathered:
            answers, self._gathered = tuple(self._gathered.values()), {}
            for first in range(0, len(answers), AT_ONCE):
                self._answer(Answers(answers[first : first + AT_ONCE]))

    def _gather(self, answer: Answer) -> None:
        self._gathered[answer.ticket] = answer

    def _tell_assured(self, reply: d.Reply) -> None:
        """`accepted` once the frame is journaled, at the end `settled`, or `conflict`."""
        if not reply.final:
            self._gather(Answer(reply.ticket, kind="accepted", final=False))
            return
        del self._waiting[reply.ticket]
        passing("core.before_settled")
        row = reply.committed
        if row is None:
            self._gather(Answer(reply.ticket, reply.detail, "conflict"))
            return
        verdict = row.verdict
        self._gather(
            Answer(
                reply.ticket,
                verdict.detail,
                "settled",
                vseq=row.vseq,
                code=code_of(verdict.outcome, verdict.reason),
                latency_us=verdict.latency_us,
                chain=row.chain,
            )
        )

    def remark(self, action: d.Note | d.SequenceReset) -> None:
        """Something happened that changes no verdict."""
        if isinstance(action, d.SequenceReset):
            self._log.warning("sequence_reset", source=action.source)
        else:
            self.notes[action.kind] += 1
            self._log.info("note", kind=action.kind, unit=action.unit_key, text=action.text)

    def remarked(self, event: str, detail: str) -> None:
        """A child has something for the log."""
        self._log.warning(event, detail=detail)

    def close(self) -> None:
        """Close the sinks."""
        for sink in self.sinks:
            sink.close()
