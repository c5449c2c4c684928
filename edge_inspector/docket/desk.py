"""Frames in hand: who waits for a worker, who is with one, and which slots are still read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import msgspec

from edge_inspector.docket.units import Part, Unit
from edge_inspector.docket.words import Action, Dispatch, Release
from edge_inspector.records import Committed, FrameHead, FrameKey, Verdict


class Desk:
    """
    The bounded queue before the workers; every slot is released once, and never while it is read.

    `frames` holds a frame until its accept row is on disk and its slot is released.
    """

    def __init__(self, act: Callable[[Action], None]) -> None:
        self.frames: dict[FrameKey, Part] = {}
        self.free = 0
        self._queue: dict[FrameKey, Part] = {}
        self._renamed = 0
        self._act = act

    def __len__(self) -> int:
        return len(self._queue)

    def named(self, head: FrameHead) -> FrameHead:
        """The frame under a key that no other frame in hand has."""
        if head.key not in self.frames:
            return head
        self._renamed += 1
        key = FrameKey(head.key.source, f"{head.key.epoch}~{self._renamed}", head.key.seq)
        return msgspec.structs.replace(head, key=key)

    def put(self, part: Part) -> None:
        """Let a frame wait for a worker."""
        self._queue[part.head.key] = part

    def feed(self, now_ns: int) -> None:
        """Hand waiting frames to the workers, the oldest first, as far as these have room."""
        while self.free > 0 and self._queue:
            part = self._queue.pop(next(iter(self._queue)))
            part.working, part.dispatched_ns = True, now_ns
            self.free -= 1
            self._act(Dispatch(part.head, part.unit.deadline_ns))

    def answered(self, key: FrameKey) -> Part | None:
        """The frame that a worker is done with, None when no worker had it."""
        part = self.frames.get(key)
        if part is None or not part.working:
            return None
        part.working = False
        self.let_go(part)
        return part

    def drop(self, unit: Unit) -> None:
        """Give up the unit's frames that no worker has."""
        for part in unit.parts.values():
            if not part.working:
                self._queue.pop(part.head.key, None)
                self.let_go(part)

    def let_go(self, part: Part) -> None:
        """Release the slot of a frame, once."""
        if not part.released:
            part.released = True
            self.release(part.head)
        self.forget(part)

    def forget(self, part: Part) -> None:
        """Strike a frame that is journaled and out of hand."""
        if part.journaled and part.released and not part.working:
            self.frames.pop(part.head.key, None)

    def release(self, head: FrameHead) -> None:
        """Give back the slot of a frame that was never taken."""
        if head.slot >= 0:
            self._act(Release(head.slot))


class Past(msgspec.Struct, frozen=True, gc=False):
    """A settled unit as remembered: enough to answer for it again, and less than its records."""

    digests: dict[str, int]
    vseq: int
    body: bytes
    chain: int

    def committed(self) -> Committed:
        """Its verdict as stored."""
        verdict = msgspec.msgpack.decode(self.body, type=Verdict)
        return Committed(
            vseq=self.vseq, verdict=verdict, body=self.body, chain=self.chain, fresh=False
        )


class Memory:
    """The last settled units; what is asked for again stays longest."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._units: OrderedDict[str, Past] = OrderedDict()

    def __len__(self) -> int:
        return len(self._units)

    def __contains__(self, unit_key: str) -> bool:
        return unit_key in self._units

    def get(self, unit_key: str) -> Past | None:
        """The unit, None when it is not remembered."""
        past = self._units.get(unit_key)
        if past is not None:
            self._units.move_to_end(unit_key)
        return past

    def add(self, committed: Committed, digests: dict[str, int]) -> None:
        """Remember a settled unit; what is known about it already stands."""
        past = Past(digests, committed.vseq, committed.body, committed.chain)
        self._units.setdefault(committed.verdict.unit_key, past)
        while len(self._units) > self._size:
            self._units.popitem(last=False)
