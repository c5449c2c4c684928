"""Reference line controller of the ASSURED tier: acts on fresh, new, verified `pass` only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Literal

import msgspec

from edge_inspector import clock
from edge_inspector.client.delivered import Counts, Delivered
from edge_inspector.client.gate import SILENCE_NS, Gate
from edge_inspector.client.link import Link
from edge_inspector.client.subscription import Subscription, subscribe_message
from edge_inspector.errors import Breakage, Misuse
from edge_inspector.records import Baseline
from edge_inspector.wire.assured import Nack, Run, State

TICK_MS = 20


class VerdictConsumer:
    """
    Takes every verdict of a daemon once and in order, and says which unit may pass the gate.

    Connects, subscribes and reconnects by itself in a thread of its own. A verdict is held, and
    acknowledged, once the loop comes back for the next one, `hold` is called, or the consumer is
    closed without an error: what a crash interrupts is sent again. `start` is 0 to go on behind
    what this `consumer` held last, the number to begin at, or "live" for what is committed from
    now on. With two lanes live verdicts overtake older ones, with one all come in strict order.
    `validity_ms`, where given, takes the place of the validity that the verdicts carry. One
    thread reads; `notify` is called by the other one whenever there may be something to receive.

        with VerdictConsumer("tcp://127.0.0.1:5571", consumer="gate-plc") as verdicts:
            for delivered in verdicts:
                if verdicts.lets_through(delivered, trigger_id=part_at_the_gate()):
                    open_gate()

    Silence is a reject: the gate stays shut unless a verdict opens it.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        consumer: str,
        station: str | None = None,
        start: int | Literal["live"] = 0,
        lanes: Literal[1, 2] = 2,
        validity_ms: int | None = None,
        notify: Callable[[], None] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.station = station
        subscribe = subscribe_message(consumer, station, start, lanes)
        self._notify = notify
        self._gate = Gate(start=start, lanes=lanes, station=station, validity_ms=validity_ms)
        self._link = Link(endpoint)
        self._talk = Subscription(self._link, self._gate, subscribe)
        self._changed = threading.Condition()
        """Guards the gate and the talk; notified when there may be something to receive."""
        self._taken: Delivered | None = None
        self._closing = self._ended = False
        self._thread = threading.Thread(target=self._serve, name="verdicts", daemon=True)
        self._thread.start()

    def receive(self, timeout_ms: int | None = None) -> Delivered | None:
        """The next verdict, or None after `timeout_ms`; the one before counts as held."""
        with self._changed:
            self._hold_taken()
            self._changed.wait_for(self._has_taken, _seconds(timeout_ms))
            return self._taken

    def __iter__(self) -> Iterator[Delivered]:
        while True:
            delivered = self.receive()
            if delivered is not None:
                yield delivered

    def lets_through(
        self,
        delivered: Delivered,
        *,
        unit_key: str | None = None,
        trigger_id: int | None = None,
        unit_id: str | None = None,
    ) -> bool:
        """Whether the unit at the gate, which must be named, may pass by this verdict now."""
        return not self.why_not(
            delivered, unit_key=unit_key, trigger_id=trigger_id, unit_id=unit_id
        )

    def why_not(
        self,
        delivered: Delivered,
        *,
        unit_key: str | None = None,
        trigger_id: int | None = None,
        unit_id: str | None = None,
    ) -> str:
        """The first reason to reject the unit at the gate; empty where it may pass."""
        with self._changed:
            return self._gate.why_not(
                delivered,
                clock.now_ns(),
                unit_key=unit_key,
                trigger_id=trigger_id,
                unit_id=unit_id,
            )

    def hold(self, delivered: Delivered) -> None:
        """Have this verdict acknowledged without coming back for the next one."""
        with self._changed:
            self._gate.lanes.hold(delivered)
            self._talk.unacked += 1

    def replay(self, first: int, last: int) -> None:
        """
        Have the verdicts from `first` to `last` sent again, flagged `replay`, whether held or not.

        Raises `Misuse` for numbers that the daemon is not known to have.
        """
        with self._changed:
            self._check_open()
            head = self._gate.lanes.head
            if not 1 <= first <= last <= head:
                raise Misuse(f"replay of {first} to {last}; the daemon has 1 to {head}")
            self._gate.lanes.replay(first, last)

    def new_run(self, timeout_ms: int = 2000) -> int:
        """
        Say that the part counter of the station starts again; returns the number of the new run.

        No verdict is matched by its trigger id before the daemon has answered. Raises `Misuse`
        without a station, `Breakage` when the daemon refuses or is not heard in time.
        """
        if self.station is None:
            raise Misuse("new_run of no station; give VerdictConsumer the station it stands at")
        with self._changed:
            self._check_open()
            self._talk.begin_run()
            self._link.wake()
            self._changed.wait_for(self._has_run, _seconds(timeout_ms))
            answer = self._talk.run_answer
            if isinstance(answer, Run):
                return answer.run
            self._talk.give_up_run()
        why = f"{answer.why.value} {answer.detail}" if isinstance(answer, Nack) else "silence"
        raise Breakage(
            f"{self.endpoint} gave no new run within {timeout_ms} ms ({why.strip()}); "
            "reject until it does, and ask again"
        )

    def expect(self, trigger_id: int) -> None:
        """
        Announce the part with this trigger id: not seen within the latency budget it is no_image.

        What cannot be said while the connection lasts is dropped. Raises `Misuse` without a station.
        """
        if self.station is None or not 1 <= trigger_id < 2**63:
            raise Misuse(
                f"expect of trigger {trigger_id} at station {self.station}; trigger ids are 1 to "
                "2**63 - 1, and VerdictConsumer needs the station it stands at"
            )
        with self._changed:
            self._check_open()
            self._talk.announce(trigger_id)
            self._link.wake()

    def incumbent(
        self, said: Baseline, *, trigger_id: int | None = None, unit_id: str | None = None
    ) -> None:
        """Tell what the incumbent said of a unit; raises `Misuse` without an id or a station."""
        with self._changed:
            self._check_open()
            self._talk.tell(said, trigger_id, unit_id)
            self._link.wake()

    @property
    def head_vseq(self) -> int:
        """The newest verdict that the daemon is known to have."""
        with self._changed:
            return self._gate.lanes.head

    @property
    def upto(self) -> int:
        """All verdicts up to this one are held, gone, or were not asked for."""
        with self._changed:
            return self._gate.lanes.upto

    @property
    def state(self) -> State | None:
        """What the daemon said of itself in the last 300 ms."""
        with self._changed:
            return self._gate.state(clock.now_ns())

    @property
    def connected(self) -> bool:
        """Whether the daemon knows this consumer and was heard in the last 300 ms."""
        with self._changed:
            alive = clock.now_ns() - self._talk.heard_ns < SILENCE_NS
            return self._gate.lanes.subscribed and alive

    @property
    def problem(self) -> str:
        """The last message that was refused, by either side, and why."""
        with self._changed:
            return self._gate.lanes.problem

    @property
    def counts(self) -> Counts:
        """What happened since the start."""
        with self._changed:
            return msgspec.structs.replace(self._gate.lanes.counts)

    def close(self) -> None:
        """Hold the verdict taken last, say so to the daemon, and let go."""
        with self._changed:
            self._hold_taken()
        self._stop()

    def __enter__(self) -> VerdictConsumer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._stop()

    def _hold_taken(self) -> None:
        if self._taken is not None:
            self._gate.lanes.hold(self._taken)
            self._talk.unacked += 1
            self._taken = None

    def _has_taken(self) -> bool:
        self._check_open()
        self._taken = self._gate.lanes.take()
        return self._taken is not None

    def _has_run(self) -> bool:
        self._check_open()
        return self._talk.run_answer is not None

    def _check_open(self) -> None:
        if self._ended:
            raise Breakage(f"the consumer of {self.endpoint} is closed; open another")

    def _stop(self) -> None:
        self._closing = True
        self._thread.join()

    def _serve(self) -> None:
        """What the thread that owns the connection does."""
        try:
            while not self._closing:
                self._link.poll(TICK_MS, writable=self._talk.wants_to_ask)
                came = False
                for parts in self._link.receive():
                    came = True
                    with self._changed:
                        self._talk.hear(parts)
                        if self._gate.lanes.urgent:  # before more of the others is read
                            break
                with self._changed:
                    self._changed.notify_all()
                    self._talk.speak()
                if came and self._notify is not None:
                    self._notify()
            with self._changed:
                self._talk.leave()
        finally:
            with self._changed:
                self._ended = True
                self._link.close()
                self._changed.notify_all()
            if self._notify is not None:
                self._notify()


def _seconds(timeout_ms: int | None) -> float | None:
    return None if timeout_ms is None else timeout_ms / 1000
