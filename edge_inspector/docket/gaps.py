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


class Gaps:
    """
    Frames that an assured source should have offered and did not, by its numbers.

    Where frames have trigger ids these decide, since only they name the part; else the frame
    numbers do. A jump of more than `MAX_GAP` is a counter that was set anew: no frame is invented.
    A frame that comes late moves no counter, or it would hide what is lost next. A gap that was
    not answered for before a restart is found again in the log.
    """

    def __init__(self) -> None:
        self._highest: OrderedDict[tuple[str, str, int], int] = OrderedDict()
        self._owed: dict[tuple[str, int], set[int]] = {}
        """Station and run -> trigger ids that the log passed over."""

    def missing(self, head: FrameHead) -> list[FrameHead]:
        """Stand-ins for the frames between this one and the highest before it."""
        trigger_id, key = head.trigger_id, head.key
        if trigger_id is None:
            first = self._count((key.source, key.epoch, -1), key.seq)
            keys = [FrameKey(key.source, key.epoch, number) for number in range(first, key.seq)]
            return [stand_in(head, key) for key in keys]
        newest = (key.source, key.epoch, -2)
        fresh = key.seq > self._highest.get(newest, 0) and not head.tombstone
        self._count(newest, key.seq)
        first = self._count(("", head.station, head.run), trigger_id, may_fall=fresh)
        owed = self._owed.pop((head.station, head.run), set()) - {trigger_id}
        nameless = FrameKey(key.source, key.epoch, 0)
        numbers = sorted(owed.union(range(first, trigger_id)))
        return [stand_in(head, nameless, number) for number in numbers]

    def seen(self, station: str, run: int, trigger_id: int) -> None:
        """Count a trigger id that the log has answered for, in the order of its rows."""
        first = self._count(("", station, run), trigger_id, may_fall=True)
        owed = self._owed.setdefault((station, run), set())
        owed.discard(trigger_id)
        owed.update(range(first, trigger_id))

    def _count(self, name: tuple[str, str, int], number: int, *, may_fall: bool = False) -> int:
        """Count a number; the first of those that are missing before it."""
        highest = self._highest.get(name)
        ahead = 0 if highest is None else number - highest
        if highest is None or ahead > 0 or (may_fall and ahead < -MAX_GAP):
            self._highest[name] = number
        self._highest.move_to_end(name)
        while len(self._highest) > MAX_COUNTERS:
            self._highest.popitem(last=False)
        return number - ahead + 1 if 1 < ahead <= MAX_GAP + 1 else number


def stand_in(after: FrameHead, key: FrameKey, trigger_id: int | None = None) -> FrameHead:
    """A frame that is missing before another one."""
    return msgspec.structs.replace(
        after, key=key, unit_id=None, trigger_id=trigger_id, slot=-1, ticket=0
    )


def announced(
    station: str, camera: str, recipe: str, run: int, trigger_id: int, now_ns: int
) -> FrameHead:
    """The frame of a part that is on its way, of no source; its latency budget starts now."""
    return FrameHead(
        key=FrameKey("", "", 0),
        station=station,
        camera=camera,
        recipe=recipe,
        arrived_ns=now_ns,
        time_zero_ns=now_ns,
        trigger_id=trigger_id,
        run=run,
    )
