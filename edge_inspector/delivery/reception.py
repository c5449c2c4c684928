"""What consumers say: checked in the protocol's order, and refused with NACK where it is wrong."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable

from edge_inspector import clock
from edge_inspector.channel import ExpectWanted, IncumbentSaid, RunWanted
from edge_inspector.delivery.consumers import Consumer, Consumers
from edge_inspector.delivery.lanes import MAX_REPLAY, MAX_REPLAYS, Lanes
from edge_inspector.delivery.rows import Rows
from edge_inspector.failpoints import passing
from edge_inspector.records import Baseline
from edge_inspector.wire import assured
from edge_inspector.wire.assured import (
    Ack,
    Bye,
    Expect,
    Heartbeat,
    Incumbent,
    Metadata,
    Nack,
    NewRun,
    Replay,
    Subscribe,
    Subscribed,
)
from edge_inspector.wire.codes import Refusal, Type, Why
from edge_inspector.wire.header import VERSIONS, Header

MAX_BAD = 16
"""Unreadable messages in a row, after which a connection is not read any more."""
MAX_OFFENDERS = 1024
RETRY_MS = 100
FRESH_NS = 300 * clock.NS_PER_MS
"""How old core's last word may be that a new consumer is told at once."""


class Reception:
    """
    Takes in one message at a time; `run` is the run in which trigger ids count.

    `beat` is what core last said of the station, heard at `beat_ns`.
    """

    def __init__(
        self,
        station: str,
        classes: tuple[str, ...],
        rows: Rows,
        consumers: Consumers,
        counters: Counter[str],
        ask_core: Callable[[RunWanted | ExpectWanted | IncumbentSaid], object],
    ) -> None:
        self.run = rows.run()
        self.beat = Heartbeat()
        self.beat_ns = -FRESH_NS
        self._station = station
        self._classes = list(classes)
        self._rows = rows
        self._consumers = consumers
        self._counters = counters
        self._ask_core = ask_core
        self._links = 0
        self._bad: OrderedDict[bytes, int] = OrderedDict()

    def hear(self, peer: bytes, parts: list[assured.Part]) -> None:
        """Do what a message asks, or refuse it; one who sent too many bad ones is not read."""
        if self._bad.get(peer, 0) >= MAX_BAD:
            self._counters["messages_unread"] += 1
            return
        header: Header | None = None
        try:
            message = assured.split(parts)
            header = message.header
            self._take(peer, header, assured.read(message), clock.now_ns())
            self._bad.pop(peer, None)
        except Refusal as refusal:
            self._refuse(peer, header, refusal)

    def _take(self, peer: bytes, header: Header, said: Metadata, now_ns: int) -> None:
        if isinstance(said, Subscribe):
            self._subscribe(peer, said, now_ns)
            return
        consumer = self._consumers.get(peer)
        if consumer is None:
            raise Refusal(Why.HELLO_FIRST, "say SUBSCRIBE first, and after each new connection")
        consumer.heard_ns = now_ns
        match said:
            case Heartbeat():
                pass
            case Ack():
                self._ack(consumer, said)
            case Replay():
                self._replay(consumer, said)
            case NewRun() | Expect() | Incumbent():
                self._ask(said)
            case Bye():
                self._consumers.forget(consumer)
            case _:
                raise Refusal(
                    Why.NOT_ALLOWED, f"{Type(header.type).name} is not for consumers to send"
                )

    def _ask(self, said: NewRun | Expect | Incumbent) -> None:
        self._check_stations([said.station])
        if isinstance(said, NewRun):
            self._ask_core(RunWanted())
        elif isinstance(said, Expect):
            self._ask_core(ExpectWanted(said.trigger_id))
        elif said.trigger_id is None and said.unit_id is None:
            raise Refusal(Why.BAD_HEADER, "INCUMBENT of no unit; give its trigger_id or unit_id")
        else:
            judged = Baseline(said.outcome, said.defect_class)
            self._ask_core(IncumbentSaid(judged, said.trigger_id, said.unit_id))

    def _subscribe(self, peer: bytes, said: Subscribe, now_ns: int) -> None:
        self._check_stations(said.stations)
        self._consumers.replace(peer, said.consumer)
        if self._consumers.full:
            raise Refusal(Why.BUSY, "as many consumers as can be served are connected; try later")
        rows = self._rows
        rows.look()
        live_from = rows.head + 1
        acked = max(rows.cursor(said.consumer), self._consumers.acked(said.consumer))
        wanted = live_from if said.start == "live" else said.start or acked + 1
        start = min(wanted, live_from)
        self._links += 1
        subscribed = Subscribed(
            link=f"verdicts-{self._links}",
            head=rows.head,
            oldest=rows.oldest,
            acked=acked,
            live_from=live_from,
            live_chain=rows.chain_before(live_from),
            history_from=start,
            history_chain=rows.chain_before(start),
            run=self.run,
            classes=self._classes,
        )
        lanes = Lanes(start, live_from, strict=said.lanes == 1)
        self._consumers.add(Consumer(peer, said.consumer, lanes, self.run, now_ns))
        self._consumers.tell(peer, subscribed)
        if now_ns - self.beat_ns < FRESH_NS:  # or it lets nothing through until the next one
            header = Header(type=Type.HEARTBEAT, t_mono_ns=self.beat_ns)
            self._consumers.send(peer, assured.build(self.beat, header))

    def _check_stations(self, stations: list[str]) -> None:
        if stations and self._station not in stations:
            raise Refusal(
                Why.NOT_ALLOWED, f"station '{stations[0]}'; verdicts of '{self._station}' are here"
            )

    def _ack(self, consumer: Consumer, said: Ack) -> None:
        if not consumer.lanes.ack(said.upto, said.live_upto):
            raise Refusal(
                Why.BAD_HEADER,
                f"ACK of {said.upto} and {said.live_upto}; so many were not sent to you",
            )
        self._consumers.ack(consumer.name, said.upto)
        passing("delivery.acked")

    def _replay(self, consumer: Consumer, said: Replay) -> None:
        if not 0 < said.first <= said.last <= self._rows.head:
            raise Refusal(
                Why.BAD_HEADER,
                f"REPLAY of {said.first} to {said.last}; the log ends at {self._rows.head}",
            )
        if said.last - said.first >= MAX_REPLAY:
            raise Refusal(
                Why.NOT_ALLOWED,
                f"REPLAY of {said.last - said.first + 1} verdicts; ask for {MAX_REPLAY} at most, "
                "or subscribe from there",
            )
        if not consumer.lanes.replay(said.first, said.last):
            raise Refusal(Why.BUSY, f"{MAX_REPLAYS} replays wait already; ask again when they came")

    def _refuse(self, peer: bytes, header: Header | None, refusal: Refusal) -> None:
        """A connection that sends what cannot be read is forgotten after a few such messages."""
        self._counters[f"nack_{refusal.why.value.lower()}"] += 1
        if refusal.why in (Why.BAD_HEADER, Why.VERSION):
            self._count_bad(peer)
        nack = Nack(
            why=refusal.why,
            retry_ms=RETRY_MS,
            versions=list(VERSIONS) if refusal.why is Why.VERSION else [],
            detail=str(refusal)[:300],
        )
        self._consumers.tell(peer, nack, header.seq if header is not None else 0)

    def _count_bad(self, peer: bytes) -> None:
        self._counters["messages_bad"] += 1
        self._bad[peer] = self._bad.get(peer, 0) + 1
        self._bad.move_to_end(peer)
        if len(self._bad) > MAX_OFFENDERS:
            self._bad.popitem(last=False)
        consumer = self._consumers.get(peer)
        if consumer is not None and self._bad[peer] >= MAX_BAD:
            self._consumers.forget(consumer)
