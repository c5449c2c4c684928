"""G30: core, worker, store, ingest or gateway stopped; the controller sees it and rejects in time."""

import signal
import sqlite3
import threading
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

pytest.importorskip("pymodbus", reason="the Modbus gateway is not tested: pymodbus is missing")

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException

from bench import bench_offbyone
from bench.bench_offbyone import station_settings
from edge_inspector import clock
from edge_inspector.outbox.log import NAME
from edge_inspector.simulator.plc import PlcLogic
from edge_inspector.studies.harness import Station
from edge_inspector.wire.registers import Status
from tests.integration.line import child

pytestmark = [pytest.mark.fault, pytest.mark.slow]
ROUNDS = 6
FROZEN_MS = 200
REJECTS_MS = 300
POLL_S = 0.005
SLACK_MS = 30
"""A reading takes its time, and so does the answer that shows the last change."""


class Watcher:
    """Polls the gateway and keeps when the toggle last changed and the logic last trusted it."""

    def __init__(self, port):
        self.client = ModbusTcpClient("127.0.0.1", port=port, timeout=0.1, retries=0)
        self.logic = PlcLogic(1)
        self.toggle: int | None = None
        self.changed_ns = self.trusted_ns = self.last_ns = clock.now_ns()
        self.status = Status(0)

    def poll(self):
        block = None
        try:
            if self.client.connected or self.client.connect():
                answer = self.client.read_input_registers(0, count=20)
                block = None if answer.isError() else answer.registers
        except (ModbusException, OSError):
            self.client.close()
        now_ns = clock.now_ns()
        elapsed_ms = (now_ns - self.last_ns) // clock.NS_PER_MS
        self.last_ns += elapsed_ms * clock.NS_PER_MS
        self.logic.scan(block, elapsed_ms)
        self.status = Status(block[1]) if block else Status(0)
        if block and block[1] >> 15 != self.toggle:
            self.toggle, self.changed_ns = block[1] >> 15, now_ns
        if self.logic.healthy:
            self.trusted_ns = now_ns
        threading.Event().wait(POLL_S)

    def until_ready(self, seconds=20):
        give_up_ns = clock.now_ns() + int(seconds * 1e9)
        while not (self.logic.healthy and self.status & Status.READY):
            assert clock.now_ns() < give_up_ns
            self.poll()

    def watch(self, seconds):
        """Milliseconds from now until the last change of the toggle, and until it was trusted."""
        begun_ns = clock.now_ns()
        while clock.now_ns() < begun_ns + seconds * 1e9:
            self.poll()
        return (
            (self.changed_ns - begun_ns) / clock.NS_PER_MS,
            (self.trusted_ns - begun_ns) / clock.NS_PER_MS,
        )


@contextmanager
def stopped(pid):
    process = psutil.Process(pid)
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@contextmanager
def locked(store):
    """The log is held by another writer, so that no commit gets through."""
    db = sqlite3.connect(store / NAME, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        db.execute("ROLLBACK")
        db.close()


@pytest.fixture
def station(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(bench_offbyone.__file__).parent))
    settings = station_settings(tmp_path / "station")
    with Station(tmp_path / "station", settings) as running:
        running.port = settings["sinks"][0]["port"]  # type: ignore[attr-defined]
        yield running


def process_of(station, victim):
    if victim == "core":
        return station.pid
    found = child(station.pid, f"edge_inspector.{victim}")
    assert found is not None
    return found.pid


@pytest.mark.timeout(120)
@pytest.mark.parametrize("victim", ["core", "worker", "ingest", "gateways.modbus"])
def test_a_process_that_stands_still_is_seen_in_200_ms_and_rejected_after_300(station, victim):
    watcher = Watcher(station.port)
    frozen, trusted = [], []
    for number in range(ROUNDS):
        watcher.until_ready()
        watcher.watch(0.013 * number)
        with stopped(process_of(station, victim)):
            last_ms, trusted_ms = watcher.watch(0.7)
            status = watcher.status
        frozen.append(last_ms)
        trusted.append(trusted_ms)
        assert not status & Status.READY
    watcher.client.close()
    print(f"{victim}: frozen after {max(frozen):.0f} ms, rejects after {max(trusted):.0f} ms")
    assert max(frozen) <= FROZEN_MS + SLACK_MS
    assert max(trusted) <= FROZEN_MS + REJECTS_MS + SLACK_MS


@pytest.mark.timeout(60)
def test_a_store_that_cannot_commit_is_seen_in_200_ms(station):
    watcher = Watcher(station.port)
    watcher.until_ready()
    with locked(station.path.parent / "state"):
        watcher.client.write_registers(0, [1, 0, 5, 0, 0, 0])  # a new run has to be written
        last_ms, trusted_ms = watcher.watch(0.7)
        assert not watcher.status & Status.READY
    watcher.client.close()
    print(f"store: frozen after {last_ms:.0f} ms, rejects after {trusted_ms:.0f} ms")
    assert last_ms <= FROZEN_MS + SLACK_MS
    assert trusted_ms <= FROZEN_MS + REJECTS_MS + SLACK_MS


@pytest.mark.timeout(60)
def test_a_killed_core_is_not_trusted_any_more_after_300_ms(station):
    watcher = Watcher(station.port)
    watcher.until_ready()
    station.kill()
    _, trusted_ms = watcher.watch(0.7)
    watcher.client.close()
    assert trusted_ms <= REJECTS_MS + SLACK_MS
    assert not watcher.logic.healthy
