"""
Which verdicts of a log are new, handed out and held; without socket, clock or thread.

What does not fit is never mended in place. A verdict whose digest, number or chain value is wrong
is not taken: `again` asks for a new connection, whose SUBSCRIBE starts behind what is held, so
that the daemon sends it once more. Where the same verdict is wrong again, it is so in the
daemon's log: its lane stops there, unacknowledged, and the other lane goes on.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from edge_inspector.client.delivered import Counts, Delivered, LaneName
from edge_inspector.client.numbers import Numbers
from edge_inspector.errors import WireError
from edge_inspector.records import Verdict
from edge_inspector.wire.assured import Ack, Message, Replay, Subscribed, Truncated, verify_verdict
from edge_inspector.wire.codes import Flag

CAPACITY = 4096
"""Verdicts that wait for the user: twice what the daemon's two windows of 1024 let it send."""
REPLAY_AT_ONCE = 1024

_QUEUES: dict[LaneName, int] = {"live": 0, "history": 1, "replay": 2}


class Lane:
    """One ascending run of verdicts: the number that comes next, and the chain value before it."""

    def __init__(self, number: int, chain: int) -> None:
        self.next = number
        self.chain = chain
        self.stopped = False

    def skip(self, gone: Truncated) -> None:
        """Go on behind what is gone, where the lane has come to it."""
        if gone.first <= self.next <= gone.last:
            self.next, self.chain = gone.last + 1, gone.chain


class Lanes:
    """
    One consumer's lanes, numbers and queues.

    `again` tells that a new connection is wanted, `problem` is the last refusal, `head` the
    newest number that the daemon is known to have.
    """

    def __init__(
        self, start: int | Literal["live"] = 0, lanes: Literal[1, 2] = 2, capacity: int = CAPACITY
    ) -> None:
        self.counts = Counts()
        self.again = False
        self.problem = ""
        self.head = 0
        self._start = start
        self._lanes = lanes
        self._capacity = capacity
        self._log = 0
        self._known = False
        self._seen = Numbers(0, 0)
        self._held = Numbers(0, 0)
        self._live: Lane | None = None
        self._history: Lane | None = None
        self._live_from = 0
        self._wrong_vseq = 0
        self._full = False
        self._queues: tuple[deque[Delivered], ...] = (deque(), deque(), deque())
        self._replays: deque[Replay] = deque()
        self._asked_upto = 0

    @property
    def subscribed(self) -> bool:
        """Whether the daemon has said where the lanes start."""
        return self._live is not None

    @property
    def start(self) -> int | Literal["live"]:
        """What SUBSCRIBE asks for: behind all that is held, once anything is known."""
        return self._held.upto + 1 if self._known else self._start

    @property
    def upto(self) -> int:
        """All verdicts up to this one are held, gone, or were not asked for."""
        return self._held.upto

    @property
    def ack(self) -> Ack | None:
        """What the daemon may be told now; None without a subscription."""
        if self._live is None:
            return None
        return Ack(self._held.upto, self._held.end(self._live_from))

    def disconnect(self) -> None:
        """The connection is gone; what waits in the queues stays, and is not taken twice."""
        self.again = self._full = False
        self._live = self._history = None
        self._asked_upto = 0

    def subscribe(self, said: Subscribed) -> None:
        """Begin both lanes where the daemon says; another log than before is begun from its cursor."""
        if self._known and self._is_another_log(said):
            self._known, self._start = False, 0
            self._live = self._history = None
            self._replays.clear()
            self._log += 1
            self.counts.other_logs += 1
            self.head = 0
            self.again = True
            return
        if self._known:
            self._forgo(self._held.upto + 1, said.history_from - 1, said.history_chain)
        else:
            self._known = True
            self._seen = Numbers(said.history_from - 1, said.history_chain)
            self._held = Numbers(said.history_from - 1, said.history_chain)
        self.counts.subscriptions += 1
        self.head = max(self.head, said.head)
        self._live_from = said.live_from
        self._history = Lane(said.history_from, said.history_chain)
        self._live = Lane(said.live_from, said.live_chain) if self._lanes == 2 else self._history

    def truncate(self, gone: Truncated) -> None:
        """Retention took a range: it will never come, and nothing waits for it."""
        if not 0 < gone.first <= gone.last <= self.head:
            self.refuse(f"TRUNCATED {gone.first} to {gone.last}; the daemon's head is {self.head}")
            return
        self._forgo(gone.first, gone.last, gone.chain)
        for lane in (self._live, self._history):
            if lane is not None:
                lane.skip(gone)
        if self._replays and gone.first <= self._replays[0].first <= gone.last:
            self._replayed(gone.last)

    def verdict(self, message: Message, received_ns: int, late_ns: int) -> None:
        """Take in one VERDICT whose CRC holds: queued when it is new and follows in its lane."""
        header = message.header
        if header.has(Flag.REPLAY):
            self._replay(message, received_ns, late_ns)
            return
        lane = self._history if header.has(Flag.HISTORICAL) else self._live
        if lane is None or lane.stopped:
            return
        if header.seq < lane.next:
            self.counts.duplicates += 1
            return
        if sum(map(len, self._queues)) >= self._capacity:
            self.counts.postponed += 1
            lane.stopped = self._full = True
            return
        try:
            if header.seq != lane.next:
                raise WireError(f"verdict {header.seq} came where {lane.next} was due")
            verdict = verify_verdict(message, lane.chain)
        except WireError as error:
            self.refuse(str(error), lane)
            return
        lane.next, lane.chain = header.seq + 1, header.chain
        if header.seq in self._seen:
            self.counts.duplicates += 1
            return
        self._seen.add(header.seq, header.seq, header.chain)
        self.head = max(self.head, header.seq)
        self.counts.delivered += 1
        name: LaneName = "history" if header.has(Flag.HISTORICAL) else "live"
        self._queue(name, message, verdict, received_ns, late_ns)

    def refuse(self, problem: str, lane: Lane | None = None) -> None:
        """Ask for a new connection; the second time at the same number only that lane stops."""
        self.counts.refused += 1
        self.problem = problem
        if lane is not None and lane.next == self._wrong_vseq:
            lane.stopped = True
            return
        self._wrong_vseq = lane.next if lane is not None else 0
        self._live = self._history = None
        self.again = True

    @property
    def urgent(self) -> bool:
        """Whether a verdict waits that is to be handed out before all others."""
        return bool(self._queues[0])

    def take(self) -> Delivered | None:
        """Hand out the next verdict, live ones first; None where none waits."""
        for queue in self._queues:
            if queue:
                delivered = queue.popleft()
                if self._full and sum(map(len, self._queues)) <= self._capacity // 4:
                    self.again = True
                return delivered
        return None

    def hold(self, delivered: Delivered) -> None:
        """The user has done with this verdict: it may be acknowledged and never sent again."""
        if delivered.lane != "replay" and delivered.log == self._log and self._known:
            self._held.add(delivered.vseq, delivered.vseq, delivered.chain)

    def replay(self, first: int, last: int) -> None:
        """Have these sent once more; they are handed out whether they are held or not."""
        self._replays.append(Replay(first, last))

    def next_replay(self) -> Replay | None:
        """What REPLAY is to be sent now: a piece at a time, so that the queue holds it."""
        if not self._replays or self._asked_upto or self._queues[2] or not self.subscribed:
            return None
        wanted = self._replays[0]
        self._asked_upto = min(wanted.last, wanted.first + REPLAY_AT_ONCE - 1)
        return Replay(wanted.first, self._asked_upto)

    def _replay(self, message: Message, received_ns: int, late_ns: int) -> None:
        number = message.header.seq
        if not self._asked_upto or not self._replays[0].first <= number <= self._asked_upto:
            self.counts.duplicates += 1
            return
        try:
            verdict = verify_verdict(message, None)
        except WireError as error:
            self.refuse(str(error))
            return
        self._queue("replay", message, verdict, received_ns, late_ns)
        self._replayed(number)

    def _replayed(self, number: int) -> None:
        wanted = self._replays.popleft()
        if number < wanted.last:
            self._replays.appendleft(Replay(number + 1, wanted.last))
        if number >= self._asked_upto:
            self._asked_upto = 0

    def _queue(
        self, lane: LaneName, message: Message, verdict: Verdict, received_ns: int, late_ns: int
    ) -> None:
        header = message.header
        delivered = Delivered(
            vseq=header.seq,
            verdict=verdict,
            flags=Flag(header.flags),
            lane=lane,
            code=header.code,
            complement=header.complement,
            chain=header.chain,
            received_ns=received_ns,
            age_at_sending_ns=header.t_mono_ns - verdict.time_zero_ns,
            late_ns=late_ns,
            log=self._log,
        )
        self._queues[0 if self._lanes == 1 else _QUEUES[lane]].append(delivered)

    def _forgo(self, first: int, last: int, chain: int) -> None:
        if first <= last:
            self.counts.lost += self._seen.missing(first, last)
            self._seen.add(first, last, chain)
            self._held.add(first, last, chain)

    def _is_another_log(self, said: Subscribed) -> bool:
        """Its head is below what came from it, or its chain does not go on from what is held."""
        return said.head < self._seen.top or (
            said.oldest <= said.history_from == self._held.upto + 1
            and said.history_chain != self._held.chain
        )
