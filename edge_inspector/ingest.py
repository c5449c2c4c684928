"""
The ingest process: sockets and cameras in, heads to core, pixels to shared memory.

One blocking thread per source; the main thread listens to core. A hostile peer can at worst end
this process, which holds nothing that a restart loses.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import msgspec
import zmq
from pydantic import TypeAdapter

from edge_inspector import clock, process
from edge_inspector.channel import (
    Alive,
    Answers,
    Arrived,
    Channel,
    Failed,
    Grant,
    Message,
    Pulse,
    Ready,
    Stop,
)
from edge_inspector.errors import EdgeInspectorError
from edge_inspector.importer import choose
from edge_inspector.protocols import Source
from edge_inspector.recipe import Recipe
from edge_inspector.settings import Settings, SourceSettings, ZmqSource
from edge_inspector.slots import Slots
from edge_inspector.sources import SOURCES
from edge_inspector.sources.arrival import HearsPulse, Surroundings
from edge_inspector.sources.intake import Counts, Defaults, Intake, Pool, Tickets
from edge_inspector.sources.zap import AddressLists

ALIVE_NS = 40 * clock.NS_PER_MS
LEAVE_S = 0.6
"""Core waits one second before it ends this process."""

_SOURCE: TypeAdapter[SourceSettings] = TypeAdapter(SourceSettings)


class IngestConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What core tells ingest on its command line, as JSON."""

    station: str
    recipe: str
    cameras: tuple[str, ...]
    recipes: tuple[str, ...]
    sources: tuple[dict[str, Any], ...]
    slot_bytes: int
    max_pixels: int
    budget_us: int = 600_000_000
    memory_mib: int = 2048
    """Address space beyond what is mapped at the start; 0 sets no limit."""

    @classmethod
    def of(cls, settings: Settings, recipe: Recipe) -> IngestConfig:
        """The part of a station that ingest needs."""
        cameras = (*recipe.cameras, *(source.camera for source in settings.sources))
        return cls(
            station=settings.station,
            recipe=recipe.product,
            cameras=tuple(dict.fromkeys(cameras)),
            recipes=(recipe.product,),
            sources=tuple(source.model_dump() for source in settings.sources),
            slot_bytes=settings.frames.max_bytes,
            max_pixels=settings.frames.max_pixels,
            budget_us=recipe.budget_us,
        )

    def encode(self) -> str:
        """As JSON for the command line."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def decode(cls, text: str) -> IngestConfig:
        """From the JSON of the command line."""
        return msgspec.json.decode(text, type=cls)


class _Running:
    """One source and its thread."""

    def __init__(self, source: Source, intake: Intake, name: str) -> None:
        self.source = source
        self.fault: str | None = "its thread ended by a fault of ours; see the log"
        self.thread = threading.Thread(target=self._run, args=(intake,), name=name, daemon=True)

    def _run(self, intake: Intake) -> None:
        try:
            self.source.run(intake)
            self.fault = None
        except EdgeInspectorError as error:
            self.fault = str(error)

    @property
    def crashed(self) -> bool:
        """True once the thread ended otherwise than asked or at the end of its frames."""
        return self.thread.ident is not None and not self.thread.is_alive() and bool(self.fault)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until core says stop or is gone; 1 when a source cannot start or go on."""
    arguments = process.begin("ingest", argv, "slots")
    config = IngestConfig.decode(arguments.config)
    with ExitStack() as stack:
        line = Channel.from_fd(arguments.channel_fd)
        stack.callback(line.close)
        slots = Slots(arguments.slots_fd, config.slot_bytes, writable=True)
        ingest = Ingest(config, line, slots)
        try:
            ingest.open(stack)
        except EdgeInspectorError as error:
            line.send(Failed.of(error))
            return 1
        if config.memory_mib:
            process.limit_growth(config.memory_mib)
        return ingest.serve()


class Ingest:
    """The sources of one station, and their line to core."""

    def __init__(self, config: IngestConfig, line: Channel, slots: Slots) -> None:
        self._config = config
        self._line = line
        self._pool = Pool(slots)
        self._tickets = Tickets()
        self._counts = Counts()
        self._running: list[_Running] = []

    def open(self, stack: ExitStack) -> None:
        """Open every source and bind its sockets; nothing is read yet."""
        config = self._config
        sources = [_SOURCE.validate_python(values) for values in config.sources]
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        stack.callback(context.destroy, linger=0)
        around = Surroundings(
            context=context,
            recipe=config.recipe,
            cameras=frozenset(config.cameras),
            recipes=frozenset(config.recipes),
            max_bytes=config.slot_bytes,
            max_pixels=config.max_pixels,
            count=self._counts.add,
            budget_us=config.budget_us,
        )
        allow = {one.name: one.allow for one in sources if isinstance(one, ZmqSource) and one.allow}
        if allow:
            stack.callback(AddressLists(context, allow).close)
        for one in sources:
            opened: Source = choose(SOURCES, one.type, "source")(one, around)
            self._running.append(_Running(opened, self._intake(one), one.name))

    def serve(self) -> int:
        """Listen to core until it says stop; 1 when a source could not go on."""
        self._line.send(Ready(", ".join(one.thread.name for one in self._running)))
        next_ns = clock.now_ns()
        status: int | None = None
        while status is None:
            wait_s = max(0, next_ns - clock.now_ns()) / 1e9
            if select.select([self._line.fileno()], [], [], wait_s)[0]:
                status = self._hear(self._line.receive())
            if status is None and clock.now_ns() >= next_ns:
                next_ns = clock.now_ns() + ALIVE_NS
                status = self._tell()
        self._leave()
        return status

    def _intake(self, source: SourceSettings) -> Intake:
        defaults = Defaults(
            source=source.name,
            station=self._config.station,
            camera=source.camera,
            recipe=source.recipe or self._config.recipe,
            clock=source.clock if isinstance(source, ZmqSource) else "none",
            max_age_ms=source.max_age_ms if isinstance(source, ZmqSource) else None,
        )
        line = self._line
        return Intake(
            defaults, self._pool, self._tickets, self._counts, lambda head: line.send(Arrived(head))
        )

    def _hear(self, message: Message | None) -> int | None:
        """Do what core says; an exit status ends the process."""
        if message is None or isinstance(message, Stop):
            return 0
        if isinstance(message, Answers):
            for answer in message.answers:
                self._tickets.answer(answer)
        elif isinstance(message, Grant):
            self._pool.give(message.slots)
            self._start()
        elif isinstance(message, Pulse):
            for one in self._running:
                if isinstance(one.source, HearsPulse):
                    one.source.pulse(message)
        return None

    def _tell(self) -> int | None:
        if not self._line.send(Alive(self._counts.take())):
            return 0
        for one in self._running:
            if one.crashed:
                self._line.send(Failed(f"source '{one.thread.name}': {one.fault}"))
                return 1
        return None

    def _start(self) -> None:
        """Sources start with the first slots, so that no frame is shed while core gets ready."""
        for one in self._running:
            if one.thread.ident is None:
                one.thread.start()

    def _leave(self) -> None:
        """Sources let go of their sockets; one that hangs in a driver is left behind."""
        give_up_ns = clock.now_ns() + int(LEAVE_S * 1e9)
        for one in self._running:
            one.source.stop()
        for one in self._running:
            if one.thread.ident is not None:
                one.thread.join(max(0, give_up_ns - clock.now_ns()) / 1e9)


if __name__ == "__main__":
    raise SystemExit(main())
