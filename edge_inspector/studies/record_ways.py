"""Two ways of coming by a station's frames: beside its running daemon, and in its place."""

from __future__ import annotations

import asyncio
import os
import socket

from edge_inspector import slots, wiring
from edge_inspector.channel import (
    Alive,
    Answer,
    Answers,
    Arrived,
    Failed,
    Grant,
    Message,
    Pulse,
    Ready,
)
from edge_inspector.children import Child
from edge_inspector.errors import Breakage, Misuse
from edge_inspector.ingest import IngestConfig
from edge_inspector.records import FrameHead, Outcome, Reason
from edge_inspector.settings import Settings
from edge_inspector.sinks import tap
from edge_inspector.slots import Ledger, Slots
from edge_inspector.studies.record_taking import Taking
from edge_inspector.wire.codes import code_of

STOP_S = 1.0
MOST_SLOTS, BURST_BYTES = 256, 256 * 1024 * 1024
"""Room for what a publisher sent while nobody took it, which comes at once."""
SETTLED = code_of(Outcome.UNINSPECTED, Reason.ABORTED)
"""What an assured source hears of a frame that is recorded and not judged: a reject."""
_REASONS = {reason.value for reason in Reason}


class Beside:
    """The workers of a running daemon connect, and hand copies on."""

    def __init__(self, settings: Settings) -> None:
        self.where = (
            f"from the daemon that holds {settings.store}; do units move, and does "
            "'edge-inspector listen' show verdicts?"
        )
        self._folder = settings.store
        self._connections: dict[socket.socket, int] = {}
        """Each with how many copies its worker said that it dropped."""

    async def start(self, taking: Taking) -> None:
        """Listen."""
        self._taking = taking
        self._listener = tap.listen(self._folder)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def beat(self) -> None:
        """Nobody waits for a word."""

    async def stop(self) -> None:
        """Let the workers go, and leave no name behind."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener)
        tap.forget(self._folder)
        for opened in self._connections:
            loop.remove_reader(opened)
            opened.close()
        self._listener.close()

    def _accept(self) -> None:
        connection = self._listener.accept()[0]
        connection.setblocking(False)
        self._connections[connection] = 0
        asyncio.get_running_loop().add_reader(connection, self._receive, connection)

    def _receive(self, connection: socket.socket) -> None:
        received = tap.receive(connection)
        if received is None:
            asyncio.get_running_loop().remove_reader(connection)
            del self._connections[connection]
            connection.close()
            return
        copy, pixels = received
        self._taking.counts["dropped"] += copy.dropped - self._connections[connection]
        self._connections[connection] = copy.dropped
        self._taking.take(copy.head, pixels)


class Alone:
    """An ingest process of our own, fed with slots as core does it."""

    def __init__(self, settings: Settings, config: IngestConfig) -> None:
        self.where = f"from source {', '.join(source.name for source in settings.sources)}"
        size = settings.frames.max_bytes
        count = max(settings.frames.slots, min(MOST_SLOTS, BURST_BYTES // size))
        self._fd = slots.create(count, size)
        self._memory = Slots(self._fd, size, writable=False)
        self._child = wiring.ingest_alone(settings, config, self._fd)(self._hear, self._lost)
        self._ledger = Ledger(count, lambda free: self._child.send(Grant(free)))
        self._toggle = False

    async def start(self, taking: Taking) -> None:
        """Start it; its sources open at once and begin when it has slots."""
        self._taking = taking
        self._child.start()

    def beat(self) -> None:
        """Assured sources must hear that somebody lives here."""
        self._toggle = not self._toggle
        self._child.send(Pulse(0, 0, "starting", self._toggle))

    async def stop(self) -> None:
        """End it."""
        await self._child.stop(STOP_S)
        self._memory.close()
        os.close(self._fd)

    def _hear(self, child: Child, message: Message) -> None:
        if isinstance(message, Ready):
            self._taking.alive()
            self._ledger.grant()
        elif isinstance(message, Arrived):
            self._take(message.head)
        elif isinstance(message, Failed):
            self._taking.end((Misuse if message.refused else Breakage)(message.detail))
        elif isinstance(message, Alive):
            for name, count in message.counters.items():
                if name.rpartition(".")[2] not in _REASONS:  # those come as heads, too
                    self._taking.counts[name] += count

    def _take(self, head: FrameHead) -> None:
        self._ledger.taken(head.slot)
        held = self._memory.view(head.slot, head.size) if head.slot >= 0 else None
        self._taking.take(head, held)
        del held
        if head.slot >= 0:
            self._ledger.released(head.slot)
        if head.ticket and head.assured:
            detail = "recorded, not judged: no daemon runs"
            self._child.send(Answers((Answer(head.ticket, detail, "settled", code=SETTLED),)))
        elif head.ticket:
            self._child.send(Answers((Answer(head.ticket, "OK"),)))

    def _lost(self, child: Child) -> None:
        self._ledger.recall()
        self._taking.miss("ingest_lost")
