"""The consumer rule, without socket, clock or thread: whether the unit at the gate may pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edge_inspector.client.delivered import Delivered
from edge_inspector.client.lanes import CAPACITY, Lanes
from edge_inspector.client.numbers import Transit
from edge_inspector.clock import NS_PER_MS, NS_PER_US
from edge_inspector.errors import WireError
from edge_inspector.records import Outcome, Verdict
from edge_inspector.wire import assured
from edge_inspector.wire.assured import Heartbeat, Metadata, Part, Run, State, Subscribed, Truncated
from edge_inspector.wire.codes import Flag, Type

SILENCE_NS = 300 * NS_PER_MS
"""Three heartbeats."""
HARMLESS = Flag.DEGRADED | Flag.CLOCK_STEP
"""A verdict with any other flag, also one of a later version, is not acted on."""
_SERVING = ("ready", "degraded")


class Gate:
    """
    One consumer: hears the daemon, keeps the lanes, and says what may pass.

    `run` is the run that trigger ids count in, None while it is not known. `validity_ms` takes
    the place of the `valid_us` of the verdicts.
    """

    def __init__(
        self,
        *,
        start: int | Literal["live"] = 0,
        lanes: Literal[1, 2] = 2,
        station: str | None = None,
        validity_ms: int | None = None,
        capacity: int = CAPACITY,
    ) -> None:
        self.lanes = Lanes(start, lanes, capacity)
        self.run: int | None = None
        self._station = station
        self._validity_ms = validity_ms
        self._state: State | None = None
        self._heartbeat_ns = 0
        self._transit = Transit()

    def disconnect(self) -> None:
        """The connection is gone, and with it all that it told about the daemon."""
        self.lanes.disconnect()
        self.run = self._state = None
        self._transit = Transit()

    def hear(self, parts: Sequence[Part], now_ns: int) -> Metadata | None:
        """Take in one message; returns what it says unless it is a verdict or unreadable."""
        try:
            message = assured.split(parts)
            sent_ns = message.header.t_mono_ns
            late_ns = self._transit.late_ns(sent_ns, now_ns) if sent_ns else 0
            if message.header.type == Type.VERDICT:
                self.lanes.verdict(message, now_ns, late_ns)
                return None
            said = assured.read(message)
        except WireError as error:
            self.lanes.refuse(str(error))
            return None
        if isinstance(said, Heartbeat):
            self._state, self._heartbeat_ns = said.state, now_ns - late_ns
            self.lanes.head = max(self.lanes.head, said.head_vseq)
        elif isinstance(said, Subscribed):
            self.lanes.subscribe(said)
            self.run = said.run
        elif isinstance(said, Truncated):
            self.lanes.truncate(said)
        elif isinstance(said, Run) and self._station in (None, said.station):
            self.run = said.run
        return said

    def state(self, now_ns: int) -> State | None:
        """What the daemon said of itself, None when that is 300 ms ago."""
        return self._state if now_ns - self._heartbeat_ns < SILENCE_NS else None

    def why_not(
        self,
        delivered: Delivered,
        now_ns: int,
        *,
        unit_key: str | None = None,
        trigger_id: int | None = None,
        unit_id: str | None = None,
    ) -> str:
        """The first reason to reject the unit at the gate; empty where it may pass."""
        return (
            delivered.fault
            or _unfit(delivered)
            or self._stranger(delivered.verdict, unit_key, trigger_id, unit_id)
            or self._late(delivered, now_ns)
            or self._silent(now_ns)
        )

    def _stranger(
        self,
        verdict: Verdict,
        unit_key: str | None,
        trigger_id: int | None,
        unit_id: str | None,
    ) -> str:
        if unit_key is None and trigger_id is None and unit_id is None:
            return "no unit is at the gate"
        if self._station is not None and verdict.station != self._station:
            return f"verdict of station {verdict.station}; this gate is at {self._station}"
        if unit_key is not None and verdict.unit_key != unit_key:
            return f"verdict of unit {verdict.unit_key}; {unit_key} is at the gate"
        if unit_id is not None and verdict.unit_id != unit_id:
            return f"verdict of unit {verdict.unit_id}; {unit_id} is at the gate"
        if trigger_id is not None and (verdict.run, verdict.trigger_id) != (self.run, trigger_id):
            return (
                f"verdict of trigger {verdict.trigger_id} in run {verdict.run}; "
                f"{trigger_id} in run {self.run} is at the gate"
            )
        return ""

    def _late(self, delivered: Delivered, now_ns: int) -> str:
        age_ns = delivered.age_ns(now_ns)
        if delivered.age_at_sending_ns < 0:
            return f"time zero is {-delivered.age_at_sending_ns} ns after the verdict was sent"
        valid_ns = delivered.verdict.valid_us * NS_PER_US
        if self._validity_ms is not None:
            valid_ns = self._validity_ms * NS_PER_MS
        if age_ns >= valid_ns:
            return f"{age_ns / 1e6:.1f} ms old; verdicts are valid for {valid_ns / 1e6:.1f} ms"
        return ""

    def _silent(self, now_ns: int) -> str:
        state = self.state(now_ns)
        if state is None:
            return "no heartbeat of the daemon in the last 300 ms"
        return "" if state in _SERVING else f"the daemon is in state {state}"


def _unfit(delivered: Delivered) -> str:
    """Why a verdict lets no unit through, whichever it is."""
    wrong = int(delivered.flags) & ~int(HARMLESS)  # as numbers: ~ of a flag forgets unknown bits
    if wrong:
        return f"flagged {', '.join(str(flag.name) for flag in Flag if flag & wrong) or wrong}"
    if delivered.verdict.advisory:
        return "advisory: nothing ties the verdict to a unit"
    if delivered.verdict.outcome is not Outcome.PASS:
        return f"the outcome is {delivered.verdict.outcome.value}"
    return ""
