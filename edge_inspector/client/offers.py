"""
Which frames a source holds, and what it may send next: pure, no socket, no clock, no thread.

A frame is held until it is settled. Its pixels wait for credit and are sent at most `TRIES` times
on one link, by a timer of its own; once accepted they are not sent again. Past the deadline, or
where there is no room to wait, the pixels go and a tombstone takes their place, which is sent again
until it is settled, so that every number ever given gets its verdict.

Credit: every FRAME message with pixels costs one message and the bytes of its payload, each chunk
of a large frame and each repetition too. Tombstones cost none; `MAX_OPEN` of them may be unsettled
on one link, the others wait.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque

import msgspec

from edge_inspector.client.frames import Answer, Draft, Settlement
from edge_inspector.client.held import (
    NO_TERMS,
    Credit,
    Held,
    Sending,
    Timers,
    Tombstone,
    check_terms,
    chunk,
    message,
)  # fmt: skip
from edge_inspector.clock import NS_PER_MS, NS_PER_US
from edge_inspector.errors import Breakage
from edge_inspector.records import Outcome, Reason
from edge_inspector.wire.assured import Nack, Welcome
from edge_inspector.wire.codes import Why

TRIES = 3
TIMER_NS = 250 * NS_PER_MS
MAX_OPEN = 64
MAX_AHEAD = 1000
"""Numbers between the first unsettled frame and one that is sent: a daemon opens each as a gap."""
HOLD_BYTES = 256 * 1024 * 1024
MAX_UNSETTLED = 500_000
"""Headers of frames that wait for a daemon, 0.7 KB each (measured): hours of a line."""


class Offers:
    """
    The frames of one source in one epoch, from `offer` to their settlement.

    Nothing is sent before `welcome`, nor after `unlink`; `counts` tells what happened.
    """

    def __init__(
        self, epoch: bytes, *, hold_bytes: int = HOLD_BYTES, max_unsettled: int = MAX_UNSETTLED
    ) -> None:
        self.epoch = epoch
        self.hold_bytes = hold_bytes
        self.max_unsettled = max_unsettled
        self.next_seq = 1
        self.held_bytes = 0
        self.linked = False
        self.terms = NO_TERMS
        self.credit = Credit()
        self.counts: Counter[str] = Counter()
        self._first = 1
        self._held: dict[int, Held] = {}
        self._images: dict[int, Held] = {}
        """Those that still have pixels, in order of seq."""
        self._pixels: list[int] = []
        self._tombstones: list[int] = []
        self._asking: deque[int] = deque()
        self._open: set[int] = set()
        self._timers = Timers(self._held)
        self._partial: Held | None = None

    @property
    def unsettled(self) -> int:
        """Frames without a verdict."""
        return len(self._held)

    @property
    def first_unsettled(self) -> int:
        """The lowest number that this source may still send."""
        while self._first < self.next_seq and self._first not in self._held:
            self._first += 1
        return self._first

    def __contains__(self, seq: int) -> bool:
        return seq in self._held

    def offer(self, draft: Draft, now_ns: int) -> int:
        """Number a frame and hold it; raises `Misuse` or `Breakage` and then gives no number."""
        size = 0 if draft.pixels is None else len(draft.pixels)
        check_terms(size, draft.recipe, self.terms, self.hold_bytes)
        if len(self._held) >= self.max_unsettled:
            raise Breakage(
                f"{len(self._held)} frames are not settled; the limit is {self.max_unsettled}; "
                "this one got no number: start the daemon"
            )
        seq = self.next_seq
        self.next_seq += 1
        held = Held(
            header=msgspec.structs.replace(draft.header, epoch=self.epoch, seq=seq),
            unit_id=draft.unit_id,
            recipe=draft.recipe,
            incumbent=draft.incumbent,
            lot=draft.lot,
            repeat=draft.repeat,
            pixels=draft.pixels,
            deadline_ns=draft.header.t_mono_ns + draft.header.budget_us * NS_PER_US,
            timer_ns=min(TIMER_NS, draft.header.budget_us * NS_PER_US // 3),
        )
        self._held[seq] = held
        self.held_bytes += size
        self.counts["offered"] += 1
        if draft.pixels is None:
            self._bury(held, draft.why or "no_image")
        elif now_ns >= held.deadline_ns:
            self._bury(held, "expired")
        elif self.held_bytes > self.hold_bytes:
            self._bury(held, "no_credit")
        else:
            self._images[seq] = held
            self._timers.set(held, held.deadline_ns)
            heapq.heappush(self._pixels, seq)
        return seq

    def next(self, now_ns: int) -> Sending | None:
        """What to send now, if anything: it stays due until `sent`."""
        self._fire(now_ns)
        held = self._choose() if self.linked else None
        return None if held is None else message(held, self.terms, now_ns)

    def sent(self, sending: Sending, now_ns: int) -> None:
        """A message is on its way."""
        held = sending.held
        if held.pixels is None:
            held.queued = False
            self._open.add(held.seq)
            self._timers.set(held, now_ns + TIMER_NS)
            return
        self.credit.use(len(sending.payload))
        if held.offset == 0:
            held.tries += 1
            self.counts["resent" if held.sent else "sent"] += 1
        held.sent = True
        held.offset += len(sending.payload)
        self._partial = held
        if held.offset == len(held.pixels):
            self._partial, held.offset, held.queued = None, 0, False
            again = held.tries < TRIES and not held.accepted
            timer = now_ns + held.timer_ns if again else held.deadline_ns
            self._timers.set(held, min(held.deadline_ns, timer))

    def due_ns(self) -> int | None:
        """When `next` may have something new, as far as time decides it."""
        return self._timers.due_ns()

    def unlink(self) -> None:
        """The link is gone: nothing is sent until `welcome`, deadlines go on."""
        self.linked = False

    def welcome(self, terms: Welcome) -> list[Settlement]:
        """
        A new link: drop what is settled, offer everything else again in order of seq.

        Costs nothing for tombstones that wait: after a long outage they are many.
        """
        self.terms, self.linked = terms, True
        self.credit = Credit(terms.credit_msgs, terms.credit_bytes)
        known = range(self.first_unsettled, min(terms.settled_upto + 1, self.next_seq))
        before = (None, None, None, "settled before this link")
        released = [self._settle(seq, before) for seq in known if seq in self._held]
        self.counts["released"] += len(released)
        for seq in self._open:
            self._held[seq].queued = True
            heapq.heappush(self._tombstones, seq)
        self._asking.clear()
        self._open.clear()
        self._partial = None
        for held in list(self._images.values()):
            held.tries, held.offset, held.accepted = 0, 0, False
            if terms.max_payload and len(held.pixels or b"") > terms.max_payload:
                self._bury(held, "no_image")
                continue
            held.queued = True
            self._timers.set(held, held.deadline_ns)
        self._pixels = list(self._images)
        return released

    def accept(self, seq: int) -> None:
        """The daemon holds the frame on disk: it will settle it without being sent it again."""
        held = self._known(seq)
        if held is None:
            return
        self.counts["accepted"] += not held.accepted
        held.accepted = True
        if held.pixels is not None and held is not self._partial:
            held.queued = False
            self._timers.set(held, held.deadline_ns)

    def settle(self, seq: int, answer: Answer) -> Settlement | None:
        """The verdict is on disk; None for a frame that is not held."""
        return None if self._known(seq) is None else self._settle(seq, answer)

    def refuse(self, seq: int, nack: Nack, now_ns: int) -> Settlement | None:
        """A NACK about a frame: nothing of it was recorded."""
        held = self._known(seq)
        if held is None:
            return None
        retry_ns = nack.retry_ms * NS_PER_MS
        if nack.why is Why.CONFLICT:
            conflict = (None, Outcome.UNINSPECTED, Reason.CONFLICT, nack.detail)
            return self._settle(seq, conflict)
        if held.pixels is None:
            self._timers.set(held, now_ns + max(TIMER_NS, retry_ns))
        elif nack.why is Why.BAD_HEADER:
            self._bury(held, "no_image")
        elif held.tries < TRIES and not held.queued:
            self._timers.set(held, min(held.deadline_ns, now_ns + retry_ns))
        return None

    def _known(self, seq: int) -> Held | None:
        held = self._held.get(seq)
        self.counts["unknown"] += held is None
        return held

    def _settle(self, seq: int, answer: Answer) -> Settlement:
        held = self._held.pop(seq)
        self._drop_pixels(held)
        self._open.discard(seq)
        self.counts["settled"] += 1
        return Settlement(seq, *answer, held.header.trigger_id or None, held.unit_id)

    def _drop_pixels(self, held: Held) -> None:
        if held.pixels is not None:
            self.held_bytes -= len(held.pixels)
        held.pixels = None
        self._images.pop(held.seq, None)
        if self._partial is held:
            self._partial = None

    def _bury(self, held: Held, why: Tombstone) -> None:
        """Pixels go, a tombstone takes their place; one that was sent may be settled any moment."""
        self._drop_pixels(held)
        held.why, held.at_ns, held.offset, held.queued = why, 0, 0, True
        nothing = {"width": 0, "height": 0, "pixel_format": 0, "codec": 0}
        held.header = msgspec.structs.replace(held.header, **nothing)
        self.counts["tombstones"] += 1
        self.counts[why] += 1
        if why == "expired" and held.tries:
            held.queued = False
            self._timers.set(held, held.deadline_ns + held.timer_ns)
        else:
            heapq.heappush(self._tombstones, held.seq)

    def _fire(self, now_ns: int) -> None:
        for held in self._timers.fired(now_ns):
            if held.pixels is not None and now_ns >= held.deadline_ns:
                self._bury(held, "expired")
                continue
            held.queued = True
            if held.pixels is not None:
                heapq.heappush(self._pixels, held.seq)
                self._timers.set(held, held.deadline_ns)
            elif held.seq in self._open:
                self._asking.append(held.seq)
            else:
                heapq.heappush(self._tombstones, held.seq)

    def _choose(self) -> Held | None:
        """Questions first, they are small; then the lower number of a tombstone and of pixels."""
        while self._asking:
            held = self._held.get(self._asking[0])
            if held is not None and held.queued:
                return held
            self._asking.popleft()
        tombstone = self._head(self._tombstones) if len(self._open) < MAX_OPEN else None
        pixels = self._partial or self._head(self._pixels)
        if pixels is not None and not self._may_go(pixels):
            pixels = None
        if tombstone is None or pixels is None:
            return tombstone or pixels
        return min(tombstone, pixels, key=lambda held: held.seq)

    def _may_go(self, held: Held) -> bool:
        near = held.seq < self.first_unsettled + MAX_AHEAD
        return near and self.credit.covers(len(chunk(held, self.terms)))

    def _head(self, heap: list[int]) -> Held | None:
        while heap:
            held = self._held.get(heap[0])
            of_pixels = heap is self._pixels
            if held is not None and held.queued and (held.pixels is not None) is of_pixels:
                return held
            heapq.heappop(heap)
        return None
