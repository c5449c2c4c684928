"""One connected source of the ASSURED tier: its credit, its round trips, its numbers. No socket."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from edge_inspector.resources import MIB
from edge_inspector.settings import AssuredSource
from edge_inspector.wire.assured import Credit, FrameFacts, Hello
from edge_inspector.wire.codes import Refusal, Why
from edge_inspector.wire.header import Header

MAX_PART = 4 * 1024 * 1024
MAX_TOMBSTONES = 64
MAX_JUMP = 1000
"""How far a frame number may be ahead of the highest one; a source sends what lies between."""
ROUND_TRIPS = 16
MAX_PINGS = 4
"""PINGs whose answer is waited for, the latest ones."""
MAX_EPOCHS = 64


@dataclass(frozen=True, slots=True)
class Terms:
    """What a source may send: the window of its credit, and sizes that always fit into it."""

    msgs: int
    bytes: int
    max_part: int
    max_payload: int

    @classmethod
    def of(cls, source: AssuredSource, max_bytes: int) -> Terms:
        """A frame of `max_payload` bytes can be sent whole, in chunks, within the window."""
        window = source.credit_mib * MIB
        max_part = min(MAX_PART, max_bytes, window)
        largest = min(max_bytes, window, source.credit_msgs * max_part)
        return cls(source.credit_msgs, window, max_part, largest)


class Progress:
    """Which frames of one start of a source are settled; outlives its connections."""

    def __init__(self) -> None:
        self.upto = 0
        self.highest = 0
        self._beyond: set[int] = set()

    def settled(self, seq: int) -> None:
        """This frame has its verdict."""
        if seq > self.upto:
            self._beyond.add(seq)
        while self.upto + 1 in self._beyond:
            self.upto += 1
            self._beyond.discard(self.upto)
        if len(self._beyond) > MAX_JUMP:  # an old hole: nothing below it is promised any more
            self._beyond.discard(min(self._beyond))


class Book:
    """The progress of every source and start, the latest ones."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, bytes], Progress] = OrderedDict()

    def of(self, name: str, epoch: bytes) -> Progress:
        """The progress of this start, a new one where it is not known."""
        progress = self._known.setdefault((name, epoch), Progress())
        self._known.move_to_end((name, epoch))
        while len(self._known) > MAX_EPOCHS:
            self._known.popitem(last=False)
        return progress


@dataclass(slots=True)
class Partial:
    """A frame of which some chunks have come; header and facts are those of the first one."""

    header: Header
    facts: FrameFacts
    arrived_ns: int
    due_ns: int
    filled: int = 0
    pieces: list[bytes | memoryview] = field(default_factory=list)


@dataclass(slots=True)
class Link:
    """
    One connection; every FRAME message, a chunk too, costs one message and its payload's bytes.

    Credit comes back when a frame has left this process.
    """

    peer: bytes
    number: int
    hello: Hello
    epoch: bytes
    progress: Progress
    terms: Terms
    heard_ns: int
    used: tuple[int, int] = (0, 0)
    returned: tuple[int, int] = (0, 0)
    told: tuple[int, int] = (0, 0)
    tombstones: set[int] = field(default_factory=set)
    partials: dict[int, Partial] = field(default_factory=dict)
    given_up: int = 0
    """Number of the frame whose further chunks mean nothing any more."""
    _pings: dict[int, int] = field(default_factory=dict)
    _pinged: int = 0
    _round_trips: deque[int] = field(default_factory=lambda: deque(maxlen=ROUND_TRIPS))

    def check_number(self, header: Header) -> None:
        """The frame belongs to this start, and its number follows; raises `Refusal`."""
        if header.epoch != self.epoch:
            raise Refusal(Why.BAD_HEADER, "the frame's epoch is not that of HELLO; say HELLO again")
        highest = self.progress.highest
        most = highest + MAX_JUMP if highest else 2**63 - 1
        if not 1 <= header.seq <= most:
            raise Refusal(
                Why.BAD_HEADER, f"frame number {header.seq}; the limits are 1 to {most}, count by 1"
            )

    def charge(self, seq: int, payload_bytes: int) -> None:
        """Take a message of this frame from the credit; raises `Refusal` where there is none."""
        used = (self.used[0] + 1, self.used[1] + payload_bytes)
        limit = (self.returned[0] + self.terms.msgs, self.returned[1] + self.terms.bytes)
        if used[0] > limit[0] or used[1] > limit[1]:
            raise Refusal(
                Why.OVER_CREDIT,
                f"{used[0]} messages and {used[1]} bytes were sent since WELCOME, "
                f"{limit[0]} and {limit[1]} were granted; wait for CREDIT",
            )
        self.used = used
        self._reached(seq)

    def bury(self, seq: int) -> None:
        """Take a tombstone, which costs no credit; raises `Refusal` where too many are open."""
        if len(self.tombstones) >= MAX_TOMBSTONES and seq not in self.tombstones:
            raise Refusal(
                Why.OVER_CREDIT,
                f"{len(self.tombstones)} tombstones wait for their verdicts, the limit; wait too",
            )
        self.tombstones.add(seq)
        self._reached(seq)

    def give_back(self, messages: int, payload_bytes: int) -> None:
        """These messages have left this process."""
        self.returned = (self.returned[0] + messages, self.returned[1] + payload_bytes)

    def credit(self, *, always: bool) -> Credit | None:
        """
        The running totals to tell the source, None where it has enough for now.

        It has enough while it knows of more than half of its window. `always` repeats what was
        said, since a full pipe may have lost it.
        """
        if not always and self.told == self.returned:
            return None
        windows = (self.terms.msgs, self.terms.bytes)
        known = [
            w + told - used for w, told, used in zip(windows, self.told, self.used, strict=True)
        ]
        short = any(2 * left <= window for left, window in zip(known, windows, strict=True))
        if not always and not short:
            return None
        self.told = self.returned
        return Credit(self.told[0] + self.terms.msgs, self.told[1] + self.terms.bytes)

    def settled(self, seq: int) -> None:
        """The last word about this frame is on its way."""
        self.tombstones.discard(seq)

    def ping(self, now_ns: int) -> int:
        """The number of a PING that is sent now."""
        self._pinged += 1
        self._pings[self._pinged] = now_ns
        self._pings.pop(self._pinged - MAX_PINGS, None)
        return self._pinged

    def pong(self, number: int, now_ns: int) -> None:
        """The answer to a PING came; one that was not asked for, or came twice, says nothing."""
        sent_ns = self._pings.pop(number, None)
        if sent_ns is not None:
            self._round_trips.append(now_ns - sent_ns)

    @property
    def round_trip_ns(self) -> int:
        """The smallest of the last ones, 0 before the first."""
        return min(self._round_trips, default=0)

    def _reached(self, seq: int) -> None:
        self.progress.highest = max(self.progress.highest, seq)
