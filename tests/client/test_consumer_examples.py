"""The examples in the docstrings of the line controller run as they stand, against a pretended delivery."""

from __future__ import annotations

import ast
import asyncio
import inspect
import textwrap
import threading

import pytest

from edge_inspector import clock
from edge_inspector.client import AsyncVerdictConsumer, VerdictConsumer
from edge_inspector.errors import Breakage
from edge_inspector.records import Outcome
from edge_inspector.wire.assured import Bye, NewRun

TRIGGER = 1001


class GateOpened(Exception):
    """Leaves the endless loop of an example."""


def wait_until(condition):
    give_up_ns = clock.now_ns() + 5_000_000_000
    while not condition():
        assert clock.now_ns() < give_up_ns, "waited in vain"
        threading.Event().wait(0.005)


def example(kind, endpoint):
    """The indented block of a docstring, with the endpoint of the test."""
    _, _, rest = inspect.cleandoc(kind.__doc__).partition("\n    ")
    block = textwrap.dedent("    " + rest.partition("\n\n")[0])
    assert "tcp://127.0.0.1:5571" in block
    return block.replace("tcp://127.0.0.1:5571", endpoint)


def names(calls):
    def open_gate():
        calls.append("open")
        raise GateOpened

    return {
        "VerdictConsumer": VerdictConsumer,
        "AsyncVerdictConsumer": AsyncVerdictConsumer,
        "part_at_the_gate": lambda: TRIGGER,
        "open_gate": open_gate,
    }


def test_the_threaded_example_opens_the_gate_for_its_part_only(delivery):
    calls: list[str] = []
    for facts in ({"outcome": Outcome.FAIL}, {"trigger_id": TRIGGER - 1}):
        delivery.commit(send=False, **facts)
    commit_when_asked(delivery)
    with pytest.raises(GateOpened):
        exec(example(VerdictConsumer, delivery.endpoint), names(calls))
    assert calls == ["open"]


def test_the_asyncio_example_opens_the_gate_for_its_part_only(delivery):
    calls: list[str] = []
    commit_when_asked(delivery)
    code = compile(
        example(AsyncVerdictConsumer, delivery.endpoint),
        "example",
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
    )
    with pytest.raises(GateOpened):
        asyncio.run(eval(code, names(calls)))
    assert calls == ["open"]


def commit_when_asked(delivery):
    """A pass of the part at the gate, live behind what was there before, once there is a peer."""
    subscribe = delivery._subscribe

    def answered(start):
        subscribe(start)
        delivery.commit(trigger_id=TRIGGER)

    delivery._subscribe = answered


async def test_asyncio_hears_all_and_holds_what_it_came_back_for(delivery):
    for _ in range(100):
        delivery.commit(send=False)
    async with AsyncVerdictConsumer(delivery.endpoint, consumer="gate") as verdicts:
        got = []
        async for delivered in verdicts:
            got.append(delivered.vseq)
            if len(got) == 100:
                break
        assert await verdicts.receive(timeout_ms=50) is None
    assert got == list(range(1, 101))
    await asyncio.to_thread(wait_until, lambda: delivery.heard(Bye))
    assert delivery.acked == 100


async def test_asyncio_takes_what_waiting_would_have_lost(delivery):
    """A cancelled wait takes nothing with it."""
    async with AsyncVerdictConsumer(delivery.endpoint, consumer="gate") as verdicts:
        waiting = asyncio.create_task(verdicts.receive())
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.to_thread(wait_until, lambda: verdicts.sync.connected)
        delivery.commit()
        delivered = await verdicts.receive(2000)
        assert delivered is not None
        assert delivered.vseq == 1


async def test_asyncio_asks_for_a_new_run_without_stopping_the_loop(delivery):
    async with AsyncVerdictConsumer(delivery.endpoint, consumer="gate", station="st1") as verdicts:
        assert await verdicts.new_run() == 2
        assert delivery.heard(NewRun) == [NewRun("st1")]
    with pytest.raises(Breakage, match="closed"):
        await verdicts.new_run()


async def test_what_an_error_interrupts_is_not_held_by_asyncio_either(delivery):
    delivery.commit(send=False)

    async def crash():
        async with AsyncVerdictConsumer(delivery.endpoint, consumer="gate") as verdicts:
            assert await verdicts.receive(2000) is not None
            raise LookupError

    with pytest.raises(LookupError):
        await crash()
    await asyncio.to_thread(wait_until, lambda: delivery.heard(Bye))
    assert delivery.acked == 0
