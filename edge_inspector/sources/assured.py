"""
Frames over ZeroMQ, ASSURED tier: a ROUTER that binds, one link for each source behind it.

Nothing is promised here: core journals and decides, this thread passes its words on. What a peer
sends is checked in the protocol's order, and refused with NACK where nothing was recorded.
"""

from __future__ import annotations

import functools
import struct
import threading
from collections import Counter
from dataclasses import replace

import msgspec
import zmq

from edge_inspector import clock, settings
from edge_inspector.channel import Answer, Pulse
from edge_inspector.records import Reason
from edge_inspector.resources import MIB
from edge_inspector.sources.arrival import Arrival, Offer, Surroundings
from edge_inspector.sources.frames import Reader
from edge_inspector.sources.link import Book, Link, Partial
from edge_inspector.wire import assured, sockets
from edge_inspector.wire.assured import FrameFacts, Hello, Message, Metadata, Nack
from edge_inspector.wire.codes import NO_CLASS, Flag, Refusal, Type, Why
from edge_inspector.wire.header import NO_EPOCH, VERSIONS, Header, digest

MAX_PART = 4 * 1024 * 1024
MAX_LINKS = 32
MAX_BAD = 16
"""Messages refused in a row, after which a peer is not read any more."""
TTL_MS = 300
SILENT_NS = 3_000_000_000
PING_NS = 500_000_000
RETRY_MS = 50
_BURST = 64
_WAKE_MS = 20
_U32 = 2**32 - 1
_FRAME = struct.Struct("<16sQQ")
_PULSE = msgspec.msgpack.Decoder(Pulse)
_ANSWER = msgspec.msgpack.Decoder(Answer)


class AssuredSource:
    """One ROUTER; bound when it is made."""

    def __init__(self, source: settings.AssuredSource, around: Surroundings) -> None:
        sockets.check_local(source.endpoint)
        self._settings = source
        self._around = around
        self._peers = frozenset(source.peers or (source.name,))
        self._reader = Reader(around, source.camera, source.recipe or around.recipe)
        self._book = Book()
        self._links: dict[bytes, Link] = {}
        self._numbers = 0
        self._bad: Counter[bytes] = Counter()
        self._pulse: Pulse | None = None
        self._pinged_ns = 0
        self._stopping = threading.Event()
        self._max_part = min(MAX_PART, around.max_bytes)
        self._socket = sockets.open_socket(
            around.context,
            zmq.ROUTER,
            hwm=2 * source.credit_msgs + 64,
            max_bytes=max(self._max_part, assured.MAX_METADATA),
        )
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 0)
        sockets.bind(self._socket, source.endpoint)
        sockets.open_to_group(source.endpoint)
        inbox = f"inproc://assured-{source.name}"
        self._inbox = sockets.open_socket(around.context, zmq.PULL, hwm=8192)
        self._inbox.bind(inbox)
        self._core = sockets.open_socket(around.context, zmq.PUSH, hwm=8192)
        self._core.connect(inbox)

    def run(self, offer: Offer) -> None:
        """Receive until `stop` is called."""
        poller = zmq.Poller()
        for socket in (self._socket, self._inbox):
            poller.register(socket, zmq.POLLIN)
        try:
            while not self._stopping.is_set():
                ready = dict(poller.poll(_WAKE_MS))
                if self._socket in ready:
                    self._receive(offer)
                if self._inbox in ready:
                    self._hear_core()
                self._look_after(offer, clock.now_ns())
            for link in self._links.values():
                self._tell(link, assured.Bye("the daemon stops"))
        finally:
            self._socket.close(linger=100)
            self._inbox.close(linger=0)

    def stop(self) -> None:
        """Make `run` return; called from the thread that made the source, as answers are."""
        self._stopping.set()
        self._core.close(linger=0)

    def pulse(self, pulse: Pulse) -> None:
        """Core lives; its peers hear of it."""
        self._pass_on(b"", msgspec.msgpack.encode(pulse))

    # from core, on the thread that made the source

    def _answer(self, name: str, frame: bytes, answer: Answer) -> None:
        self._pass_on(name.encode(), frame, msgspec.msgpack.encode(answer))

    def _pass_on(self, *parts: bytes) -> None:
        try:
            self._core.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:  # the source's timer asks again
            self._around.count(self._settings.name, "unanswered")

    # from core, on the thread of this source

    def _hear_core(self) -> None:
        for _ in range(_BURST):
            try:
                name, *words = self._inbox.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if not name:
                self._beat(_PULSE.decode(words[0]))
                continue
            epoch, seq, trigger_id = _FRAME.unpack(words[0])
            self._settle(name.decode(), epoch, seq, trigger_id, _ANSWER.decode(words[1]))

    def _beat(self, pulse: Pulse) -> None:
        self._pulse = pulse
        beat = assured.Heartbeat(
            head_vseq=pulse.head_vseq,
            oldest_vseq=pulse.oldest_vseq,
            state=pulse.state,
            toggle=pulse.toggle,
        )
        for link in list(self._links.values()):
            self._tell(link, beat)

    def _settle(self, name: str, epoch: bytes, seq: int, trigger_id: int, answer: Answer) -> None:
        if answer.kind == "settled":
            self._book.of(name, epoch).settled(seq)
        link = next((one for one in self._links.values() if one.hello.name == name), None)
        if link is None or link.epoch != epoch:
            return
        about = Header(type=Type.ACCEPTED, epoch=epoch, seq=seq, trigger_id=trigger_id)
        if answer.kind == "accepted":
            self._tell(link, assured.Accepted(), about)
        elif answer.kind == "conflict":
            link.tombstones.discard(seq)
            self._tell(link, Nack(why=Why.CONFLICT, detail=answer.text[:300]), about)
        else:
            link.settled(seq)
            settled = assured.Settled(answer.vseq, answer.text[:300])
            self._tell(link, settled, _settled_header(about, answer, settled))

    # from the peers

    def _receive(self, offer: Offer) -> None:
        for _ in range(_BURST):
            try:
                peer, *parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            if self._bad[peer] < MAX_BAD:
                self._read(peer, parts, offer)
        for link in list(self._links.values()):
            self._return_credit(link, all_of_it=False)

    def _read(self, peer: bytes, parts: list[bytes], offer: Offer) -> None:
        message: Message | None = None
        try:
            message = assured.split(parts)
            self._take(peer, message, offer)
            self._bad.pop(peer, None)
        except Refusal as refusal:
            self._refuse(peer, message.header if message else None, refusal)

    def _take(self, peer: bytes, message: Message, offer: Offer) -> None:
        now_ns = clock.now_ns()
        metadata = assured.read(message)
        if isinstance(metadata, Hello):
            self._welcome(peer, message.header, metadata, now_ns)
            return
        link = self._links.get(peer)
        if link is None:
            raise Refusal(Why.HELLO_FIRST, "say HELLO first, and again after each new connection")
        link.heard_ns = now_ns
        if isinstance(metadata, FrameFacts):
            self._frame(link, message, metadata, offer, now_ns)
        elif isinstance(metadata, assured.Pong):
            link.pong(message.header.seq, now_ns)
        elif isinstance(metadata, assured.Bye):
            del self._links[peer]
        elif not isinstance(metadata, assured.Heartbeat):
            name = Type(message.header.type).name
            raise Refusal(Why.NOT_ALLOWED, f"{name} is not for sources to send")

    def _welcome(self, peer: bytes, header: Header, hello: Hello, now_ns: int) -> None:
        self._admit(header, hello)
        for old in [one for one in self._links.values() if one.hello.name == hello.name]:
            del self._links[old.peer]
            if old.peer != peer:
                self._tell(old, assured.Bye(f"'{hello.name}' said HELLO on another connection"))
        if len(self._links) >= MAX_LINKS:
            raise Refusal(Why.BUSY, f"{MAX_LINKS} sources are connected, the limit")
        self._numbers += 1
        source = self._settings
        link = Link(
            peer=peer,
            number=self._numbers,
            hello=hello,
            epoch=header.epoch,
            progress=self._book.of(hello.name, header.epoch),
            window_msgs=source.credit_msgs,
            window_bytes=source.credit_mib * MIB,
            heard_ns=now_ns,
        )
        self._links[peer] = link
        welcome = assured.Welcome(
            version=VERSIONS[-1],
            link=f"{source.name}-{link.number}",
            state=self._pulse.state if self._pulse else "starting",
            credit_msgs=link.window_msgs,
            credit_bytes=link.window_bytes,
            settled_upto=link.progress.upto,
            max_part=self._max_part,
            max_payload=self._around.max_bytes,
            ttl_ms=TTL_MS,
            recipes=self._reader.recipes,
        )
        self._tell(link, welcome)
        self._ping(link, now_ns)

    def _admit(self, header: Header, hello: Hello) -> None:
        if not set(VERSIONS) & set(hello.versions):
            raise Refusal(Why.VERSION, f"versions {hello.versions}; this side speaks {VERSIONS}")
        if hello.name not in self._peers:
            raise Refusal(
                Why.NOT_ALLOWED,
                f"name '{hello.name}'; this source takes {', '.join(sorted(self._peers))}; "
                "list it under 'peers'",
            )
        unknown = [name for name in hello.cameras if name not in self._around.cameras]
        if unknown or header.epoch == NO_EPOCH:
            known = ", ".join(sorted(self._around.cameras))
            raise Refusal(
                Why.NOT_ALLOWED,
                f"camera '{unknown[0]}' is not known; the station has {known}"
                if unknown
                else "HELLO needs the UUID of the source's start as its epoch",
            )

    def _frame(
        self, link: Link, message: Message, facts: FrameFacts, offer: Offer, now_ns: int
    ) -> None:
        header = message.header
        link.check_number(header)
        if header.has(Flag.TOMBSTONE):
            link.bury(header.seq)
            self._offer(link, self._reader.tombstone(link, header, facts, now_ns), offer)
            return
        size = len(message.payload)
        link.charge(size)
        if header.has(Flag.LAST) and not header.offset:
            arrival = self._reader.whole(link, header, facts, message.payload, now_ns)
            self._offer(link, arrival, offer)
            link.give_back(1, size)
        else:
            self._chunk(link, message, facts, offer, now_ns)

    def _chunk(
        self, link: Link, message: Message, facts: FrameFacts, offer: Offer, now_ns: int
    ) -> None:
        """Gather the chunks of one frame; its credit comes back when it is whole, or given up."""
        header, size = message.header, len(message.payload)
        if not header.offset:
            self._forget(link, header.seq)
            total = facts.total_len or 0
            due_ns = self._reader.due_ns(link, header, facts, now_ns)
            room = bytearray(total if size <= total <= self._around.max_bytes else 0)
            link.partials[header.seq] = Partial(header, facts, room, now_ns, due_ns)
        part = link.partials.get(header.seq)
        if part is None or header.offset != part.filled or not size:
            link.give_back(1, size)
            raise Refusal(
                Why.BAD_HEADER,
                f"chunk at byte {header.offset} of frame {header.seq} is out of order",
            )
        part.messages += 1
        end = part.filled + size
        if end <= len(part.pixels):
            part.pixels[part.filled : end] = message.payload
        part.filled = end
        if header.has(Flag.LAST):
            self._complete(link, part, offer)

    def _complete(self, link: Link, part: Partial, offer: Offer) -> None:
        if part.filled == len(part.pixels):
            arrival = self._reader.whole(
                link, part.header, part.facts, part.pixels, part.arrived_ns
            )
        else:
            detail = (
                f"chunks of {part.filled} bytes for a frame of {part.facts.total_len}; "
                f"the limit is {self._around.max_bytes}; raise frames.max_bytes"
            )
            arrival = self._reader.faulty(link, part, Reason.BAD_INPUT, detail)
        self._forget(link, part.header.seq)
        self._offer(link, arrival, offer)

    def _forget(self, link: Link, seq: int) -> None:
        part = link.partials.pop(seq, None)
        if part is not None:
            link.give_back(part.messages, part.filled)

    def _offer(self, link: Link, arrival: Arrival, offer: Offer) -> None:
        identity = arrival.identity
        assert identity.seq is not None
        frame = _FRAME.pack(link.epoch, identity.seq, identity.trigger_id or 0)
        reply = functools.partial(self._answer, link.hello.name, frame)
        offer(replace(arrival, reply=reply))

    # to the peers

    def _look_after(self, offer: Offer, now_ns: int) -> None:
        """Frames whose chunks stopped coming, sources that fell silent, round trips, credit."""
        ping = now_ns - self._pinged_ns > PING_NS
        self._pinged_ns = now_ns if ping else self._pinged_ns
        for link in list(self._links.values()):
            for part in [one for one in link.partials.values() if one.due_ns <= now_ns]:
                self._forget(link, part.header.seq)
                detail = f"{part.filled} of {part.facts.total_len} bytes came by the deadline"
                self._offer(link, self._reader.faulty(link, part, Reason.NO_IMAGE, detail), offer)
            if now_ns - link.heard_ns > SILENT_NS:
                del self._links[link.peer]
            elif ping:
                self._return_credit(link, all_of_it=True)
                self._ping(link, now_ns)

    def _ping(self, link: Link, now_ns: int) -> None:
        number = link.ping(now_ns)
        self._tell(link, assured.Ping(), Header(type=Type.PING, seq=number, t_mono_ns=now_ns))

    def _return_credit(self, link: Link, *, all_of_it: bool) -> None:
        credit = link.credit(all_of_it=all_of_it)
        if credit is not None:
            self._tell(link, credit)

    def _tell(self, link: Link, metadata: Metadata, header: Header | None = None) -> None:
        if not self._send(link.peer, metadata, header):
            self._links.pop(link.peer, None)

    def _refuse(self, peer: bytes, header: Header | None, refusal: Refusal) -> None:
        name = self._settings.name
        self._around.count(name, f"nack_{refusal.why.value.lower()}")
        if refusal.why is Why.OVER_CREDIT:
            self._links.pop(peer, None)
        if refusal.why is not Why.HELLO_FIRST:
            self._bad[peer] += 1
        about = Header(type=Type.NACK)
        if header is not None:
            about = Header(type=Type.NACK, epoch=header.epoch, seq=header.seq)
        nack = Nack(
            why=refusal.why,
            retry_ms=RETRY_MS,
            versions=list(VERSIONS) if refusal.why is Why.VERSION else [],
            detail=str(refusal)[:300],
        )
        self._send(peer, nack, about)

    def _send(self, peer: bytes, metadata: Metadata, header: Header | None) -> bool:
        """False when the peer is gone; a full pipe drops it, since the source's timer asks again."""
        try:
            self._socket.send_multipart([peer, *assured.build(metadata, header)], zmq.NOBLOCK)
        except zmq.Again:
            self._around.count(self._settings.name, "unanswered")
        except zmq.ZMQError:  # EHOSTUNREACH
            return False
        return True


def _settled_header(about: Header, answer: Answer, settled: assured.Settled) -> Header:
    return msgspec.structs.replace(
        about,
        type=Type.SETTLED,
        budget_us=min(answer.latency_us, _U32),
        width=NO_CLASS,
        pixel_format=answer.code,
        codec=answer.code ^ 0xFF,
        offset=answer.chain,
        digest=digest(msgspec.msgpack.encode(settled)),
    )
