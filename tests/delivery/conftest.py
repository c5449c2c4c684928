"""Delivery started for real, with the test in core's place and DEALERs of the test as consumers."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from contextlib import ExitStack

import msgspec
import pytest
import zmq

from edge_inspector import clock, gauge
from edge_inspector.channel import (
    DeliveryConfig,
    Failed,
    Ready,
)
from edge_inspector.delivery.consumers import Consumers
from edge_inspector.delivery.door import Door
from edge_inspector.delivery.reception import Reception
from edge_inspector.delivery.rows import Rows
from edge_inspector.gauge import Gauge
from edge_inspector.outbox import Log, Outbox
from edge_inspector.outbox.entries import Trim
from edge_inspector.records import FrameKey, Outcome, Verdict
from edge_inspector.wire import assured
from edge_inspector.wire.assured import Ack, Heartbeat, Subscribe
from edge_inspector.wire.codes import Flag, Type
from edge_inspector.wire.header import Header
from tests.core_side import LogSide

MS = clock.NS_PER_MS
HISTORICAL, REPLAY = Flag.HISTORICAL, Flag.REPLAY


def verdict(number, **fields):
    values = {
        "outcome": Outcome.PASS,
        "trigger_id": number,
        "time_zero_ns": clock.now_ns(),
        "valid_us": 500_000,
        **fields,
    }
    return Verdict(
        unit_key=f"u:st1/{number}",
        station="st1",
        frames=(FrameKey("src", "e", number),),
        recipe="board",
        **values,
    )


class Store:
    """The verdict log that the test writes; `rows` is all that it committed."""

    def __init__(self, folder):
        self.folder = folder
        self.rows = []
        self._changed = threading.Condition()
        self.runs: list[int] = []
        self.outbox = Outbox(folder)
        self.outbox.open(on_batch=self._on_batch, on_fault=self._on_fault, on_run=self.runs.append)

    def _on_batch(self, _, committed):
        with self._changed:
            self.rows += committed
            self._changed.notify_all()

    def _on_fault(self, fault):
        raise fault

    def commit(self, count=1, **fields):
        """So many more verdicts, on disk."""
        known = len(self.rows)
        for number in range(known + 1, known + count + 1):
            self.outbox.commit(verdict(number, **fields))
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.rows) >= known + count, 30)
        return self.rows[known:]

    def trim(self, upto):
        """Retention took all up to this one."""
        self.outbox._entries.put(Trim(upto))
        self.wait(lambda: self.outbox.oldest() == upto + 1)

    def wait(self, condition):
        give_up_ns = clock.now_ns() + 10_000 * MS
        while not condition():
            assert clock.now_ns() < give_up_ns
            threading.Event().wait(0.005)


class Core(LogSide):
    """Core's side of the line to one delivery process."""

    peaceful = (0, -signal.SIGKILL, -signal.SIGABRT)

    def __init__(
        self, written, endpoint, env=(), command=("-m", "edge_inspector.delivery"), **config
    ):
        self.endpoint = endpoint
        values = {"station": "st1", "endpoint": endpoint, "store": str(written.folder), **config}
        gauge_fd = gauge.create()
        self.gauge = Gauge(gauge_fd, writable=True)
        text = msgspec.json.encode(DeliveryConfig(**values)).decode()
        super().__init__(written, command, text, env, gauge=gauge_fd)
        os.close(gauge_fd)
        self.started = self.message(Ready, Failed)


class Controller:
    """A consumer by hand: it acknowledges when it is told to."""

    def __init__(self, context, endpoint, consumer="plc", identity=None):
        self.consumer = consumer
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        if identity is not None:
            self.socket.routing_id = identity
        self.socket.rcvhwm = 0
        self.socket.connect(endpoint)
        self.live, self.history, self.again = [], [], []
        self.said = []
        self.live_ns = {}

    def say(self, kind, metadata, **fields):
        self.socket.send_multipart(assured.build(metadata, Header(type=kind, **fields)))

    def beat(self):
        self.say(Type.HEARTBEAT, Heartbeat())

    def ack(self, upto, live_upto=0):
        self.say(Type.ACK, Ack(upto, live_upto))

    def subscribe(self, start=0, lanes=2, stations=()):
        """What the daemon answers to SUBSCRIBE."""
        request = Subscribe(
            consumer=self.consumer, start=start, lanes=lanes, stations=list(stations)
        )
        self.say(Type.SUBSCRIBE, request)
        return self.hear("Subscribed", "Nack")

    def take(self, timeout_ms=0):
        """One message, sorted to where it belongs; None when there is none."""
        if not self.socket.poll(timeout_ms):
            return None
        message = assured.split(self.socket.recv_multipart())
        if message.header.type != Type.VERDICT:
            self.said.append(assured.read(message))
            return self.said[-1]
        flags = message.header.flags
        lane = self.again if flags & REPLAY else self.history if flags & HISTORICAL else self.live
        lane.append(message)
        if lane is self.live:
            self.live_ns[message.header.seq] = clock.now_ns()
        return message

    def hear(self, *names, timeout_ms=5000):
        """The next message of these kinds that is no verdict."""
        give_up_ns = clock.now_ns() + timeout_ms * MS
        while (left_ms := (give_up_ns - clock.now_ns()) // MS) > 0:
            said = self.take(left_ms)
            if type(said).__name__ in names:
                return said
        raise TimeoutError(f"no {names} within {timeout_ms} ms")

    def until(self, condition, timeout_ms=5000):
        """Take messages until this holds, with a heartbeat now and then as a consumer sends it."""
        give_up_ns = clock.now_ns() + timeout_ms * MS
        beat_ns = 0
        while not condition():
            now_ns = clock.now_ns()
            assert now_ns < give_up_ns, f"not within {timeout_ms} ms"
            if now_ns - beat_ns > 100 * MS:
                beat_ns = now_ns
                self.beat()
            self.take(20)

    def rest(self, quiet_ms=150):
        """Take all that comes until nothing comes for this long."""
        self.beat()
        while self.take(quiet_ms) is not None:
            pass

    @property
    def heartbeats(self):
        return [said for said in self.said if isinstance(said, Heartbeat)]

    def numbers(self, lane):
        """Of the verdicts that came in `live`, `history` or `again`, in the order they came."""
        return [message.header.seq for message in getattr(self, lane)]

    def close(self):
        self.socket.close()


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store")
    yield store
    store.outbox.close()


@pytest.fixture
def endpoint(tmp_path):
    return f"ipc://{tmp_path}/verdicts"


@pytest.fixture
def start_delivery(store, endpoint):
    """Starts a delivery process over the store; it must leave in peace at the end."""
    with ExitStack() as stack:

        def start(**config):
            core = Core(store, **{"endpoint": endpoint, **config})
            stack.callback(core.close)
            return core

        yield start


@pytest.fixture
def core(start_delivery):
    return start_delivery()


@pytest.fixture
def connect(endpoint):
    """Connects a controller of this name."""
    context = zmq.Context()
    opened = []

    def connect(consumer="plc", identity=None):
        opened.append(Controller(context, endpoint, consumer, identity))
        return opened[-1]

    yield connect
    for controller in opened:
        controller.close()
    context.destroy(linger=0)


@pytest.fixture
def reception(store, endpoint):
    """What stands behind the door, without a process around it."""
    context = zmq.Context()
    log = Log(store.folder)
    store.commit(5)
    rows = Rows(log, ())
    counters: Counter[str] = Counter()
    consumers = Consumers(Door(context, endpoint), counters)
    yield Reception("st1", (), rows, consumers, counters, lambda _: None)
    log.close()
    context.destroy(linger=0)
