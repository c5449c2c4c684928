"""
Frames over ZeroMQ, ASSURED tier: a ROUTER that binds, one link for each source behind it.

Nothing is promised here: core journals and decides, this thread passes its words on. What a peer
sends is checked in the protocol's order, and refused with NACK where nothing was recorded.
"""

from __future__ import annotations

import functools
import struct
import threading
from collections import deque
from contextlib import suppress

import msgspec
import zmq

from edge_inspector import clock, settings
from edge_inspector.channel import Answer, Pulse
from edge_inspector.sources.arrival import Arrival, Offer, Surroundings
from edge_inspector.sources.chunks import Chunks
from edge_inspector.sources.frames import Reader
from edge_inspector.sources.link import Link, Terms
from edge_inspector.sources.peers import Peers
from edge_inspector.wire import assured, sockets
from edge_inspector.wire.assured import FrameFacts, Hello, Message
from edge_inspector.wire.codes import Flag, Refusal, Type, Why
from edge_inspector.wire.header import Header

_BURST = 64
_WAKE_MS = 20
_FRAME = struct.Struct("<16sQQ")
_MAX_SAID = 8192
_MAX_SHOWN = 256
"""Parts of a message that are kept, so that its sender is told how many too many there were."""


class AssuredSource:
    """One ROUTER; bound when it is made."""

    def __init__(self, source: settings.AssuredSource, around: Surroundings) -> None:
        sockets.check_local(source.endpoint)
        self._name = source.name
        self._around = around
        self._reader = Reader(around, source.camera, source.recipe or around.recipe)
        self._chunks = Chunks(around, self._reader)
        self._stopping = threading.Event()
        max_part = Terms.of(source, around.max_bytes).max_part
        self._socket = sockets.open_socket(
            around.context,
            zmq.ROUTER,
            hwm=2 * source.credit_msgs + 64,
            max_bytes=max(max_part, assured.MAX_METADATA),
        )
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 0)
        sockets.bind(self._socket, source.endpoint)
        sockets.open_to_group(source.endpoint)
        self._peers = Peers(self._socket, source, around, self._reader.recipes)
        self._said: deque[tuple[str, bytes, Answer | Pulse]] = deque()
        """What core said and this source's thread has not heard, of whom and of which frame."""
        self._rung = False
        inbox = f"inproc://assured-{source.name}"
        self._ear = sockets.open_socket(around.context, zmq.PULL, hwm=1000)
        self._ear.bind(inbox)
        self._bell = sockets.open_socket(around.context, zmq.PUSH, hwm=1000)
        self._bell.connect(inbox)

    # on the thread that made the source

    def stop(self) -> None:
        """Make `run` return."""
        self._stopping.set()
        self._bell.close(linger=0)

    def pulse(self, pulse: Pulse) -> None:
        """Core lives; its peers hear of it."""
        self._pass_on("", b"", pulse)

    def _pass_on(self, name: str, frame: bytes, said: Answer | Pulse) -> None:
        if len(self._said) >= _MAX_SAID:  # the source's timer asks again
            self._around.count(self._name, "unanswered")
            return
        self._said.append((name, frame, said))
        if not self._rung:
            self._rung = True
            with suppress(zmq.Again):  # it rings already
                self._bell.send(b"", zmq.NOBLOCK)

    # on the thread of this source

    def run(self, offer: Offer) -> None:
        """Receive until `stop` is called."""
        poller = zmq.Poller()
        for socket in (self._socket, self._ear):
            poller.register(socket, zmq.POLLIN)
        try:
            while not self._stopping.is_set():
                ready = dict(poller.poll(_WAKE_MS))
                if self._socket in ready:
                    self._receive(offer)
                if self._ear in ready:
                    self._hear_core()
                self._look_after(offer, clock.now_ns())
            self._peers.bye()
        finally:
            self._socket.close(linger=100)
            self._ear.close(linger=0)

    def _hear_core(self) -> None:
        """All that was said before the bell was heard; what is said later rings it again."""
        with suppress(zmq.Again):
            while True:
                self._ear.recv(zmq.NOBLOCK)
        self._rung = False
        for _ in range(len(self._said)):
            name, frame, said = self._said.popleft()
            if isinstance(said, Pulse):
                self._peers.beat(said)
                continue
            epoch, seq, trigger_id = _FRAME.unpack(frame)
            about = Header(type=Type.ACCEPTED, epoch=epoch, seq=seq, trigger_id=trigger_id)
            self._peers.answer(name, about, said)

    def _look_after(self, offer: Offer, now_ns: int) -> None:
        for link in (*self._peers.links, *self._peers.leaving):
            for arrival in self._chunks.overdue(link, now_ns):
                self._offer(link, arrival, offer)
        self._peers.look_after(now_ns)

    def _receive(self, offer: Offer) -> None:
        for _ in range(_BURST):
            try:
                identity, *parts = sockets.receive(self._socket, _MAX_SHOWN)
            except zmq.Again:
                return
            peer = bytes(identity)
            if not self._peers.muted(peer):
                self._read(peer, parts, offer)

    def _read(self, peer: bytes, parts: list[assured.Part], offer: Offer) -> None:
        message: Message | None = None
        try:
            message = assured.split(parts)
            self._take(peer, message, offer)
            self._peers.understood(peer)
        except Refusal as refusal:
            self._peers.refuse(peer, message.header if message else None, refusal)

    def _take(self, peer: bytes, message: Message, offer: Offer) -> None:
        now_ns = clock.now_ns()
        metadata = assured.read(message)
        if isinstance(metadata, Hello):
            self._peers.welcome(peer, message.header, metadata, now_ns)
            return
        link = self._peers.link(peer)
        link.heard_ns = now_ns
        if isinstance(metadata, FrameFacts):
            self._frame(link, message, metadata, offer, now_ns)
        elif isinstance(metadata, assured.Pong):
            link.pong(message.header.seq, now_ns)
        elif isinstance(metadata, assured.Bye):
            self._peers.drop(link)
        elif not isinstance(metadata, assured.Heartbeat):
            name = Type(message.header.type).name
            raise Refusal(Why.NOT_ALLOWED, f"{name} is not for sources to send")

    def _frame(
        self, link: Link, message: Message, facts: FrameFacts, offer: Offer, now_ns: int
    ) -> None:
        """What is taken here is recorded, whatever it holds."""
        header, size = message.header, len(message.payload)
        link.check_number(header)
        if header.has(Flag.TOMBSTONE):
            arrival = self._reader.tombstone(link, header, facts, now_ns)
            link.bury(header.seq)
            self._chunks.forget(link, header.seq)
            self._offer(link, arrival, offer)
            return
        link.charge(header.seq, size)
        if not header.has(Flag.LAST) or header.offset:
            gathered = self._chunks.take(link, message, facts, now_ns)
            if gathered is not None:
                self._offer(link, gathered, offer)
            return
        self._chunks.forget(link, header.seq)
        arrival = self._reader.whole(link, header, facts, message.payload, now_ns)
        self._offer(link, arrival, offer)
        link.give_back(1, size)

    def _offer(self, link: Link, arrival: Arrival, offer: Offer) -> None:
        identity = arrival.identity
        assert identity.seq is not None
        frame = _FRAME.pack(link.epoch, identity.seq, identity.trigger_id or 0)
        reply = functools.partial(self._pass_on, link.hello.name, frame)
        offer(msgspec.structs.replace(arrival, reply=reply))
