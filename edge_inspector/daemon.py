"""
Core: the asyncio shell around the docket and the outbox. It never holds pixels and never infers.

Events come from children, the store and the clock; `Steps` hands each to the docket and carries out
what the docket answers. Nothing here decides.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Sequence

import structlog

from edge_inspector import clock
from edge_inspector.channel import (
    Alive,
    Arrived,
    Done,
    Failed,
    Grant,
    Message,
    Pulse,
    Ready,
    Recheck,
    Rechecked,
)
from edge_inspector.children import Child, Roster
from edge_inspector.docket import words as d
from edge_inspector.errors import Breakage, Misuse, StoreFault
from edge_inspector.failpoints import passing
from edge_inspector.outlet import Outlet
from edge_inspector.parts import Parts, State
from edge_inspector.pool import Pool
from edge_inspector.records import Committed, FrameKey
from edge_inspector.slots import Ledger
from edge_inspector.steps import Steps

DRAIN_S = 4.0
WATCH_S = 0.05
PULSE_NS = 90_000_000
"""A little less than the 100 ms after which peers expect to hear of core."""
SWITCH_S = 0.0005
"""The writer thread must not wait 5 ms for the loop to let go of the interpreter."""
STATE_NS = 1_000_000_000
EXIT_STORE_FAULT = 74
KNOWN = 1024
"""Newest verdicts of the log whose numbers and pictures are still known after a start."""


class Daemon:
    """One station: children, docket, outbox and sinks, held together by one event loop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._docket = parts.docket
        self._log = structlog.get_logger("edge_inspector")
        self._slots = Ledger(parts.slots, lambda slots: self._ingest.send(Grant(slots)))
        self._outlet = Outlet(
            parts.wants_verdict, parts.metrics, lambda answers: self._ingest.send(answers)
        )
        self._ready = Roster()
        self._names: set[str] = set()
        self._halted: set[str] = set()
        """Workers that pass nothing because a golden sample is judged otherwise."""
        self._stopping = asyncio.Event()
        self._fault: Exception | None = None
        self._toggle = False

    async def run(self) -> int:
        """Serve until a signal or a store fault; the exit status of the process."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        self._loop = loop
        aborted = self._open_log()
        self._pool = Pool(
            [
                self._parts.worker(f"worker-{i}", self._from_worker, self._worker_lost)
                for i in range(self._parts.workers)
            ],
            self._parts.hang_ms,
        )
        loop.add_signal_handler(signal.SIGUSR1, self._pool.tell, Recheck())
        self._ingest = ingest = self._parts.ingest(self._from_ingest, self._ingest_lost)
        parts = self._parts
        listeners = [make(self._from_listener, self._listener_lost) for make in parts.listeners]
        self._listeners = listeners
        self._steps = Steps(
            self._docket,
            parts.outbox,
            self._outlet,
            self._slots,
            self._pool,
            listeners,
            parts.gauge,
            parts.incumbents,
        )
        watch = loop.create_task(self._watch())
        try:
            await self._start(ingest, aborted)
            await self._stopping.wait()
        finally:
            await self._shut_down(ingest)
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        if self._fault is not None:
            raise self._fault
        return 0

    def _open_log(self) -> int:
        outbox = self._parts.outbox
        aborted = outbox.open(on_batch=self._on_batch, on_fault=self._on_fault, on_run=self._on_run)
        self._docket.resume(outbox.runs(), outbox.pictures(KNOWN))
        return aborted

    async def _start(self, ingest: Child, aborted: int) -> None:
        self._pool.start()
        names = self._pool.names
        for listener in self._listeners:
            listener.start()
            names.add(listener.name)
        if not await self._ready.until(names, self._stopping):
            return
        self._outlet.sinks = self._parts.open_sinks()
        ingest.start()
        self._slots.grant()
        names.add(ingest.name)
        if not await self._ready.until(names, self._stopping):
            return
        self._names = names
        gc.collect()
        gc.freeze()
        sys.setswitchinterval(SWITCH_S)
        for row in self._parts.outbox.recovered:
            self._outlet.publish(row)
        self._log.info("ready", aborted=aborted, head_vseq=self._parts.outbox.head())

    async def _shut_down(self, ingest: Child) -> None:
        await ingest.stop(1.0)
        give_up_ns = clock.now_ns() + int(DRAIN_S * 1e9)
        while self._docket.next_due() is not None and clock.now_ns() < give_up_ns:
            if self._fault is not None:
                break
            await asyncio.sleep(0.005)
        await self._pool.stop(1.0)
        self._steps.close()
        await asyncio.to_thread(self._parts.outbox.close)
        await asyncio.sleep(0)
        await asyncio.gather(*(listener.stop(1.0) for listener in self._listeners))
        self._outlet.close()
        self._log.info("latency", stages_ms=self._parts.metrics.stages_ms())
        self._log.info("stopped", head_vseq=self._parts.outbox.head())

    # events in

    def _from_ingest(self, child: Child, message: Message) -> None:
        if isinstance(message, Arrived):
            self._slots.taken(message.head.slot)
            self._outlet.expect(message.head)
            self._steps.step(d.Offered(message.head))
            passing("core.offered")
        else:
            self._from_child(child, message)

    def _from_listener(self, child: Child, message: Message) -> None:
        if isinstance(message, Alive):
            for event, count in message.counters.items():
                self._parts.metrics.delivered(event, count)
        elif not self._steps.asked(message):
            self._from_child(child, message)

    def _from_worker(self, child: Child, message: Message) -> None:
        if not isinstance(message, Done):
            self._from_child(child, message)
        elif self._pool.answered(child, message.head.key):
            self._steps.step(d.Inspected(message.head.key, message.inspection))
            passing("core.inspected")
        if isinstance(message, Ready):
            self._pool.ready(child)
        self._steps.step(d.Capacity(self._pool.room))

    def _from_child(self, child: Child, message: Message) -> None:
        if isinstance(message, Ready):
            self._ready.add(child)
            self._log.info("child_ready", child=child.name, pid=child.pid, detail=message.detail)
        elif isinstance(message, Alive):
            for name, count in message.counters.items():
                self._parts.metrics.dropped(name, count)
        elif isinstance(message, Failed):
            self._log.error("child_failed", child=child.name, detail=message.detail)
            if child.starts == 1:
                kind = Misuse if message.refused else Breakage
                self._stop_with(kind(f"{child.name}: {message.detail}"))
        elif isinstance(message, Rechecked):
            (self._halted.add if message.halted else self._halted.discard)(child.name)
            tell = self._log.error if message.halted else self._log.info
            tell("golden_samples", child=child.name, detail=message.detail, halted=message.halted)

    def _worker_lost(self, child: Child) -> None:
        self._ready.remove(child)
        self._halted.discard(child.name)
        lost = self._pool.lost(child)
        self._log.error("worker_lost", child=child.name, in_hand=len(lost))
        self._steps.step(d.WorkerLost(lost, f"{child.name} died"))
        self._steps.step(d.Capacity(self._pool.room))

    def _ingest_lost(self, child: Child) -> None:
        self._ready.remove(child)
        self._slots.recall()
        self._outlet.forget_tickets()
        self._log.error("ingest_lost", child=child.name)
        asyncio.get_running_loop().call_soon(self._grant_when_started, child)

    def _listener_lost(self, child: Child) -> None:
        self._ready.remove(child)
        self._log.error("listener_lost", child=child.name)

    def _grant_when_started(self, child: Child) -> None:
        if not self._slots.grant() and not self._stopping.is_set():
            self._loop.call_later(0.02, self._grant_when_started, child)

    def _on_batch(
        self,
        journaled: Sequence[tuple[FrameKey, Committed | None, bool]],
        committed: Sequence[Committed],
    ) -> None:
        """From the writer thread: these rows are on disk."""
        self._loop.call_soon_threadsafe(self._steps.stored, journaled, committed)

    def _on_fault(self, fault: StoreFault) -> None:
        """From the writer thread: the store cannot be written any more."""
        self._loop.call_soon_threadsafe(self._stop_with, fault)

    def _on_run(self, run: int) -> None:
        """From the writer thread: this run is on disk."""
        self._loop.call_soon_threadsafe(self._steps.run_began, run)

    def _stop_with(self, fault: Exception) -> None:
        self._fault = self._fault or fault
        self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        self._ready.wake()

    # time

    async def _watch(self) -> None:
        """Say how it is, and end workers whose driver call never returns."""
        said_ns = pulsed_ns = 0
        while True:
            await asyncio.sleep(WATCH_S)
            now = clock.now_ns()
            state = self._state()
            if now - pulsed_ns >= PULSE_NS:
                pulsed_ns = now
                self._beat(state)
            if now - said_ns >= STATE_NS:
                said_ns = now
                self._outlet.publish_state(self._parts.outbox.head(), state)
            self._pool.kill_hung(now, self._tell_hung)

    def _state(self) -> State:
        if self._stopping.is_set():
            return "stopping"
        if not self._names:
            return "starting"
        alarmed = self._parts.alarmed()
        well = self._ready.has(self._names) and not self._halted
        return alarmed if well or alarmed == "fault" else "degraded"

    def _beat(self, state: State) -> None:
        self._toggle ^= bool(self._names) and self._steps.moved(self._ingest)
        outbox = self._parts.outbox
        pulse = Pulse(outbox.head(), outbox.oldest(), state, self._toggle)
        for child in (self._ingest, *self._listeners):
            child.send(pulse)

    def _tell_hung(self, worker: Child) -> None:
        self._log.error("worker_hangs", child=worker.name, pid=worker.pid)
