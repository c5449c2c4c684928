"""
Kill -9 of core, ingest, worker, delivery and client under load, over the ASSURED tier (G2).

Judged from the clients' own records: what they offered, what they were told, what the gate heard.
"""

import contextlib
import random
import threading
from collections import Counter

import psutil
import pytest

from edge_inspector import clock
from edge_inspector.errors import Breakage
from edge_inspector.failpoints import NAMES, VARIABLE
from edge_inspector.outbox import Log
from edge_inspector.records import Reason
from tests.integration.conftest import BAD, GOOD
from tests.integration.line import (
    Client,
    Controller,
    accepted_unjudged,
    check_heard,
    check_log,
    check_offered,
    code,
    kill_child,
    write_units,
)

KILLS = 60
SEED = 20261121
RATE_HZ = 30
VICTIMS = ("core", "ingest", "worker", "delivery", "client")
ROUNDS = 3
STRIKE_S = 6.0
RECIPE = {"max_queue": 64, "latency_budget_ms": 1500.0}
FRAMES = {"max_bytes": 64 * 1024, "slots": 80}


@pytest.fixture
def line(open_bench, tmp_path):
    """A station, a client at work and a controller at the gate."""
    bench = open_bench(source="assured", recipe=RECIPE, frames=FRAMES)
    units = write_units(tmp_path / "units", GOOD, BAD)
    client = Client(bench.folder, units, bench.frames, RATE_HZ, budget_ms=1500.0)
    controller = Controller(bench.gate, station="test")
    controller.start()
    yield bench, client, controller
    if client.process is not None:
        client.kill()
    controller.close()


def strike(bench, client, victim):
    """True when the victim was there and was killed."""
    if victim == "core":
        before = Log(bench.folder / "state").head()
        bench.station.kill()
        open_frames = accepted_unjudged(bench.folder)
        bench.station.start()
        log = Log(bench.folder / "state")
        aborted = [
            row for row in log.read(before + 1, 10**6) if row.verdict.reason is Reason.ABORTED
        ]
        assert len(aborted) == open_frames
        return True
    if victim == "client":
        client.kill()
        client.start()
        return True
    return kill_child(bench, victim)


def settle(bench, client, controller):
    """The line comes to rest; its log."""
    assert client.finish() == 0, "the last client did not hear of all its units"
    head = Log(bench.folder / "state").head()
    assert controller.until(head) == head, controller.consumer.problem
    assert bench.station.stop() == 0
    rows = check_log(bench.folder)
    assert accepted_unjudged(bench.folder) == 0
    return rows


def until_settled(client, seconds=30.0):
    give_up_ns = clock.now_ns() + int(seconds * 1e9)
    while not client.settled():
        assert clock.now_ns() < give_up_ns, "no unit was settled"
        threading.Event().wait(0.05)


@pytest.mark.fault
@pytest.mark.timeout(400)
def test_sixty_kills_lose_and_contradict_nothing(line):
    bench, client, controller = line
    chance = random.Random(SEED)
    client.start()
    until_settled(client)  # before it no part is known, so that none can be missed
    killed: Counter[str] = Counter()
    while sum(killed.values()) < KILLS:
        threading.Event().wait(chance.uniform(0.35, 0.75))
        victim = chance.choice(VICTIMS)
        killed[victim] += strike(bench, client, victim)
    rows = settle(bench, client, controller)
    offered, settled = client.offered(), client.settled()
    print(f"seed {SEED}: killed {dict(killed)}, offered {len(offered)}, settled {len(settled)}, "
          f"verdicts {len(rows)}, heard {len(controller.heard)}, acted {len(controller.acted)}; "
          f"{Counter(code(row.verdict) for row in rows)}")  # fmt: skip
    assert min(killed[victim] for victim in VICTIMS) >= 5
    assert len(offered) > 500
    assert check_offered(rows, offered, settled) == []
    check_heard(rows, controller)


def catch_up(client, seconds=30.0):
    """All that waited while the station was down gets its verdict, but what a killed client held."""
    offered = client.offered()
    wanted = set(offered) if client.starts == 1 else {max(offered)}
    give_up_ns = clock.now_ns() + int(seconds * 1e9)
    while not wanted <= {row[0] for row in client.settled()} and clock.now_ns() < give_up_ns:
        threading.Event().wait(0.1)


def losses(bench):
    """How often core lost one of its children, by its own log."""
    return sum(bench.log().count(f'"{child}_lost"') for child in ("ingest", "worker", "listener"))


def ask_for_a_run(controller):
    with contextlib.suppress(Breakage):
        controller.consumer.new_run(timeout_ms=1000)


def run_into(bench, controller, name):
    """True when a station with this failpoint ran into it: core died, or lost a child."""
    before = losses(bench)
    try:
        bench.station.start()
    except Breakage:
        return True
    if name.endswith("_run"):
        ask_for_a_run(controller)
    give_up_ns = clock.now_ns() + int(STRIKE_S * 1e9)
    while clock.now_ns() < give_up_ns:
        if psutil.Process(bench.station.pid).status() == psutil.STATUS_ZOMBIE:
            return True
        if losses(bench) > before:
            return True
        threading.Event().wait(0.02)
    return False


@pytest.mark.fault
@pytest.mark.timeout(600)
def test_every_failpoint_three_times(line, monkeypatch):
    """Each step between two commits is interrupted, under load; the next start recovers."""
    bench, client, controller = line
    chance = random.Random(SEED)
    struck: Counter[str] = Counter()
    client.start()
    for name in NAMES * ROUNDS:
        bench.station.stop()
        count = 1 if name.endswith("_run") else chance.randint(1, 6)
        monkeypatch.setenv(VARIABLE, f"{name}:{count}")
        struck[name] += run_into(bench, controller, name)
    monkeypatch.delenv(VARIABLE)
    bench.station.stop()
    bench.station.start()
    catch_up(client)
    rows = settle(bench, client, controller)
    offered, settled = client.offered(), client.settled()
    print(f"seed {SEED}: struck {sum(struck.values())} of {len(NAMES) * ROUNDS}, "
          f"offered {len(offered)}, settled {len(settled)}, verdicts {len(rows)}; "
          f"{Counter(code(row.verdict) for row in rows)}")  # fmt: skip
    assert {name: struck[name] for name in NAMES if struck[name] != ROUNDS} == {}
    assert check_offered(rows, offered, settled) == []
    check_heard(rows, controller)
