"""The peers of one ROUTER: who is linked, and everything that is said to them; no send ever waits."""

from __future__ import annotations

from collections import Counter

import msgspec
import zmq

from edge_inspector.channel import Answer, Pulse
from edge_inspector.settings import AssuredSource
from edge_inspector.sources.arrival import Surroundings
from edge_inspector.sources.link import Book, Link, Terms
from edge_inspector.wire import assured, sockets
from edge_inspector.wire.assured import Hello, Metadata, Nack
from edge_inspector.wire.codes import NO_CLASS, Refusal, Type, Why
from edge_inspector.wire.header import NO_EPOCH, VERSIONS, Header
from edge_inspector.wire.plain import is_known

MAX_LINKS = 32
MAX_BAD = 16
"""Messages refused in a row, after which a peer is not read any more."""
MAX_KNOWN_BAD = 1024
TTL_MS = 300
SILENT_NS = 3_000_000_000
PING_NS = 500_000_000
RETRY_MS = 50
_U32 = 2**32 - 1


class Peers:
    """
    Links by connection, one for each name: the newest HELLO of a name takes over.

    A link that ends with frames of which some chunks came is kept in `leaving` until these are due.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        source: AssuredSource,
        around: Surroundings,
        recipes: list[str],
    ) -> None:
        self.leaving: list[Link] = []
        self._socket = socket
        self._name = source.name
        self._allowed = frozenset(source.peers or (source.name,))
        self._around = around
        self._recipes = recipes
        self._terms = Terms.of(source, around.max_bytes)
        self._links: dict[bytes, Link] = {}
        self._book = Book()
        self._bad: Counter[bytes] = Counter()
        self._pulse: Pulse | None = None
        self._numbers = 0
        self._pinged_ns = 0

    @property
    def links(self) -> list[Link]:
        """Those of now; saying something to one may end it."""
        return list(self._links.values())

    def link(self, peer: bytes) -> Link:
        """The link of this connection; raises `Refusal` before HELLO."""
        link = self._links.get(peer)
        if link is None:
            raise Refusal(Why.HELLO_FIRST, "say HELLO first, and again after each new connection")
        return link

    def muted(self, peer: bytes) -> bool:
        """Whether so much of what this connection sent was bad that it is not read any more."""
        return self._bad[peer] >= MAX_BAD

    def understood(self, peer: bytes) -> None:
        """It sent something in order."""
        self._bad.pop(peer, None)

    def drop(self, link: Link) -> None:
        """End a link; what came of its frames stays due."""
        self._links.pop(link.peer, None)
        if link.partials:
            for part in link.partials.values():
                part.pieces.clear()
            self.leaving.append(link)
        for old in self.leaving[:-MAX_LINKS]:
            for part in old.partials.values():
                part.due_ns = 0

    def welcome(self, peer: bytes, header: Header, hello: Hello, now_ns: int) -> None:
        """Open a link; raises `Refusal`."""
        self._admit(header, hello)
        for old in self.links:
            if old.hello.name == hello.name or old.peer == peer:
                self.drop(old)
                if old.peer != peer:
                    self.tell(old, assured.Bye(f"'{hello.name}' said HELLO on another connection"))
        if len(self._links) >= MAX_LINKS:
            raise Refusal(Why.BUSY, f"{MAX_LINKS} sources are connected, the limit")
        self._numbers += 1
        link = Link(
            peer=peer,
            number=self._numbers,
            hello=hello,
            epoch=header.epoch,
            progress=self._book.of(hello.name, header.epoch),
            terms=self._terms,
            heard_ns=now_ns,
        )
        self._links[peer] = link
        self.tell(link, self._welcome(link))
        self._ping(link, now_ns)

    def _admit(self, header: Header, hello: Hello) -> None:
        if not set(VERSIONS) & set(hello.versions):
            raise Refusal(Why.VERSION, f"versions {hello.versions}; this side speaks {VERSIONS}")
        if hello.name not in self._allowed:
            raise Refusal(
                Why.NOT_ALLOWED,
                f"name '{hello.name}'; this source takes {', '.join(sorted(self._allowed))}; "
                "list it under 'peers'",
            )
        if header.epoch == NO_EPOCH:
            raise Refusal(
                Why.NOT_ALLOWED, "HELLO needs the UUID of the source's start as its epoch"
            )
        unknown = [name for name in hello.cameras if not is_known(name, self._around.cameras)]
        if unknown:
            known = ", ".join(sorted(self._around.cameras))
            raise Refusal(
                Why.NOT_ALLOWED, f"camera '{unknown[0]}' is not known; the station has {known}"
            )

    def _welcome(self, link: Link) -> assured.Welcome:
        return assured.Welcome(
            version=VERSIONS[-1],
            link=f"{self._name}-{link.number}",
            state=self._pulse.state if self._pulse else "starting",
            credit_msgs=self._terms.msgs,
            credit_bytes=self._terms.bytes,
            settled_upto=link.progress.upto,
            max_part=self._terms.max_part,
            max_payload=self._terms.max_payload,
            ttl_ms=TTL_MS,
            recipes=self._recipes,
        )

    # what they are told

    def answer(self, name: str, about: Header, answer: Answer) -> None:
        """What core says of a frame, to the newest link of its source."""
        if answer.kind == "settled":
            self._book.of(name, about.epoch).settled(about.seq)
        for link in self.links:
            if link.hello.name == name and link.epoch == about.epoch:
                self._pass_on(link, about, answer)

    def _pass_on(self, link: Link, about: Header, answer: Answer) -> None:
        if answer.final:
            link.settled(about.seq)
        if answer.kind == "accepted":
            self.tell(link, assured.Accepted(), about)
        elif answer.kind == "conflict":
            refused = msgspec.structs.replace(about, type=Type.NACK)
            self.tell(link, Nack(why=Why.CONFLICT, detail=answer.text[:300]), refused)
        else:
            self.tell(
                link, assured.Settled(answer.vseq, answer.text[:300]), _settled(about, answer)
            )

    def beat(self, pulse: Pulse) -> None:
        """Core lives, and says how the station is."""
        self._pulse = pulse
        beat = assured.Heartbeat(
            head_vseq=pulse.head_vseq,
            oldest_vseq=pulse.oldest_vseq,
            state=pulse.state,
            toggle=pulse.toggle,
        )
        for link in self.links:
            self.tell(link, beat)

    def look_after(self, now_ns: int) -> None:
        """Round trips, credit, and sources that fell silent."""
        ping = now_ns - self._pinged_ns > PING_NS
        self._pinged_ns = now_ns if ping else self._pinged_ns
        for link in self.links:
            if now_ns - link.heard_ns > SILENT_NS:
                self.drop(link)
                continue
            credit = link.credit(always=ping)
            if credit is not None:
                self.tell(link, credit)
            if ping:
                self._ping(link, now_ns)
        self.leaving = [link for link in self.leaving if link.partials]

    def bye(self) -> None:
        """The daemon leaves."""
        for link in self.links:
            self.tell(link, assured.Bye("the daemon stops"))

    def refuse(self, peer: bytes, header: Header | None, refusal: Refusal) -> None:
        """Answer a message of which nothing was recorded; cut who goes on like that."""
        self._around.count(self._name, f"nack_{refusal.why.value.lower()}")
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
        if refusal.why is not Why.HELLO_FIRST:
            self._bad[peer] += 1
        while len(self._bad) > MAX_KNOWN_BAD:
            del self._bad[next(iter(self._bad))]
        link = self._links.get(peer)
        if link is not None and (refusal.why is Why.OVER_CREDIT or self.muted(peer)):
            self.drop(link)
            self.tell(link, assured.Bye(f"{refusal.why.value}: {refusal}"[:300]))

    def tell(self, link: Link, metadata: Metadata, header: Header | None = None) -> None:
        """Say something to a linked source; one that is gone is dropped."""
        if not self._send(link.peer, metadata, header) and self._links.get(link.peer) is link:
            self.drop(link)

    def _ping(self, link: Link, now_ns: int) -> None:
        number = link.ping(now_ns)
        self.tell(link, assured.Ping(), Header(type=Type.PING, seq=number, t_mono_ns=now_ns))

    def _send(self, peer: bytes, metadata: Metadata, header: Header | None) -> bool:
        """False when the peer is gone; a full pipe drops it, since the source's timer asks again."""
        try:
            sockets.send(self._socket, [peer, *assured.build(metadata, header)])
        except zmq.Again:
            self._around.count(self._name, "unanswered")
        except zmq.ZMQError:  # EHOSTUNREACH
            return False
        return True


def _settled(about: Header, answer: Answer) -> Header:
    return msgspec.structs.replace(
        about,
        type=Type.SETTLED,
        budget_us=min(answer.latency_us, _U32),
        width=NO_CLASS,
        pixel_format=answer.code,
        codec=answer.code ^ 0xFF,
        offset=answer.chain,
    )
