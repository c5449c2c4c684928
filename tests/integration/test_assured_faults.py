"""The ASSURED tier beside a full disk, consumers that do not do their part, and a new run."""

import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from pathlib import Path

import apsw
import psutil
import pytest
import zmq

from edge_inspector import clock
from edge_inspector.client import FrameSource, Settlement
from edge_inspector.daemon import EXIT_STORE_FAULT
from edge_inspector.delivery.lanes import HISTORY_WINDOW, LIVE_WINDOW
from edge_inspector.outbox import Log
from edge_inspector.outbox.log import NAME
from edge_inspector.studies.harness import Station
from edge_inspector.wire import assured
from edge_inspector.wire.assured import Heartbeat, Nack, Replay, Subscribe
from edge_inspector.wire.codes import Flag, Type, Why
from edge_inspector.wire.header import Header, pack
from tests.delivery.test_bad_input import BROKEN, of_version
from tests.integration.conftest import GOOD
from tests.integration.crippled import Crippled
from tests.integration.line import (
    Controller,
    accepted_unjudged,
    check_heard,
    check_log,
    check_offered,
    child,
    code,
)
from tests.integration.test_assured_load import controller as controller_apart
from tests.integration.test_assured_load import write_past
from tests.integration.test_faults import fill, small_disk, until_exited
from tests.integration.test_network_faults import Offering

pytestmark = pytest.mark.fault

__all__ = ["small_disk"]

STATION = {
    "source": "assured",
    "recipe": {"max_queue": 64, "latency_budget_ms": 1500.0},
    "frames": {"max_bytes": 64 * 1024, "slots": 80},
    "archive": None,
}
SILENT_S = 0.4
GROWTH = 64 * 2**20
PAST = 5000
RATE_HZ = 100
MEASURED_S = 10
HOSTILE = 1000
SEED = 11
RUNS = 3
MARGIN_S = 0.15
"""From the last frame of a run to NEW_RUN: one that is offered again seems younger by its way."""
ASKED_S = 0.06
"""By then NEW_RUN is with core, which may still be writing; and so long until the first frame."""
REPLAYS, REPLAY = 16, 4096


@pytest.fixture
def line(open_bench):
    """Starts a station with a source and a controller at work; what they recorded is theirs."""
    with contextlib.ExitStack() as stack:

        def start(past=0, **changes):
            bench = open_bench(**STATION | changes)
            if past:
                assert bench.station.stop() == 0
                write_past(bench.folder / "state", past)
                bench.station.start()
            offering = Offering(bench.frames, RATE_HZ)
            controller = Controller(bench.gate, station="test")
            stack.callback(controller.close)
            stack.callback(offering.source.close, 0)
            stack.callback(offering.stopping.set)
            controller.start()
            offering.start()
            until(lambda: len(controller.heard) > 10)
            return bench, offering, controller

        yield start


def until(done, seconds=10.0):
    give_up_ns = clock.now_ns() + int(seconds * 1e9)
    while not done():
        assert clock.now_ns() < give_up_ns
        threading.Event().wait(0.005)


def finish(bench, offering, controller, folder=None):
    """The line comes to rest; its log, held against what the clients recorded."""
    folder = folder or bench.folder
    offering.stopping.set()
    offering.join()
    assert offering.source.wait_all(timeout_ms=10_000)
    head = Log(folder / "state").head()
    assert controller.until(head) == head, controller.consumer.problem
    assert bench.station.stop() == 0
    rows = check_log(folder)
    print(f"offered {len(offering.offered)}, verdicts {len(rows)}, heard {len(controller.heard)}, "
          f"acted {len(controller.acted)}; {Counter(code(row.verdict) for row in rows)}")  # fmt: skip
    assert check_offered(rows, offering.offered, offering.records()) == []
    check_heard(rows, controller)
    assert accepted_unjudged(folder) == 0
    return rows


class Watch(threading.Thread):
    """What the controller believes of the station: each change, and when."""

    def __init__(self, consumer):
        super().__init__(daemon=True)
        self.consumer = consumer
        self.states = [(0, consumer.state)]
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.wait(0.005):
            state = self.consumer.state
            if state != self.states[-1][1]:
                self.states.append((clock.now_ns(), state))


def hold_the_log(folder):
    """A reader that does not let go: what is written is not folded in, and the disk fills soon."""
    reader = apsw.Connection(str(folder / NAME), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM verdict").get is not None
    return reader


def test_a_full_disk_stops_the_line_and_loses_nothing(small_disk, line):
    bench, offering, controller = line(store=str(small_disk / "state"))
    reader, filler = hold_the_log(small_disk / "state"), fill(small_disk)
    watch = Watch(controller.consumer)
    watch.start()
    until_exited(bench, seconds=30)
    exited_ns = clock.now_ns()
    until(lambda: controller.consumer.state is None)
    silent_s = (clock.now_ns() - exited_ns) / 1e9
    last_ns = controller.heard[-1].received_ns
    quiet_s = next(at for at, state in watch.states if at > last_ns and state != "ready") - last_ns
    print(f"silent {silent_s:.3f} s after the exit; since the last verdict:",
          [(round((at - last_ns) / 1e6), state) for at, state in watch.states[1:]])  # fmt: skip
    assert bench.station.stop() == EXIT_STORE_FAULT
    assert "full; free space on its disk" in bench.log()
    assert silent_s < SILENT_S
    assert quiet_s < SILENT_S * 1e9
    acted = len(controller.acted)
    reader.close()
    filler.unlink()
    threading.Event().wait(0.5)
    assert len(controller.acted) == acted
    bench.station.start()
    until(lambda: len(controller.acted) > acted + 20)
    watch.stopping.set()
    rows = finish(bench, offering, controller, small_disk)
    assert len(rows) > 100


class Memory(threading.Thread):
    """How much more memory than at first core and delivery hold, at most."""

    def __init__(self, bench):
        super().__init__(daemon=True)
        delivery = child(bench.station.pid, "edge_inspector.delivery")
        assert delivery is not None
        self.processes = {"core": psutil.Process(bench.station.pid), "delivery": delivery}
        self.first = self.held()
        self.grown = dict.fromkeys(self.processes, 0)
        self.stopping = threading.Event()

    def held(self):
        return {name: process.memory_info().rss for name, process in self.processes.items()}

    def run(self):
        while not self.stopping.wait(0.05):
            for name, rss in self.held().items():
                self.grown[name] = max(self.grown[name], rss - self.first[name])

    def check(self):
        """Both are the processes that they were, and hardly larger."""
        self.stopping.set()
        self.join()
        print("grown by MiB:", {name: round(n / 2**20, 1) for name, n in self.grown.items()})
        assert all(process.is_running() for process in self.processes.values())
        assert max(self.grown.values()) <= GROWTH


class Lazy(threading.Thread):
    """A consumer that lives and takes everything from the first on, but acknowledges nothing."""

    reads = True

    def __init__(self, endpoint, context):
        super().__init__(daemon=True)
        self.heard: Counter[str] = Counter()
        self.stopping = threading.Event()
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        if not self.reads:
            self.socket.setsockopt(zmq.RCVHWM, 1)
        self.socket.connect(endpoint)

    def run(self):
        self.say(Type.SUBSCRIBE, Subscribe(consumer=type(self).__name__, start=1))
        self.ask()
        while not self.stopping.wait(0.1):
            self.say(Type.HEARTBEAT, Heartbeat())
            if self.reads:
                self.take()
        self.take()
        self.socket.close()

    def ask(self):
        """Nothing more."""

    def say(self, kind, metadata):
        self.socket.send_multipart(assured.build(metadata, Header(type=kind)), zmq.NOBLOCK)

    def take(self):
        while self.socket.poll(0 if self.reads else 50):
            header = assured.split(self.socket.recv_multipart()).header
            flags = Flag(header.flags)
            name = "again" if flags & Flag.REPLAY else "past" if flags else "live"
            self.heard[name if header.type == Type.VERDICT else Type(header.type).name] += 1


class Deaf(Lazy):
    """A consumer that asks for all there is, again and again, and never reads its socket."""

    reads = False

    def ask(self):
        for _ in range(REPLAYS):
            self.say(Type.REPLAY, Replay(1, REPLAY))


def test_consumers_that_do_not_ack_or_read_hurt_only_themselves(line):
    bench, offering, controller = line(past=PAST)
    memory = Memory(bench)
    memory.start()
    alone = controller_apart(bench, "alone", "live", 0, MEASURED_S / 2)
    with zmq.Context() as context:
        lazy, deaf = Lazy(bench.gate, context), Deaf(bench.gate, context)
        lazy.start()
        deaf.start()
        beside = controller_apart(bench, "beside", "live", 0, MEASURED_S)
        for one in (lazy, deaf):
            one.stopping.set()
            one.join()
    memory.check()
    ratio = beside["p99_ms"] / alone["p99_ms"]
    print(f"alone {alone}, beside {beside}, p99 ratio {ratio:.2f}; "
          f"without ACK {dict(lazy.heard)}, deaf {dict(deaf.heard)}")  # fmt: skip
    finish(bench, offering, controller)
    assert alone["live_in_order"]
    assert beside["live_in_order"]
    assert beside["live"] > 0.9 * RATE_HZ * (MEASURED_S - 1)
    assert beside["p50_ms"] <= 1.5 * alone["p50_ms"]
    assert lazy.heard["past"] == HISTORY_WINDOW
    assert 0 < lazy.heard["live"] <= LIVE_WINDOW
    assert 0 < deaf.heard["again"] < REPLAYS * REPLAY


def cut(peer, parts):
    """True when the connection ends over this message."""
    monitor = peer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    peer.send_multipart(parts)
    came = monitor.poll(2000)
    peer.disable_monitor()
    monitor.close()
    return bool(came)


def refused(peer, parts):
    """True when it is answered with a NACK."""
    peer.send_multipart(parts)
    if not peer.poll(2000):
        return False
    said = assured.read(assured.split(peer.recv_multipart()))
    return isinstance(said, Nack) and said.why in (Why.BAD_HEADER, Why.VERSION)


def announces_a_gigabyte(port):
    """True when a peer that says how much will come, and then nothing, is cut (ZMTP 3.1, NULL)."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as peer:
        peer.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32))
        ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
        peer.sendall(bytes([4, len(ready)]) + ready)
        said = b""
        while b"READY" not in said:
            said += peer.recv(256)
        with contextlib.suppress(ConnectionResetError):
            peer.sendall(struct.pack(">BQ", 2, 2**30))
            while peer.recv(256):
                pass
        return True


def attack(endpoint, chance):
    """Hostile messages, ten on each connection, the last one too large; how many of each kind."""
    wrong = {**BROKEN, "version": [of_version(2)], "garbage": [chance.randbytes(500)]}
    large = [pack(Header(type=Type.ACK, meta_len=65_537)), bytes(65_537)]
    done: Counter[str] = Counter()
    with zmq.Context() as context:
        while sum(done.values()) < HOSTILE:
            with context.socket(zmq.DEALER) as peer:
                peer.setsockopt(zmq.LINGER, 0)
                peer.connect(endpoint)
                for name in chance.choices(list(wrong), k=9):
                    done[name] += refused(peer, wrong[name])
                done["too large"] += cut(peer, large)
    port = int(endpoint.rpartition(":")[2])
    done["announced"] = sum(announces_a_gigabyte(port) for _ in range(20))
    return done


def test_a_thousand_hostile_messages_reach_nobody_else(line):
    bench, offering, controller = line()
    memory = Memory(bench)
    memory.start()
    begun_ns, first = clock.now_ns(), len(controller.heard)
    done = attack(bench.gate, random.Random(SEED))
    seconds = (clock.now_ns() - begun_ns) / 1e9
    heard = len(controller.heard) - first
    memory.check()
    print(f"seed {SEED}: {dict(done)} in {seconds:.1f} s, {heard} verdicts heard meanwhile")
    finish(bench, offering, controller)
    assert sum(done.values()) == HOSTILE + 20
    assert heard > 0.5 * RATE_HZ * seconds
    assert len(done) == len(BROKEN) + 4
    assert '"listener_lost"' not in bench.log()
    assert controller.consumer.counts.subscriptions == 1


class Counted:
    """A source whose parts are counted from 1 in each run; which run each frame was captured in."""

    def __init__(self, endpoint):
        self.settled: dict[int, Settlement] = {}
        self.captured: dict[int, tuple[int, int]] = {}
        self.source = FrameSource(endpoint, name="line", budget_ms=1500, on_settled=self.on_settled)

    def on_settled(self, one):
        assert one.seq not in self.settled
        self.settled[one.seq] = one

    def offer(self, run, trigger_id, **age):
        seq = self.source.offer(GOOD, trigger_id=trigger_id, **age)
        self.captured[seq] = (run, trigger_id)


def begin_run(consumer, counted, run):
    """NEW_RUN; what is captured behind it is of the new run, also while that is being written."""
    asking = threading.Thread(target=consumer.new_run)
    asking.start()
    threading.Event().wait(ASKED_S)
    while asking.is_alive():
        counted.offer(run + 1, 100 + len(counted.captured))
        asking.join(0.005)


@pytest.mark.parametrize("kind", [Station, Crippled])
def test_a_new_run_and_a_kill_leave_each_frame_in_its_run(open_bench, monkeypatch, kind):
    """A part counter starts again while units are in flight, on a quick and on a slow disk."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    bench = open_bench(**STATION, kind=kind, workers={"backends": ["slow_backend:Slow"]})
    controller = Controller(bench.gate, station="test")
    controller.start()
    counted = Counted(bench.frames)
    in_flight = []
    for run in range(RUNS):
        until(lambda: controller.consumer.state == "ready" and counted.source.link)
        for trigger_id in range(31, 87):
            counted.offer(run, trigger_id)
        captured_ns = clock.now_ns()
        threading.Event().wait(MARGIN_S)
        in_flight.append(counted.source.unsettled)
        begin_run(controller.consumer, counted, run)
        counted.offer(run, 87, age_ms=(clock.now_ns() - captured_ns) / 1e6)
        for trigger_id in range(1, 31):
            counted.offer(run + 1, trigger_id)
        threading.Event().wait(0.05)
        in_flight.append(counted.source.unsettled)
        bench.station.kill()
        bench.station.start()
        assert counted.source.wait_all(timeout_ms=10_000)
    head = Log(bench.folder / "state").head()
    assert controller.until(head) == head, controller.consumer.problem
    controller.close()
    counted.source.close()
    assert bench.station.stop() == 0
    rows = check_log(bench.folder)
    print(f"in flight at NEW_RUN and at the kill {in_flight}, frames {len(counted.captured)}, "
          f"{Counter((row.verdict.run, code(row.verdict)) for row in rows)}")  # fmt: skip
    assert min(in_flight) > 0
    check_runs(rows, counted)
    check_heard(rows, controller)


def check_runs(rows, counted):
    """Each frame has one verdict, that of its part in the run that it was captured in."""
    found = {(row.verdict.run, row.verdict.trigger_id): row for row in rows}
    offered = set(counted.captured.values())
    assert (set(found) - offered, offered - set(found)) == (set(), set())
    assert len(found) == len(rows) == len(counted.captured)
    for seq, part in counted.captured.items():
        assert counted.settled[seq].vseq in (None, found[part].vseq)
