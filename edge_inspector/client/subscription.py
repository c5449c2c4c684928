"""A line controller's talk with the daemon: subscribe, heartbeats, ACK, REPLAY, NEW_RUN."""

from __future__ import annotations

import re
import uuid
from collections import deque
from collections.abc import Sequence
from typing import Literal

import msgspec

from edge_inspector.client.gate import SILENCE_NS, Gate
from edge_inspector.client.link import Link
from edge_inspector.clock import NS_PER_MS, now_ns
from edge_inspector.errors import Misuse
from edge_inspector.records import Baseline
from edge_inspector.wire import assured
from edge_inspector.wire.assured import (
    NAME,
    Ack,
    Bye,
    Expect,
    Heartbeat,
    Incumbent,
    Metadata,
    Nack,
    NewRun,
    Run,
    Subscribe,
)
from edge_inspector.wire.codes import Type, Why
from edge_inspector.wire.header import Header

BEAT_NS = 100 * NS_PER_MS
ACK_NS = 30 * NS_PER_MS
"""With the tick of the thread that calls `turn`, an ACK leaves 50 ms after a verdict was held."""
ACK_COUNT = 32
MAX_ANNOUNCED = 64
"""Announcements kept until the thread that sends them comes round; the oldest go first."""
MAX_TOLD = 4096
"""Verdicts of the incumbent kept until the daemon listens; the oldest go first."""
PATIENCE_NS = 1000 * NS_PER_MS
"""How long SUBSCRIBE may go unanswered, and is not said again after a refusal or a farewell."""


class Subscription:
    """
    One consumer's connection, renewed when it is silent for 300 ms, refused or no longer wanted.

    `unacked` counts what was held since the last ACK; `heard_ns` is when the daemon last said
    anything.
    """

    def __init__(self, link: Link, gate: Gate, subscribe: Subscribe) -> None:
        self.heard_ns = now_ns()
        self.unacked = 0
        self._link = link
        self._gate = gate
        self._subscribe = subscribe
        self._epoch = uuid.uuid4().bytes
        self._asked_ns = 0
        self._retry_ns = 0
        self._beat_ns = 0
        self._acked_ns = 0
        self._told: Ack | None = None
        self._new_run: Literal["", "wanted", "asked"] = ""
        self._answer: Run | Nack | None = None
        self._announced: deque[int] = deque(maxlen=MAX_ANNOUNCED)
        self._incumbent: deque[Incumbent] = deque(maxlen=MAX_TOLD)

    @property
    def wants_to_ask(self) -> bool:
        """Whether SUBSCRIBE goes out as soon as somebody is connected."""
        return not self._asked_ns and now_ns() >= self._retry_ns

    def hear(self, parts: Sequence[assured.Part]) -> None:
        """Take in one message."""
        self.heard_ns = now_ns()
        said = self._gate.hear(parts, self.heard_ns)
        if isinstance(said, Nack):
            self._refused(said)
        elif isinstance(said, Bye):
            self._put_off(f"BYE {said.why}")
        elif isinstance(said, Run) and self._new_run == "asked":
            self._new_run, self._answer = "", said
        if self._new_run:
            self._gate.run = None  # trigger ids began anew, and the daemon does not know yet

    def speak(self) -> None:
        """Say what is due, on a new connection where this one is of no use any more."""
        now, lanes = now_ns(), self._gate.lanes
        unanswered = self._asked_ns and not lanes.subscribed and now - self._asked_ns > PATIENCE_NS
        if lanes.again or unanswered or now - self.heard_ns > SILENCE_NS:
            if lanes.again:
                self._retry_ns = max(self._retry_ns, now + BEAT_NS)
            self._renew(now)
        elif self.wants_to_ask:
            start = msgspec.structs.replace(self._subscribe, start=lanes.start)
            self._asked_ns = now if self._say(Type.SUBSCRIBE, start) else 0
        elif self._asked_ns:
            self._beat(now)
            self.acknowledge(now)
            self._request()

    def acknowledge(self, now: int, *, at_once: bool = False) -> None:
        """Send ACK where something new is held and it is time."""
        ack = self._gate.lanes.ack
        due = at_once or self.unacked >= ACK_COUNT or now - self._acked_ns >= ACK_NS
        if ack is not None and ack != self._told and due and self._say(Type.ACK, ack):
            self._told, self._acked_ns, self.unacked = ack, now, 0

    def begin_run(self) -> None:
        """Ask for a new run once; until the answer no trigger id is matched."""
        self._new_run, self._answer = "wanted", None
        self._gate.run = None

    @property
    def run_answer(self) -> Run | Nack | None:
        """What the daemon said to the last NEW_RUN."""
        return self._answer

    def give_up_run(self) -> None:
        """Ask no longer; the next SUBSCRIBED tells the run that counts."""
        self._new_run = ""
        self._gate.lanes.again = True

    def announce(self, trigger_id: int) -> None:
        """Say EXPECT for this part as soon as the daemon listens, unless the connection goes."""
        self._announced.append(trigger_id)

    def tell(self, said: Baseline, trigger_id: int | None, unit_id: str | None) -> None:
        """Say INCUMBENT once the daemon listens, whatever the connection; raises `Misuse`."""
        stations = self._subscribe.stations
        if not stations or (trigger_id is None and unit_id is None):
            raise Misuse(
                f"incumbent's verdict of trigger {trigger_id}, unit {unit_id} at station "
                f"{stations}; give one of the two ids, and VerdictConsumer its station"
            )
        incumbent = Incumbent(
            station=stations[0],
            outcome=said.outcome,
            trigger_id=trigger_id,
            unit_id=unit_id,
            defect_class=said.defect_class,
        )
        self._incumbent.append(incumbent)

    def leave(self) -> None:
        """Say what is held, and that nobody listens any longer."""
        self.acknowledge(now_ns(), at_once=True)
        self._say(Type.BYE, Bye("closed"))

    def _beat(self, now: int) -> None:
        if now - self._beat_ns >= BEAT_NS and self._say(Type.HEARTBEAT, Heartbeat()):
            self._beat_ns = now

    def _request(self) -> None:
        if not self._gate.lanes.subscribed:
            return
        wanted = self._gate.lanes.next_replay()
        if wanted is not None and not self._say(Type.REPLAY, wanted):
            self._gate.lanes.again = True
        if self._new_run == "wanted" and self._subscribe.stations:
            sent = self._say(Type.NEW_RUN, NewRun(self._subscribe.stations[0]))
            self._new_run = "asked" if sent else "wanted"
        while self._announced and self._new_run != "wanted":
            expect = Expect(self._subscribe.stations[0], self._announced[0])
            if not self._say(Type.EXPECT, expect):
                break
            self._announced.popleft()
        while self._incumbent and self._say(Type.INCUMBENT, self._incumbent[0]):
            self._incumbent.popleft()

    def _refused(self, said: Nack) -> None:
        if said.why is Why.HELLO_FIRST:
            self._gate.lanes.again = True
            if self._new_run == "asked":
                self._new_run = "wanted"
            return
        if self._new_run == "asked":
            self._new_run, self._answer = "", said
            return
        self._put_off(f"NACK {said.why.value} {said.detail}")

    def _put_off(self, problem: str) -> None:
        """Come back later: one who took this consumer's name would do the same at once."""
        self._gate.lanes.problem = problem.strip()
        self._gate.lanes.again = True
        self._retry_ns = now_ns() + PATIENCE_NS

    def _renew(self, now: int) -> None:
        self._link.renew()
        self._gate.disconnect()
        self.heard_ns = now
        self._asked_ns = self._beat_ns = 0
        self._told = None
        self._announced.clear()  # the parts have moved on by the time that anyone listens

    def _say(self, kind: Type, metadata: Metadata) -> bool:
        header = Header(type=kind, epoch=self._epoch, t_mono_ns=now_ns())
        return self._link.send(assured.build(metadata, header))


def subscribe_message(
    consumer: str, station: str | None, start: int | Literal["live"], lanes: Literal[1, 2]
) -> Subscribe:
    """What a consumer asks for, checked; raises `Misuse`."""
    for name in (consumer, station):
        if name is not None and not re.fullmatch(NAME, name):
            raise Misuse(f"name '{name}'; 1 to 64 of the characters A-Z a-z 0-9 _ . - are allowed")
    if lanes not in (1, 2):
        raise Misuse(f"{lanes} lanes; write 1 for strict order or 2 for live verdicts first")
    if start != "live" and not (isinstance(start, int) and start >= 0):
        raise Misuse(f"start {start!r}; write 'live', 0 to go on, or the first number wanted")
    stations = [] if station is None else [station]
    return Subscribe(consumer=consumer, start=start, lanes=lanes, stations=stations)
