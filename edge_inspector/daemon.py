"""
Core: the asyncio shell around the docket and the outbox. It never holds pixels and never infers.

Events come from children, the store and the clock; `Daemon._step` hands each to the docket and
carries out what the docket answers. Nothing here decides.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from edge_inspector import clock
from edge_inspector.channel import Alive, Answer, Arrived, Done, Failed, Grant, Message, Ready
from edge_inspector.children import Child
from edge_inspector.docket import Docket
from edge_inspector.docket import words as d
from edge_inspector.errors import Breakage, Misuse, StoreFault
from edge_inspector.metrics import Metrics
from edge_inspector.outbox import Outbox
from edge_inspector.outlet import Outlet
from edge_inspector.pool import Pool
from edge_inspector.protocols import Sink
from edge_inspector.records import Committed, FrameKey
from edge_inspector.slots import Ledger

DRAIN_S = 4.0
WATCH_S = 0.05
SWITCH_S = 0.0005
"""The writer thread must not wait 5 ms for the loop to let go of the interpreter."""
STATE_NS = 1_000_000_000
EXIT_STORE_FAULT = 74


@dataclass(frozen=True, slots=True)
class Parts:
    """What `wiring` builds and the daemon runs; commands are without their channel."""

    docket: Docket
    outbox: Outbox
    open_sinks: Callable[[], Sequence[Sink]]
    worker: Callable[[str, Callable[[Child, Message], None], Callable[[Child], None]], Child]
    ingest: Callable[[Callable[[Child, Message], None], Callable[[Child], None]], Child]
    workers: int
    slots: int
    hang_ms: int
    wants_verdict: frozenset[str]
    """Sources whose publishers wait for the verdict instead of an OK."""
    metrics: Metrics


class Daemon:
    """One station: children, docket, outbox and sinks, held together by one event loop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._docket = parts.docket
        self._log = structlog.get_logger("edge_inspector")
        self._slots = Ledger(parts.slots, lambda slots: self._ingest.send(Grant(slots)))
        self._outlet = Outlet(
            parts.wants_verdict,
            parts.metrics,
            lambda ticket, text: self._ingest.send(Answer(ticket, text)),
        )
        self._ready: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due_ns: int | None = None
        self._stopping = asyncio.Event()
        self._fault: Exception | None = None
        self._changed = asyncio.Event()

    async def run(self) -> int:
        """Serve until a signal or a store fault; the exit status of the process."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        self._loop = loop
        aborted = self._parts.outbox.open(on_batch=self._on_batch, on_fault=self._on_fault)
        self._pool = Pool(
            [
                self._parts.worker(f"worker-{i}", self._from_worker, self._worker_lost)
                for i in range(self._parts.workers)
            ],
            self._parts.hang_ms,
        )
        ingest = self._parts.ingest(self._from_ingest, self._ingest_lost)
        self._ingest = ingest
        try:
            await self._start(ingest, aborted)
            watch = loop.create_task(self._watch())
            await self._stopping.wait()
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        finally:
            await self._shut_down(ingest)
        if self._fault is not None:
            raise self._fault
        return 0

    async def _start(self, ingest: Child, aborted: int) -> None:
        self._pool.start()
        if not await self._until_ready(self._pool.names):
            return
        self._outlet.sinks = self._parts.open_sinks()
        ingest.start()
        self._slots.grant()
        if not await self._until_ready({ingest.name}):
            return
        gc.collect()
        gc.freeze()
        sys.setswitchinterval(SWITCH_S)
        for row in self._parts.outbox.recovered:
            self._outlet.publish(row)
        self._log.info("ready", aborted=aborted, head_vseq=self._parts.outbox.head())

    async def _until_ready(self, names: set[str]) -> bool:
        """False when it is told to stop before."""
        while not names <= self._ready and not self._stopping.is_set():
            self._changed.clear()
            await self._changed.wait()
        return not self._stopping.is_set()

    async def _shut_down(self, ingest: Child) -> None:
        await ingest.stop(1.0)
        give_up_ns = clock.now_ns() + int(DRAIN_S * 1e9)
        while self._docket.next_due() is not None and clock.now_ns() < give_up_ns:
            if self._fault is not None:
                break
            await asyncio.sleep(0.005)
        await self._pool.stop(1.0)
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.to_thread(self._parts.outbox.close)
        await asyncio.sleep(0)
        self._outlet.close()
        self._log.info("stopped", head_vseq=self._parts.outbox.head())

    # events in

    def _from_ingest(self, child: Child, message: Message) -> None:
        if isinstance(message, Arrived):
            self._slots.taken(message.head.slot)
            self._outlet.expect(message.head)
            self._step(d.Offered(message.head))
        elif isinstance(message, Alive):
            for name, count in message.counters.items():
                self._parts.metrics.dropped(name, count)
        else:
            self._from_child(child, message)

    def _from_worker(self, child: Child, message: Message) -> None:
        if not isinstance(message, Done):
            self._from_child(child, message)
        elif self._pool.answered(child, message.head.key):
            self._step(d.Inspected(message.head.key, message.inspection))
        if isinstance(message, Ready):
            self._pool.ready(child)
        self._step(d.Capacity(self._pool.room))

    def _from_child(self, child: Child, message: Message) -> None:
        if isinstance(message, Ready):
            self._ready.add(child.name)
            self._changed.set()
            self._log.info("child_ready", child=child.name, pid=child.pid, detail=message.detail)
        elif isinstance(message, Failed):
            self._log.error("child_failed", child=child.name, detail=message.detail)
            if child.starts == 1:
                kind = Misuse if message.refused else Breakage
                self._stop_with(kind(f"{child.name}: {message.detail}"))

    def _worker_lost(self, child: Child) -> None:
        self._ready.discard(child.name)
        lost = self._pool.lost(child)
        self._log.error("worker_lost", child=child.name, in_hand=len(lost))
        self._step(d.WorkerLost(lost, f"{child.name} died"))
        self._step(d.Capacity(self._pool.room))

    def _ingest_lost(self, child: Child) -> None:
        self._ready.discard(child.name)
        self._slots.recall()
        self._outlet.forget_tickets()
        self._log.error("ingest_lost", child=child.name)
        asyncio.get_running_loop().call_soon(self._grant_when_started, child)

    def _grant_when_started(self, child: Child) -> None:
        if not self._slots.grant() and not self._stopping.is_set():
            self._loop.call_later(0.02, self._grant_when_started, child)

    def _on_batch(
        self,
        journaled: Sequence[tuple[FrameKey, Committed | None, bool]],
        committed: Sequence[Committed],
    ) -> None:
        """From the writer thread: these rows are on disk."""
        self._loop.call_soon_threadsafe(self._stored, journaled, committed)

    def _on_fault(self, fault: StoreFault) -> None:
        """From the writer thread: the store cannot be written any more."""
        self._loop.call_soon_threadsafe(self._stop_with, fault)

    def _stored(
        self,
        journaled: Sequence[tuple[FrameKey, Committed | None, bool]],
        committed: Sequence[Committed],
    ) -> None:
        for key, stored, conflict in journaled:
            self._step(d.Journaled(key, stored, conflict))
        for row in committed:
            self._step(d.Settled(row))

    def _stop_with(self, fault: Exception) -> None:
        self._fault = self._fault or fault
        self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        self._changed.set()

    # actions out

    def _step(self, event: d.Event) -> None:
        for action in self._docket.step(event, clock.now_ns()):
            self._act(action)
        self._arm()

    def _act(self, action: d.Action) -> None:
        match action:
            case d.Journal() | d.Commit():
                self._write(action)
            case d.Dispatch():
                self._dispatch(action)
            case d.Publish():
                self._outlet.publish(action.committed)
            case d.Release():
                self._slots.released(action.slot)
            case d.Reply():
                self._outlet.reply(action)
            case d.Note() | d.SequenceReset():
                self._outlet.remark(action)

    def _write(self, action: d.Journal | d.Commit) -> None:
        if isinstance(action, d.Journal):
            self._parts.outbox.journal(action.head, action.deadline_ns)
        else:
            self._parts.outbox.commit(action.verdict)

    def _dispatch(self, action: d.Dispatch) -> None:
        if not self._pool.give(action.head, action.deadline_ns):
            lost = d.WorkerLost((action.head.key,), "no worker took the frame")
            self._loop.call_soon(self._step, lost)

    # time

    def _arm(self) -> None:
        due_ns = self._docket.next_due()
        if due_ns == self._due_ns:
            return
        self._due_ns = due_ns
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due_ns is not None:
            self._timer = self._loop.call_at(due_ns / 1e9, self._tick)

    def _tick(self) -> None:
        self._due_ns = None
        self._step(d.Tick())

    async def _watch(self) -> None:
        """Say each second how it is, and end workers whose driver call never returns."""
        said_ns = 0
        while True:
            await asyncio.sleep(WATCH_S)
            now = clock.now_ns()
            if now - said_ns >= STATE_NS:
                said_ns = now
                whole = len(self._ready) == self._parts.workers + 1
                head_vseq = self._parts.outbox.head()
                self._outlet.publish_state(head_vseq, "ready" if whole else "degraded")
            self._pool.kill_hung(now, self._tell_hung)

    def _tell_hung(self, worker: Child) -> None:
        self._log.error("worker_hangs", child=worker.name, pid=worker.pid)
