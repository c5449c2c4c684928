"""
Kill -9 of core, worker and ingest under load: nothing that was accepted is lost or contradicted.

A request-mode publisher gets `OK` once the accept row is on disk; that is the acknowledged list.
"""

import random
import threading

import pytest

from edge_inspector import clock
from edge_inspector.client import Listener, Publisher
from edge_inspector.errors import Breakage
from edge_inspector.outbox.log import Log
from edge_inspector.records import Committed, Outcome
from tests.integration.conftest import BAD, GOOD

KILLS = 30
SEED = 20261121


class Source(threading.Thread):
    """Offers units one after another, each until somebody took it; keeps what was acknowledged."""

    def __init__(self, endpoint, prefix="u"):
        super().__init__(daemon=True)
        self.endpoint = endpoint
        self.prefix = prefix
        self.acknowledged = {}
        self.offered = 0
        self.stopping = threading.Event()

    def run(self):
        number = 0
        while not self.stopping.is_set():
            try:
                with Publisher(self.endpoint, "req", timeout_ms=400) as line:
                    while not self.stopping.is_set():
                        bad = number % 5 == 0
                        unit = f"{self.prefix}{number}"
                        answer = line.send(BAD if bad else GOOD, unit_id=unit)
                        self.offered += 1
                        if answer == "OK":
                            self.acknowledged[unit] = bad
                        number += 1
            except Breakage:
                continue


class Hearer(threading.Thread):
    """Keeps every verdict that was published, across restarts of the daemon."""

    def __init__(self, endpoint):
        super().__init__(daemon=True)
        self.endpoint = endpoint
        self.notes = []
        self.stopping = threading.Event()

    def run(self):
        with Listener(self.endpoint) as listener:
            while not self.stopping.is_set():
                note = listener.receive(timeout_ms=50)
                if note is not None:
                    self.notes.append(note)


def child(pid, module):
    import psutil

    for process in psutil.Process(pid).children():
        if module in " ".join(process.cmdline()):
            return process
    return None


def strike(bench, victim):
    """True when the victim was there and was killed."""
    if victim == "core":
        bench.station.kill()
        bench.station.start()
        return True
    process = child(bench.station.pid, f"edge_inspector.{victim}")
    if process is None:
        return False
    process.kill()
    return True


@pytest.mark.fault
@pytest.mark.timeout(240)
def test_kill_nine_loses_and_contradicts_nothing(open_bench):
    bench = open_bench(
        source="zmq-rep",
        recipe={"max_queue": 64, "latency_budget_ms": 1500.0},
        frames={"max_bytes": 64 * 1024, "slots": 80},
    )
    chance = random.Random(SEED)
    source, hearer = Source(bench.frames), Hearer(bench.verdicts)
    source.start()
    hearer.start()
    killed = dict.fromkeys(("core", "worker", "ingest"), 0)
    while sum(killed.values()) < KILLS:
        threading.Event().wait(chance.uniform(0.35, 0.75))
        victim = chance.choice(sorted(killed))
        killed[victim] += strike(bench, victim)
    threading.Event().wait(1.0)
    source.stopping.set()
    source.join(timeout=5)
    threading.Event().wait(1.0)
    hearer.stopping.set()
    hearer.join(timeout=5)
    assert bench.station.stop() == 0
    log = Log(bench.folder / "state")
    rows = log.read(1, 10**9)
    by_unit: dict[str, list[Committed]] = {}
    for row in rows:
        by_unit.setdefault(str(row.verdict.unit_id), []).append(row)
    heard = {(note.vseq, note.unit_id, note.outcome) for note in hearer.notes}
    written = {(row.vseq, row.verdict.unit_id, row.verdict.outcome) for row in rows}
    print(f"seed {SEED}: killed {killed}, offered {source.offered}, "
          f"acknowledged {len(source.acknowledged)}, verdicts {len(rows)}, heard {len(heard)}")  # fmt: skip
    assert min(killed.values()) >= 3
    assert len(source.acknowledged) > 100
    assert set(source.acknowledged) <= set(by_unit)
    assert all(len(verdicts) == 1 for verdicts in by_unit.values())
    assert heard <= written
    assert log.verify().problems == ()
    wrong = [
        row.verdict
        for unit, bad in source.acknowledged.items()
        for row in by_unit[unit]
        if row.verdict.outcome is (Outcome.PASS if bad else Outcome.FAIL)
    ]
    assert wrong == []


@pytest.mark.fault
def test_a_lost_worker_costs_rejects_and_is_back_within_five_seconds(bench, listener, publisher):
    publisher.send(GOOD, unit_id="before")
    assert bench.collect(listener, 1)[0].outcome is Outcome.PASS
    core = bench.station.pid
    assert strike(bench, "worker")
    started = clock.now_ns()
    number = 0
    while True:
        number += 1
        publisher.send(GOOD, unit_id=f"during-{number}")
        (note,) = bench.collect(listener, 1)
        if note.outcome is Outcome.PASS:
            break
        assert note.outcome is Outcome.UNINSPECTED
    assert (clock.now_ns() - started) / 1e9 < 5
    assert bench.station.pid == core
