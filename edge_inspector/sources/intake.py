"""What a source offers becomes a head for core, with its pixels in a slot of shared memory."""

from __future__ import annotations

import itertools
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Literal

import msgspec
import numpy as np
import xxhash

from edge_inspector import clock
from edge_inspector.channel import Answer
from edge_inspector.failpoints import passing
from edge_inspector.records import FrameHead, FrameKey, Reason
from edge_inspector.slots import Slots
from edge_inspector.sources.arrival import Arrival, Offered
from edge_inspector.wire.plain import Identity

MAX_TICKETS = 4096
MAX_DETAIL = 300


def _not_stored(arrival: Arrival) -> int:
    """The digest of pixels that nobody will inspect, 0 where there are none."""
    if arrival.offered is not None:
        return arrival.offered.digest
    return 0 if arrival.pixels is None else xxhash.xxh3_64_intdigest(arrival.pixels)


class Pool:
    """The slots that core granted; taken by every source, given by one thread."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._free: deque[int] = deque()
        self.slot_bytes = slots.slot_bytes

    def give(self, slots: tuple[int, ...]) -> None:
        """Core says that these may be written."""
        self._free.extend(slots)

    def put(self, pixels: memoryview) -> int:
        """The slot that now holds `pixels`, -1 when none was free."""
        try:
            slot = self._free.popleft()
        except IndexError:
            return -1
        self._slots.view(slot, pixels.nbytes)[:] = np.frombuffer(pixels, dtype=np.uint8)
        return slot


class Tickets:
    """Publishers that wait for a reply, by number; the oldest is given up when there are too many."""

    def __init__(self) -> None:
        self._numbers = itertools.count(clock.now_ns())  # never those of an ingest before this one
        self._waiting: OrderedDict[int, Callable[[Answer], None]] = OrderedDict()
        self._lock = threading.Lock()

    def issue(self, reply: Callable[[Answer], None] | None) -> int:
        """A number for who waits, 0 for nobody."""
        if reply is None:
            return 0
        with self._lock:
            ticket = next(self._numbers)
            self._waiting[ticket] = reply
            if len(self._waiting) > MAX_TICKETS:
                self._waiting.popitem(last=False)
        return ticket

    def answer(self, answer: Answer) -> None:
        """Reply to who waits, until the final answer."""
        with self._lock:
            reply = self._waiting.get(answer.ticket)
            if answer.final:
                self._waiting.pop(answer.ticket, None)
        if reply is not None:
            reply(answer)


class Counts:
    """What went wrong, by source and kind."""

    def __init__(self) -> None:
        self._counter: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, source: str, kind: str) -> None:
        """Count one."""
        with self._lock:
            self._counter[f"{source}.{kind}"] += 1

    def take(self) -> dict[str, int]:
        """What was counted since the last time."""
        with self._lock:
            moved, self._counter = dict(self._counter), Counter()
        return moved


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for every frame of one source unless the frame says otherwise."""

    source: str
    station: str
    camera: str
    recipe: str
    clock: Literal["none", "same-host", "ptp"] = "none"
    max_age_ms: float | None = None


class Intake:
    """The `offer` of one source: called from its thread only."""

    def __init__(
        self,
        defaults: Defaults,
        pool: Pool,
        tickets: Tickets,
        counts: Counts,
        send: Callable[[FrameHead], object],
    ) -> None:
        self._defaults = defaults
        self._pool = pool
        self._tickets = tickets
        self._counts = counts
        self._send = send
        self._epoch = ""
        self._arrived = 0

    def __call__(self, arrival: Arrival) -> None:
        """Number it, put its pixels where workers read them, tell core."""
        passing("ingest.received")
        head = self._head(arrival)
        if head.fault is None and arrival.pixels is not None:
            head = self._store(head, arrival.pixels, arrival.offered)
        if head.fault is not None:
            self._counts.add(self._defaults.source, head.fault.value)
        passing("ingest.stored")
        self._send(head)
        passing("ingest.told")

    def _head(self, arrival: Arrival) -> FrameHead:
        defaults, identity, layout = self._defaults, arrival.identity, arrival.layout
        fault, detail = self._judge(arrival)
        offered = arrival.offered
        return FrameHead(
            key=self._key(arrival),
            station=defaults.station,
            camera=arrival.camera or defaults.camera,
            recipe=arrival.recipe or defaults.recipe,
            arrived_ns=arrival.arrived_ns,
            time_zero_ns=offered.time_zero_ns if offered else self._time_zero_ns(arrival),
            unit_id=identity.unit_id,
            trigger_id=identity.trigger_id,
            numbered=identity.seq is not None,
            budget_us=offered.budget_us if offered else None,
            assured=offered is not None,
            tombstone=offered is not None and offered.tombstone,
            repeat=offered is not None and offered.repeat,
            given_up=_not_stored(arrival) if fault is not None else 0,
            captured_utc_ns=identity.captured_ns,
            codec=layout.codec,
            pixel_format=layout.pixel_format,
            height=layout.height,
            width=layout.width,
            channels=layout.channels,
            fault=fault,
            detail=detail[:MAX_DETAIL],
            ticket=self._tickets.issue(arrival.reply),
            incumbent=arrival.incumbent,
            lot=identity.lot,
        )

    def _key(self, arrival: Arrival) -> FrameKey:
        """Arrival numbers have an epoch of their own, so that they never meet a publisher's."""
        if arrival.epoch != self._epoch:
            self._epoch, self._arrived = arrival.epoch, 0
        self._arrived += 1
        source = arrival.offered.source if arrival.offered else self._defaults.source
        if arrival.identity.seq is not None:
            return FrameKey(source, self._epoch, arrival.identity.seq)
        return FrameKey(source, f"{self._epoch}.n", self._arrived)

    def _judge(self, arrival: Arrival) -> tuple[Reason | None, str]:
        if arrival.fault is not None:
            return arrival.fault, arrival.detail
        if arrival.pixels is None or not 1 <= arrival.pixels.nbytes <= self._pool.slot_bytes:
            size = 0 if arrival.pixels is None else arrival.pixels.nbytes
            return Reason.BAD_INPUT, (
                f"frame of {size} bytes; the limit is 1 to {self._pool.slot_bytes}; "
                "raise frames.max_bytes"
            )
        return self._too_old(arrival.identity)

    def _too_old(self, identity: Identity) -> tuple[Reason | None, str]:
        limit_ms = self._defaults.max_age_ms
        if limit_ms is None:
            return None, ""
        if identity.captured_ns is None:
            return Reason.BAD_INPUT, (
                f"no captured_ns, which max_age_ms = {limit_ms:g} needs; send it or drop max_age_ms"
            )
        age_ms = (clock.utc_ns() - identity.captured_ns) / clock.NS_PER_MS
        if age_ms <= limit_ms:
            return None, ""
        return Reason.TIMEOUT, (
            f"captured {age_ms:.0f} ms before it arrived; the limit is {limit_ms:g} ms; "
            "mend the publisher's clock or queue, or raise max_age_ms"
        )

    def _time_zero_ns(self, arrival: Arrival) -> int:
        """The capture where its clock is ours; a capture in the future is an arrival."""
        captured_ns = arrival.identity.captured_ns
        if captured_ns is None or self._defaults.clock == "none":
            return arrival.arrived_ns
        age_ns = clock.utc_ns() - captured_ns
        return min(arrival.arrived_ns, clock.now_ns() - age_ns)

    def _store(self, head: FrameHead, pixels: memoryview, offered: Offered | None) -> FrameHead:
        """An assured source says the digest itself; the worker compares."""
        digest = offered.digest if offered else xxhash.xxh3_64_intdigest(pixels)
        slot = self._pool.put(pixels)
        if slot >= 0:
            return msgspec.structs.replace(head, digest=digest, slot=slot, size=pixels.nbytes)
        return msgspec.structs.replace(
            head,
            digest=digest,
            fault=Reason.SHED,
            detail="no slot was free; slow the publisher, or raise frames.slots or workers.count",
        )
