"""Who is connected: one connection for each consumer name, dropped when it falls silent."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edge_inspector import clock
from edge_inspector.delivery.door import Door, Fate
from edge_inspector.delivery.lanes import Lanes
from edge_inspector.wire import assured
from edge_inspector.wire.assured import Bye, Metadata, Part
from edge_inspector.wire.header import Header

MAX_CONSUMERS = 32
SILENT_NS = 1_000_000_000
"""A peer says something each 100 ms; one that stops for this long is not written to any more."""
FULL_NS = 5 * clock.NS_PER_MS
"""How long a consumer is left alone whose pipe was full."""
MAX_NAMES = 256

_TYPES = {kind: number for number, kind in assured.KINDS.items()}


@dataclass(slots=True)
class Consumer:
    """One subscription on one connection; `run` is the run that it was told last."""

    peer: bytes
    name: str
    lanes: Lanes
    run: int
    heard_ns: int
    full_until_ns: int = 0


class Consumers:
    """Those who subscribed, by connection; a send that finds nobody forgets the connection."""

    def __init__(self, door: Door, counters: Counter[str]) -> None:
        self._door = door
        self._counters = counters
        self._known: dict[bytes, Consumer] = {}
        self._acked: OrderedDict[str, int] = OrderedDict()
        self._untold: dict[str, int] = {}

    def __iter__(self) -> Iterator[Consumer]:
        return iter(list(self._known.values()))

    def get(self, peer: bytes) -> Consumer | None:
        """The consumer behind a connection, None before SUBSCRIBE."""
        return self._known.get(peer)

    def replace(self, peer: bytes, name: str) -> None:
        """A consumer comes by another connection, or begins anew: what it had before is over."""
        for old in self:
            if old.peer == peer:
                self.forget(old)
            elif old.name == name:
                self.tell(old.peer, Bye(f"'{name}' subscribed on another connection"))
                self.forget(old)

    @property
    def full(self) -> bool:
        """Whether there is no room for another one."""
        return len(self._known) >= MAX_CONSUMERS

    def add(self, consumer: Consumer) -> None:
        """Take in a new subscription."""
        self._known[consumer.peer] = consumer
        self._counters["consumers_come"] += 1

    def serve_last(self, consumer: Consumer) -> None:
        """Others get their share of the history first the next time."""
        self._known[consumer.peer] = self._known.pop(consumer.peer)

    def forget(self, consumer: Consumer) -> None:
        """Write to it no more; harmless for one that is forgotten already."""
        if self._known.pop(consumer.peer, None) is not None:
            self._counters["consumers_gone"] += 1

    def forget_silent(self, now_ns: int) -> None:
        """Forget who has said nothing for a second."""
        for consumer in self:
            if now_ns - consumer.heard_ns > SILENT_NS:
                self.forget(consumer)

    def tell(self, peer: bytes, metadata: Metadata, seq: int = 0) -> Fate:
        """Say something to one connection."""
        header = Header(type=_TYPES[type(metadata)], seq=seq, t_mono_ns=clock.now_ns())
        return self.send(peer, assured.build(metadata, header))

    def tell_all(self, metadata: Metadata) -> None:
        """Say something to everybody at once; who does not read misses it."""
        header = Header(type=_TYPES[type(metadata)], t_mono_ns=clock.now_ns())
        parts = assured.build(metadata, header)
        for consumer in self:
            self.send(consumer.peer, parts)

    def send(self, peer: bytes, parts: Sequence[Part]) -> Fate:
        """Send one message."""
        fate = self._door.send(peer, parts)
        consumer = self._known.get(peer)
        if fate == "gone" and consumer is not None:
            self.forget(consumer)
        elif fate == "full" and consumer is not None:
            consumer.full_until_ns = clock.now_ns() + FULL_NS
        return fate

    def acked(self, name: str) -> int:
        """What a consumer said it holds, as far as it was heard by this process."""
        return self._acked.get(name, 0)

    def ack(self, name: str, upto: int) -> None:
        """Remember what a consumer holds; core hears of it soon."""
        if upto <= self.acked(name):
            return
        self._acked[name] = self._untold[name] = upto
        self._acked.move_to_end(name)
        if len(self._acked) > MAX_NAMES:
            self._acked.popitem(last=False)

    def next_untold(self) -> tuple[str, int] | None:
        """A consumer whose cursor moved and that core was not told of."""
        return next(iter(self._untold.items()), None)

    def told(self, name: str) -> None:
        """Core knows."""
        del self._untold[name]
