"""What the writer of the verdict log is given, and what a verdict looks like once it is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from edge_inspector import clock
from edge_inspector.failpoints import passing
from edge_inspector.records import Committed, FrameHead, FrameKey, Outcome, Reason, Verdict

MAX_BODY = 4096
"""Bytes of a verdict, so that it travels in one message."""
LATE = "judged in time, but the log could not be written before the deadline"
_ENCODER = msgspec.msgpack.Encoder()

Answer = tuple[FrameKey, Committed | None, bool]
"""An accept row on disk: its frame, the verdict that its unit already has, other pixels known."""


class Accept(NamedTuple):
    """A frame that was accepted, and when its verdict is due."""

    head: FrameHead
    deadline_ns: int


class Cursor(NamedTuple):
    """A consumer holds every verdict up to this one."""

    consumer: str
    acked: int


class Trim(NamedTuple):
    """Verdicts up to this one go."""

    upto: int


class NewRun(NamedTuple):
    """Trigger ids start again, from this monotonic instant on."""

    began_ns: int


class Written(NamedTuple):
    """What one batch brought about; `run` is the run that began with it."""

    journaled: list[Answer]
    committed: list[Committed]
    run: int | None = None


class Keep(NamedTuple):
    """Retention: limits, and who must have had a verdict before it goes, for `hold_ns` at most."""

    oldest_utc_ns: int
    max_bytes: int
    required: tuple[str, ...] = ()
    held_utc_ns: int = 0


Entry = Accept | Verdict | Cursor | Trim | NewRun

_STEPS: dict[type[Entry], str] = {
    Accept: "accept",
    Verdict: "verdict",
    Cursor: "cursor",
    NewRun: "run",
}


def passed(side: str, kinds: set[type[Entry]]) -> None:
    """A batch with entries of these kinds is about to be committed, or was."""
    for kind, step in _STEPS.items():
        if kind in kinds:
            passing(f"store.{side}_{step}")


def as_stored(verdict: Verdict, vseq: int) -> tuple[Verdict, bytes]:
    """
    The verdict as it is stored, and its bytes; a pass that waited beyond its deadline is none.

    Where it would not fit one message, the regions that passed with the lowest scores are left out.
    """
    now_ns = clock.now_ns()
    if verdict.outcome is Outcome.PASS and 0 < verdict.deadline_ns < now_ns:
        late = {"outcome": Outcome.UNINSPECTED, "reason": Reason.TIMEOUT, "detail": LATE}
        verdict = msgspec.structs.replace(verdict, **late)
    verdict = msgspec.structs.replace(
        verdict,
        vseq=vseq,
        settled_utc_ns=clock.utc_ns(),
        latency_us=max(0, now_ns - verdict.time_zero_ns) // clock.NS_PER_US,
        deadline_met=now_ns <= verdict.deadline_ns,
    )
    body = _ENCODER.encode(verdict)
    while len(body) > MAX_BODY and verdict.regions:
        worst = sorted(verdict.regions, key=lambda r: (r.outcome is Outcome.PASS, -r.score))
        kept = worst[: min(len(worst) - 1, len(worst) * MAX_BODY // len(body))]
        verdict = msgspec.structs.replace(
            verdict,
            regions=tuple(kept),
            rois_omitted=verdict.rois_omitted + len(worst) - len(kept),
        )
        body = _ENCODER.encode(verdict)
    return verdict, body


def aborted_verdict(unit_key: str, heads: Sequence[FrameHead], deadline_ns: int) -> Verdict:
    """The verdict of a unit that was in hand when the daemon died."""
    first = heads[0]
    return Verdict(
        unit_key=unit_key,
        station=first.station,
        outcome=Outcome.UNINSPECTED,
        reason=Reason.ABORTED,
        detail="the daemon stopped before a verdict",
        frames=tuple(head.key for head in heads),
        recipe=first.recipe,
        run=first.run,
        trigger_id=first.trigger_id,
        unit_id=first.unit_id,
        lot=first.lot,
        advisory=first.advisory,
        time_zero_ns=min(head.time_zero_ns for head in heads),
        deadline_ns=deadline_ns,
        decided_ns=clock.now_ns(),
        valid_us=max(0, deadline_ns - first.time_zero_ns) // clock.NS_PER_US,
    )
