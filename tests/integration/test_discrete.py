"""A station whose gate is a relay: what passes opens it, what fails does not, what is dead moves nothing."""

import threading

import pytest

pytest.importorskip("pymodbus", reason="the discrete sink is not tested: pymodbus is missing")

from edge_inspector import clock
from edge_inspector.client import FrameSource
from tests.gateways.test_discrete import PASS, WATCHDOG, Board
from tests.integration.conftest import BAD, GOOD
from tests.integration.test_assured_faults import until

DELAY_MS, WINDOW_MS = 900.0, 100.0


@pytest.fixture
def board():
    board = Board()
    yield board
    board.close()


@pytest.fixture
def bench(open_bench, board):
    relays = {
        "type": "discrete",
        "host": "127.0.0.1",
        "port": board.port,
        "device": 7,
        "pass_coil": PASS,
        "watchdog_coil": WATCHDOG,
        "delay_ms": DELAY_MS,
        "window_ms": WINDOW_MS,
    }
    return open_bench(source="assured", sinks=[relays], recipe={"latency_budget_ms": 800.0})


def test_the_relay_opens_for_the_good_parts_only(bench, board):
    with FrameSource(bench.frames, name="line") as source:
        until(lambda: source.link and board.of(WATCHDOG))
        good = {}
        for trigger_id in range(1, 13):
            shown = BAD if trigger_id % 3 == 0 else GOOD
            if shown is GOOD:
                good[trigger_id] = clock.now_ns()
            source.offer(shown, trigger_id=trigger_id)
            threading.Event().wait(0.15)
        assert source.wait_all(timeout_ms=10_000)
    threading.Event().wait(1.2)
    opened = [at_ns for at_ns, value in board.of(PASS) if value]
    due = [at_ns + DELAY_MS * 1e6 for at_ns in good.values()]
    assert len(opened) == len(due) == 8
    off_ms = [(at - wanted) / 1e6 for at, wanted in zip(opened, due, strict=True)]
    assert min(off_ms) > -10, off_ms  # time zero is known to a round trip
    assert max(off_ms) < WINDOW_MS, off_ms
    assert not board.coils[PASS]


def test_a_killed_core_leaves_the_gate_shut_and_the_watchdog_still(bench, board):
    with FrameSource(bench.frames, name="line") as source:
        until(lambda: source.link and len(board.of(WATCHDOG)) > 5)
        source.offer(GOOD, trigger_id=1)
        until(lambda: board.coils[PASS])
        bench.station.kill()
        killed_ns = clock.now_ns()
        until(lambda: not board.coils[PASS], seconds=1.0)
        threading.Event().wait(0.8)
    assert board.of(WATCHDOG)[-1][0] < killed_ns + 400e6
