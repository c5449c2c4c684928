"""Core's children: real processes that are started, heard, lost, and started again."""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager

import pytest

from edge_inspector import clock
from edge_inspector.channel import Alive, Ready
from edge_inspector.children import Child

SCRIPT = """
import os, sys, time
from edge_inspector.channel import Alive, Channel, Ready, Stop
line = Channel.from_fd(int(sys.argv[-1]))
line.send(Ready(sys.argv[1]))
"""
ECHOES = (
    SCRIPT
    + """
while not isinstance(message := line.receive(), (Stop, type(None))):
    line.send(message)
"""
)
EXITS = SCRIPT + "sys.exit(3)"
DEAF = SCRIPT + "time.sleep(60)"
LAST_WORDS = SCRIPT + "line.receive()\nfor n in range(200): line.send(Alive({'n': n}))"
SILENT = "import sys; sys.exit(1)"


class Told:
    """What core heard of its child."""

    def __init__(self):
        self.messages = []
        self.lost_ns = []
        self.pids_at_loss = []

    def message(self, child, message):
        self.messages.append(message)

    def lost(self, child):
        self.lost_ns.append(clock.now_ns())
        self.pids_at_loss.append(child.pid)


@asynccontextmanager
async def running(script):
    told = Told()
    child = Child(
        "echo",
        [sys.executable, "-c", script, "hello"],
        inherit=(),
        environment=dict(os.environ),
        on_message=told.message,
        on_lost=told.lost,
    )
    child.start()
    try:
        yield child, told
    finally:
        await child.stop(2.0)


async def until(condition, seconds=10.0):
    give_up_ns = clock.now_ns() + int(seconds * 1e9)
    while not condition():
        assert clock.now_ns() < give_up_ns, "it did not happen in time"
        await asyncio.sleep(0.005)


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_child_is_heard_and_hears():
    async with running(ECHOES) as (child, told):
        await until(lambda: told.messages)
        assert child.send(Alive({"a": 1}))
        await until(lambda: len(told.messages) == 2)
    assert told.messages == [Ready("hello"), Alive({"a": 1})]
    assert told.lost_ns == []


async def test_a_stopped_child_is_gone_and_stays_away():
    async with running(ECHOES) as (child, told):
        await until(lambda: told.messages)
        pid = child.pid
        await child.stop(2.0)
        await asyncio.sleep(0.1)
        assert gone(pid)
        assert not child.send(Alive())
    assert child.starts == 1


async def test_what_a_child_said_last_is_heard():
    async with running(LAST_WORDS) as (child, told):
        await until(lambda: told.messages)
        await child.stop(2.0)
    assert told.messages[1:] == [Alive({"n": n}) for n in range(200)]


async def test_a_child_that_hears_nothing_is_ended_when_patience_ends():
    async with running(DEAF) as (child, told):
        await until(lambda: told.messages)
        pid, started_ns = child.pid, clock.now_ns()
        await child.stop(0.2)
        assert gone(pid)
        assert 0.2 <= (clock.now_ns() - started_ns) / 1e9 < 2


async def test_a_killed_child_is_reaped_reported_and_started_again():
    async with running(ECHOES) as (child, told):
        await until(lambda: told.messages)
        pid = child.pid
        child.kill()
        await until(lambda: len(told.messages) == 2)
        assert gone(pid)
        assert child.pid != pid
        assert child.starts == 2
        assert told.pids_at_loss == [None]


async def test_a_stopped_process_is_killed_all_the_same():
    async with running(ECHOES) as (child, told):
        await until(lambda: told.messages)
        os.kill(child.pid, signal.SIGSTOP)
        child.kill()
        await until(lambda: len(told.messages) == 2)
        assert len(told.lost_ns) == 1


@pytest.mark.parametrize("script", [EXITS, SILENT])
async def test_a_child_that_keeps_exiting_is_started_with_growing_pauses(script):
    async with running(script) as (child, told):
        await until(lambda: child.starts >= 5)
    pauses_s = [(b - a) / 1e9 for a, b in zip(told.lost_ns, told.lost_ns[1:], strict=False)]
    least_s = [0.05, 0.15, 0.35]
    assert all(took > least for took, least in zip(pauses_s, least_s, strict=False))
    assert child.send(Alive()) is False
    assert len(pauses_s) >= 3


async def test_a_stop_during_the_pause_is_final():
    async with running(EXITS) as (child, told):
        await until(lambda: len(told.lost_ns) >= 3)
        await child.stop(1.0)
        starts = child.starts
        await asyncio.sleep(0.5)
        assert child.starts == starts
