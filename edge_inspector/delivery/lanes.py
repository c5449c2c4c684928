"""
What one consumer is due: live verdicts, history and replays, each in its window. No socket, no clock.

A stretch is offered until `sent` says how far it went out, so that a full pipe loses nothing.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, NamedTuple

from edge_inspector.wire.codes import Flag

LIVE_WINDOW = 1024
HISTORY_WINDOW = 2048
"""Verdicts that may be on their way without an ACK; both together fit the consumer's queue."""
MAX_REPLAY = 4096
MAX_REPLAYS = 16
FIRST_NS = 10_000_000
"""What history may take when it begins."""
IDLE_NS = 40_000_000
BUSY_NS = 100_000_000
"""How long history waits for a unit to be done: with none in flight, and with one."""
AFTER_NS = 2_000_000
"""How long history lets a live verdict arrive that was just sent."""
BURST_NS = 150_000_000
_SECOND_NS = 1_000_000_000

LaneName = Literal["live", "history", "replay"]


class Stretch(NamedTuple):
    """Verdicts `first` to `last` may be sent now in this lane, with these flags."""

    lane: LaneName
    first: int
    last: int
    flags: int


class Bucket:
    """
    What history may take: `hz` verdicts a second over all consumers.

    It takes what it is owed when a unit is done, because the next one is then farthest away, and
    nothing while one is in flight; it waits for that, but not so long that it loses of its rate.
    """

    def __init__(self, hz: int) -> None:
        self._hz = hz
        one_ns = -(-_SECOND_NS // hz)
        self._burst_ns = max(BURST_NS, BUSY_NS + one_ns)
        self._first_ns = max(FIRST_NS, one_ns)
        self._spent_upto_ns = 0
        self._pouring = False
        self._wait_until_ns = 0

    def pour(self, now_ns: int) -> None:
        """A unit is done."""
        self._pouring = True
        self._wait_until_ns = now_ns + AFTER_NS

    def tokens(self, now_ns: int, *, busy: bool = False) -> int:
        """Verdicts that may be sent now, `busy` with a unit in flight."""
        self._spent_upto_ns = max(self._spent_upto_ns, now_ns - self._burst_ns)
        owed_ns = now_ns - self._spent_upto_ns
        if busy or now_ns < self._wait_until_ns:
            return max(0, owed_ns - BUSY_NS) * self._hz // _SECOND_NS
        tokens = max(0, owed_ns) * self._hz // _SECOND_NS
        self._pouring = tokens > 0 and (self._pouring or owed_ns >= IDLE_NS)
        return tokens if self._pouring else 0

    def rest(self, now_ns: int) -> None:
        """Nobody is behind: what is not taken now is not owed later."""
        self._spent_upto_ns = max(self._spent_upto_ns, now_ns - self._first_ns)

    def spend(self, count: int) -> None:
        """So many were sent."""
        self._spent_upto_ns += -(-count * _SECOND_NS // self._hz)


class Lanes:
    """
    The lanes of one subscription: history from `start` to before `live_from`, then live ones.

    With two lanes the live one runs ahead of the history; `strict` holds it back until the
    history has gone out, so that all verdicts come in one order.
    """

    def __init__(self, start: int, live_from: int, *, strict: bool = False) -> None:
        self._live_from = live_from
        self._strict = strict
        self._next: dict[LaneName, int] = {"live": live_from, "history": start}
        self._upto = start - 1
        self._live_upto = live_from - 1
        self._replays: deque[tuple[int, int]] = deque()

    def live(self, head: int) -> Stretch | None:
        """What the live lane may send now of a log that ends at `head`."""
        if self._strict and self._next["history"] < self._live_from:
            return None
        first = self._next["live"]
        last = min(head, max(self._upto, self._live_upto) + LIVE_WINDOW)
        return Stretch("live", first, last, 0) if first <= last else None

    def past(self, tokens: int) -> Stretch | None:
        """At most `tokens` verdicts of what was asked for again, else of the history."""
        lane: LaneName = "replay"
        flags = Flag.REPLAY
        if self._replays:
            first, last = self._replays[0]
        else:
            first = self._next["history"]
            last = min(self._live_from - 1, self._upto + HISTORY_WINDOW)
            lane, flags = "history", Flag.HISTORICAL
        last = min(last, first + tokens - 1)
        return Stretch(lane, first, last, int(flags)) if first <= last else None

    def sent(self, lane: LaneName, vseq: int) -> None:
        """All up to `vseq` of this lane went out."""
        if lane != "replay":
            self._next[lane] = vseq + 1
            return
        _, last = self._replays.popleft()
        if vseq < last:
            self._replays.appendleft((vseq + 1, last))

    def skip(self, lane: LaneName, vseq: int) -> None:
        """Retention took all up to `vseq`: there is nothing to hold, so it takes no window."""
        if lane != "replay" and self._upto >= self._next[lane] - 1:
            self._upto = max(self._upto, vseq)
        self.sent(lane, vseq)

    def ack(self, upto: int, live_upto: int) -> bool:
        """
        The consumer holds these; False, and nothing is taken, where it cannot have them.

        What was committed before the subscription may be held from an earlier connection.
        """
        if max(upto, live_upto) >= self._next["live"]:
            return False
        self._upto = max(self._upto, upto)
        self._live_upto = max(self._live_upto, live_upto)
        return True

    def replay(self, first: int, last: int) -> bool:
        """Send these once more; False when too many such wishes wait."""
        if len(self._replays) == MAX_REPLAYS:
            return False
        self._replays.append((first, last))
        return True
