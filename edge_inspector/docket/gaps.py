"""Publishers' own frame numbers: which are missing, and when a publisher started to count anew."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import msgspec

from edge_inspector.records import FrameHead, FrameKey

MAX_GAP = 100
REORDER_WINDOW = 8
MAX_COUNTERS = 256
"""Counters kept; each connection of a source brings an epoch of its own."""


@dataclass(slots=True)
class _Counter:
    highest: int | None = None
    resets: int = 0


@dataclass(frozen=True, slots=True)
class Placed:
    """A numbered frame under the key it is known by, and what its number revealed."""

    head: FrameHead
    missing: tuple[FrameKey, ...] = ()
    reset: bool = False


class Sequences:
    """The highest number seen of each source and epoch."""

    def __init__(self) -> None:
        self._counters: OrderedDict[tuple[str, str], _Counter] = OrderedDict()

    def rename(self, head: FrameHead) -> FrameHead:
        """The head under the docket's epoch, which grows a suffix with each reset."""
        resets = self._counter(head).resets
        if not resets:
            return head
        key = head.key
        return msgspec.structs.replace(
            head, key=FrameKey(key.source, f"{key.epoch}+{resets}", key.seq)
        )

    def near(self, head: FrameHead) -> bool:
        """True where the number lies in the reorder window, so that it may only be late."""
        highest = self._counter(head).highest
        return highest is not None and 0 <= highest - head.key.seq <= REORDER_WINDOW

    def place(self, head: FrameHead, *, awaited: bool) -> Placed:
        """Count a frame under its arrival epoch; `awaited` when its number is known to be missing."""
        counter, seq = self._counter(head), head.key.seq
        if counter.highest is None:
            counter.highest = seq
            return Placed(self.rename(head))
        ahead = seq - counter.highest
        if ahead > MAX_GAP + 1 or (ahead < -REORDER_WINDOW and not awaited):
            counter.resets += 1
            counter.highest = seq
            return Placed(self.rename(head), reset=True)
        first, counter.highest = counter.highest + 1, max(seq, counter.highest)
        placed = self.rename(head)
        source, epoch = placed.key.source, placed.key.epoch
        return Placed(placed, tuple(FrameKey(source, epoch, n) for n in range(first, seq)))

    def _counter(self, head: FrameHead) -> _Counter:
        name = (head.key.source, head.key.epoch)
        counter = self._counters.setdefault(name, _Counter())
        self._counters.move_to_end(name)
        while len(self._counters) > MAX_COUNTERS:
            self._counters.popitem(last=False)
        return counter
