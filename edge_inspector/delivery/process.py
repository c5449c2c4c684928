"""
The delivery process: verdicts from the log to line controllers, for as long as core lives.

One thread waits for core and for the consumers at once. Nothing is promised here: what a consumer
has not acknowledged is sent again, and a hostile peer can at worst end this process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
import zmq

from edge_inspector import clock, process
from edge_inspector.channel import (
    Acked,
    Alive,
    Channel,
    DeliveryConfig,
    Failed,
    Message,
    Pulse,
    Ready,
    Row,
    RunBegan,
    Stop,
)
from edge_inspector.delivery.consumers import Consumer, Consumers
from edge_inspector.delivery.door import Door
from edge_inspector.delivery.lanes import Bucket, Stretch
from edge_inspector.delivery.reception import Reception
from edge_inspector.delivery.rows import Rows
from edge_inspector.errors import EdgeInspectorError
from edge_inspector.failpoints import passing
from edge_inspector.gauge import Gauge
from edge_inspector.outbox import Log
from edge_inspector.wire.assured import Bye, Heartbeat, Run
from edge_inspector.wire.codes import Flag

MEMORY_MIB = 1024
"""
Address space beyond what is mapped at the start: full pipes to 32 consumers that do not read are
550 MiB at most, and what grows beyond that is a message whose parts never end.
"""
TICK_NS = 50 * clock.NS_PER_MS
ALIVE_NS = 100 * clock.NS_PER_MS
DRAIN_NS = 300 * clock.NS_PER_MS
LINGER_MS = 200
"""Both together are less than the second after which core ends this process."""
TOKENS_MS = 2
"""How long history waits before it asks again whether it may go on."""
_CORE_BURST = 64
_PEER_BURST = 16
_LIVE_SLICE = 32
_PAST_SLICE = 8
"""Messages read and verdicts sent before core is listened to again: 0.3 ms of history."""
_COUNTED = {"live": "verdicts_sent", "history": "verdicts_historical", "replay": "verdicts_again"}


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until core says stop or is gone; 1 where it cannot start or the log cannot be read."""
    arguments = process.begin("delivery", argv, "gauge")
    config = msgspec.json.decode(arguments.config, type=DeliveryConfig)
    with ExitStack() as stack:
        line = Channel.from_fd(arguments.channel_fd)
        stack.callback(line.close)
        line.set_blocking(False)
        try:
            log = Log(Path(config.store))
            stack.callback(log.close)
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            stack.callback(context.destroy, linger=0)
            door = Door(context, config.endpoint)
            stack.callback(door.close, LINGER_MS)
            gauge = Gauge(arguments.gauge_fd, writable=False)
            stack.callback(gauge.close)
            process.limit_growth(MEMORY_MIB)
            return Delivery(config, line, Rows(log, config.classes), door, gauge).serve()
        except EdgeInspectorError as error:
            line.try_send(Failed.of(error))
            return 1


class Delivery:
    """Core on one side, consumers on the other, the log behind."""

    def __init__(
        self, config: DeliveryConfig, line: Channel, rows: Rows, door: Door, gauge: Gauge
    ) -> None:
        self._config = config
        self._line = line
        self._rows = rows
        self._door = door
        self._gauge = gauge
        self._counters: Counter[str] = Counter()
        self._consumers = Consumers(door, self._counters)
        self._bucket = Bucket(config.history_hz)
        self._reception = Reception(
            config.station,
            config.classes,
            rows,
            self._consumers,
            self._counters,
            self._line.try_send,
        )
        self._flags = int(Flag.TEST) if config.observe else 0
        self._status: int | None = None
        self._poller = zmq.Poller()
        self._poller.register(line.fileno(), zmq.POLLIN)
        self._poller.register(door.socket, zmq.POLLIN)

    def serve(self) -> int:
        """Send what is due, live verdicts first, until core says stop or is gone."""
        self._line.try_send(Ready(self._config.endpoint))
        tick_ns = alive_ns = clock.now_ns()
        wait_ms = 0
        while self._status is None:
            self._listen(wait_ms)
            more = self._send_live()
            if not more:
                more = self._send_past(clock.now_ns())
            now_ns = clock.now_ns()
            if now_ns >= tick_ns:
                tick_ns = now_ns + TICK_NS
                self._tell_acked()
            if now_ns >= alive_ns:
                alive_ns = now_ns + ALIVE_NS
                self._tell_alive(now_ns)
            wait_ms = 0 if more else self._patience_ms(tick_ns - now_ns)
        return self._status

    def _listen(self, wait_ms: int) -> None:
        """Hear what core and the consumers say, for `wait_ms` at most."""
        ready = dict(self._poller.poll(wait_ms))
        if self._line.fileno() in ready:
            for _ in range(_CORE_BURST):
                try:
                    self._hear_core(self._line.receive())
                except BlockingIOError:
                    break
                if self._status is not None:
                    return
            self._send_live()
        if self._door.socket in ready:
            for _ in range(_PEER_BURST):
                said = self._door.receive()
                if said is None:
                    break
                self._reception.hear(*said)

    # from core

    def _hear_core(self, message: Message | None) -> None:
        match message:
            case Row():
                passing("delivery.row")
                self._rows.add(message)
                self._bucket.pour(clock.now_ns())
            case Pulse():
                self._pulse(message)
            case RunBegan():
                self._reception.run = message.run
            case Stop():
                self._leave()
                self._status = 0
            case None:
                self._status = 0

    def _pulse(self, pulse: Pulse) -> None:
        """Core lives, so consumers may go on trusting what they hear; there is no other timer."""
        self._rows.head = max(self._rows.head, pulse.head_vseq)
        self._reception.beat_ns = clock.now_ns()
        self._reception.beat = Heartbeat(
            head_vseq=pulse.head_vseq,
            oldest_vseq=pulse.oldest_vseq,
            state=pulse.state,
            toggle=pulse.toggle,
        )
        self._consumers.tell_all(self._reception.beat)

    def _leave(self) -> None:
        """Send the live verdicts that are due, while their consumers take them, and say goodbye."""
        give_up_ns = clock.now_ns() + DRAIN_NS
        self._rows.look()
        while self._send_live() and clock.now_ns() < give_up_ns:
            said = self._door.receive()
            if said is not None:
                self._reception.hear(*said)
        self._consumers.tell_all(msgspec.structs.replace(self._reception.beat, state="stopping"))
        self._consumers.tell_all(Bye("the daemon stops"))
        self._tell_acked()

    # to core

    def _tell_acked(self) -> None:
        while untold := self._consumers.next_untold():
            if not self._line.try_send(Acked(*untold)):
                return
            self._consumers.told(untold[0])

    def _tell_alive(self, now_ns: int) -> None:
        self._consumers.forget_silent(now_ns)
        if self._line.try_send(Alive(dict(self._counters))):
            self._counters.clear()

    # to the consumers

    def _send_live(self) -> bool:
        """Whether there is more to send at once."""
        more = False
        for consumer in self._consumers:
            if consumer.run != self._reception.run:
                self._tell_run(consumer)
            stretch = consumer.lanes.live(self._rows.head)
            if stretch is not None and consumer.full_until_ns <= clock.now_ns():
                more |= self._send(consumer, stretch, _LIVE_SLICE)
        return more

    def _send_past(self, now_ns: int) -> bool:
        """A few verdicts for each consumer that is behind; whether there is more to send at once."""
        more = False
        for consumer in self._consumers:
            tokens = min(self._bucket.tokens(now_ns, busy=self._gauge.busy), _PAST_SLICE)
            stretch = consumer.lanes.past(tokens)
            if stretch is not None and consumer.full_until_ns <= now_ns:
                self._consumers.serve_last(consumer)
                self._bucket.spend(stretch.last - stretch.first + 1)
                more |= self._send(consumer, stretch, tokens)
        return more

    def _send(self, consumer: Consumer, stretch: Stretch, limit: int) -> bool:
        """Send the first `limit` of a stretch; False when the consumer cannot take more now."""
        count = min(limit, stretch.last - stretch.first + 1)
        letters = self._rows.take(stretch.first, count)
        if not letters or letters[0].vseq != stretch.first:
            return self._tell_truncated(consumer, stretch)
        for letter in letters:
            parts = letter.parts(stretch.flags | self._flags, clock.now_ns())
            if self._consumers.send(consumer.peer, parts) != "sent":
                return False
            consumer.lanes.sent(stretch.lane, letter.vseq)
            self._counters[_COUNTED[stretch.lane]] += 1
            passing("delivery.sent")
        return True

    def _tell_truncated(self, consumer: Consumer, stretch: Stretch) -> bool:
        gone = self._rows.gone(stretch.first)
        if gone is None or self._consumers.tell(consumer.peer, gone) != "sent":
            return False
        consumer.lanes.skip(stretch.lane, gone.last)
        return True

    def _tell_run(self, consumer: Consumer) -> None:
        run = self._reception.run
        if self._consumers.tell(consumer.peer, Run(self._config.station, run)) == "sent":
            consumer.run = run

    def _patience_ms(self, left_ns: int) -> int:
        if any(consumer.lanes.past(1) for consumer in self._consumers):
            return TOKENS_MS
        self._bucket.rest(clock.now_ns())
        late = any(consumer.lanes.live(self._rows.head) for consumer in self._consumers)
        return TOKENS_MS if late else max(1, -(-left_ns // clock.NS_PER_MS))
