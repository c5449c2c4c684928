"""The thread of a source: says HELLO, beats, sends what is due and hears what became of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from edge_inspector import clock
from edge_inspector.client.frames import Settlement
from edge_inspector.client.link import Link
from edge_inspector.client.offers import Offers
from edge_inspector.errors import WireError
from edge_inspector.wire import assured
from edge_inspector.wire.assured import (
    Accepted,
    Bye,
    Credit,
    Heartbeat,
    Hello,
    Metadata,
    Nack,
    Ping,
    Pong,
    Settled,
    Welcome,
)  # fmt: skip
from edge_inspector.wire.codes import Type, Why, outcome_of
from edge_inspector.wire.header import VERSIONS, Header

BEAT_NS = 100 * clock.NS_PER_MS
SILENCE_NS = 3 * BEAT_NS
REFUSED_NS = 5000 * clock.NS_PER_MS
"""A refused source asks again after this long: whoever runs the daemon may have mended it."""
_BURST = 64


class SourceThread(threading.Thread):
    """
    Owns the connection and shares `offers`, under the lock of `changed`, with the callers.

    Any thread may read `records`, `refused` and `ended` under that lock; `on_settled` is called
    without it.
    """

    def __init__(
        self,
        link: Link,
        offers: Offers,
        changed: threading.Condition,
        *,
        name: str,
        cameras: Sequence[str],
        on_settled: Callable[[Settlement], None] | None,
        keep_records: int,
    ) -> None:
        super().__init__(name=f"source {name}", daemon=True)
        self.records: dict[int, Settlement] = {}
        self.refused: str | None = None
        self.ended = False
        self.state = ""
        self._link = link
        self._offers = offers
        self._changed = changed
        self._hello_name = name
        self._cameras = list(cameras)
        self._on_settled = on_settled
        self._keep_records = keep_records
        self._stopping = False
        self._greeted = False
        self._links = 0
        self._heard_ns = clock.now_ns()
        self._beat_ns = 0

    def wake(self) -> None:
        """There may be something to send; call it under the lock."""
        if not self.ended:
            self._link.wake()

    def stop(self) -> None:
        """Say BYE and end."""
        with self._changed:
            self._stopping = True
            self.wake()
        self.join()

    def run(self) -> None:
        """Until `stop`; an error, such as one of `on_settled`, ends the source and is told."""
        try:
            while not self._stopping:
                self._turn()
            self._send(Type.BYE, Bye())
        finally:
            with self._changed:
                self.ended = True
                self._offers.unlink()
                self._link.close()
                self._changed.notify_all()

    def _turn(self) -> None:
        more, room = self._send_due()
        timeout_ms = 0 if more and room else self._sleep_ms()
        self._link.poll(timeout_ms, writable=not (room and self._greeted))
        now_ns = clock.now_ns()
        for parts in self._link.receive():
            self._hear(parts, now_ns)
        self._keep_alive(now_ns)

    def _send_due(self) -> tuple[bool, bool]:
        """Send a bounded number of frames; whether more are due, and whether the pipe had room."""
        for _ in range(_BURST):
            now_ns = clock.now_ns()
            with self._changed:
                sending = self._offers.next(now_ns)
            if sending is None:
                return False, True
            if not self._link.send(assured.build(sending.facts, sending.header, sending.payload)):
                return True, False
            with self._changed:
                self._offers.sent(sending, now_ns)
        return True, True

    def _sleep_ms(self) -> int:
        with self._changed:
            due_ns = self._offers.due_ns()
        until_ns = self._heard_ns + SILENCE_NS
        if self._offers.linked:
            until_ns = min(until_ns, self._beat_ns)
        if due_ns is not None:
            until_ns = min(until_ns, due_ns)
        return max(0, -(-(until_ns - clock.now_ns()) // clock.NS_PER_MS))

    def _keep_alive(self, now_ns: int) -> None:
        """Open anew after silence, say HELLO first, and then beat."""
        if now_ns - self._heard_ns >= SILENCE_NS:
            self._unlink(now_ns)
            self._link.renew()
        if not self._greeted:
            hello = Hello(
                name=self._hello_name,
                versions=list(VERSIONS),
                next_seq=self._offers.first_unsettled,
                cameras=self._cameras,
            )
            self._greeted = self._send(Type.HELLO, hello)
        elif self._offers.linked and now_ns >= self._beat_ns:
            self._beat_ns = now_ns + BEAT_NS
            self._send(Type.HEARTBEAT, Heartbeat())

    def _unlink(self, now_ns: int) -> None:
        """No link; the daemon has the length of a silence to answer the next HELLO."""
        with self._changed:
            self._offers.unlink()
        self._greeted, self._heard_ns = False, now_ns

    def _send(self, kind: Type, metadata: Metadata, seq: int = 0) -> bool:
        header = Header(type=kind, epoch=self._offers.epoch, seq=seq)
        return self._link.send(assured.build(metadata, header))

    def _hear(self, parts: Sequence[assured.Part], now_ns: int) -> None:
        """Whatever cannot be read is counted: the daemon will be asked again."""
        with self._changed:
            try:
                message = assured.split(parts)
                settled = self._take(message.header, assured.read(message), now_ns)
            except WireError:
                self._offers.counts["unreadable"] += 1
                return
            for settlement in settled:
                self.records[settlement.seq] = settlement
            while len(self.records) > self._keep_records:
                self.records.pop(next(iter(self.records)))
            self._changed.notify_all()
        if self._on_settled is not None:
            for settlement in settled:
                self._on_settled(settlement)

    def _take(self, header: Header, metadata: Metadata, now_ns: int) -> list[Settlement]:
        """Before WELCOME nothing else counts, and nothing else is life."""
        if isinstance(metadata, Welcome):
            return self._welcomed(metadata, now_ns)
        if isinstance(metadata, Nack):
            return self._nacked(header, metadata, now_ns)
        if not self._offers.linked:
            return []
        self._heard_ns = now_ns
        if isinstance(metadata, Accepted | Settled):
            return self._about_frame(header, metadata)
        self._about_link(header, metadata)
        return []

    def _about_link(self, header: Header, metadata: Metadata) -> None:
        if isinstance(metadata, Ping):
            self._send(Type.PONG, Pong(), header.seq)
        elif isinstance(metadata, Heartbeat):
            self.state = metadata.state or self.state
        elif isinstance(metadata, Credit):
            self._offers.credit.grant(metadata.msgs, metadata.bytes)
        elif isinstance(metadata, Bye):
            self._offers.unlink()

    def _about_frame(self, header: Header, metadata: Accepted | Settled) -> list[Settlement]:
        if header.epoch != self._offers.epoch:
            self._offers.counts["unknown"] += 1
            return []
        if isinstance(metadata, Accepted):
            self._offers.accept(header.seq)
            return []
        meaning = outcome_of(header.code, header.complement)
        settlement = self._offers.settle(header.seq, (metadata.vseq, *meaning, metadata.detail))
        return [settlement] if settlement else []

    def _welcomed(self, terms: Welcome, now_ns: int) -> list[Settlement]:
        self._heard_ns, self._beat_ns = now_ns, now_ns
        self.state, self.refused = terms.state, None
        self._links += 1
        self._offers.counts["reconnects"] = self._links - 1
        return self._offers.welcome(terms)

    def _nacked(self, header: Header, nack: Nack, now_ns: int) -> list[Settlement]:
        self._offers.counts[f"nack_{nack.why.value.lower()}"] += 1
        if nack.why in (Why.VERSION, Why.NOT_ALLOWED):
            self._offers.unlink()
            self.refused = f"{nack.why.value} {nack.detail}".strip()
            self._heard_ns = now_ns + REFUSED_NS - SILENCE_NS
        elif nack.why is Why.HELLO_FIRST:
            if self._offers.linked:
                self._unlink(now_ns)
        elif self._offers.linked:
            self._heard_ns = now_ns
            settlement = self._offers.refuse(header.seq, nack, now_ns) if header.seq else None
            return [settlement] if settlement else []
        return []
