"""
The Modbus gateway process: one more consumer of the log, with its own cursor, for a PLC that polls.

Core says what is committed and how the station is; nothing here has a timer that could make a dead
station look alive. What core did not say in time is read from the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec
from pydantic import TypeAdapter

from edge_inspector import clock, process
from edge_inspector.channel import (
    Acked,
    Alive,
    Channel,
    Failed,
    Message,
    Pulse,
    Ready,
    Row,
    RunBegan,
    Stop,
)
from edge_inspector.errors import Breakage, EdgeInspectorError, StoreFault
from edge_inspector.gateways.board import Board
from edge_inspector.gateways.results import QUEUE, Results
from edge_inspector.gauge import Gauge
from edge_inspector.outbox import Log
from edge_inspector.records import Verdict
from edge_inspector.settings_sinks import ModbusSink
from edge_inspector.wire.registers import Trouble

MEMORY_MIB = 512
TICK_S = 0.05
_BURST = 64
_VERDICT = msgspec.msgpack.Decoder(Verdict)
_SINK: TypeAdapter[ModbusSink] = TypeAdapter(ModbusSink)


class ModbusConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What core tells this process on its command line, as JSON."""

    store: str
    sink: dict[str, Any]
    classes: tuple[str, ...] = ()


def config_text(sink: ModbusSink, store: Path, classes: tuple[str, ...]) -> str:
    """The configuration as JSON for the command line."""
    config = ModbusConfig(store=str(store), sink=sink.model_dump(mode="json"), classes=classes)
    return msgspec.json.encode(config).decode()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until core says stop or is gone; 1 where it cannot start or the log cannot be read."""
    arguments = process.begin("modbus", argv, "gauge")
    config = msgspec.json.decode(arguments.config, type=ModbusConfig)
    with ExitStack() as stack:
        line = Channel.from_fd(arguments.channel_fd)
        stack.callback(line.close)
        line.set_blocking(False)
        try:
            log = Log(Path(config.store))
            stack.callback(log.close)
            gauge = Gauge(arguments.gauge_fd, writable=False)
            stack.callback(gauge.close)
            return asyncio.run(Gateway(config, line, log, gauge).serve())
        except EdgeInspectorError as error:
            line.try_send(Failed.of(error))
            return 1


class Gateway:
    """Core on one side, the PLC on the other, the log behind."""

    def __init__(self, config: ModbusConfig, line: Channel, log: Log, gauge: Gauge) -> None:
        self._sink = sink = _SINK.validate_python(config.sink)
        self._line, self._log, self._gauge = line, log, gauge
        self._results = Results(
            config.classes,
            log.run(),
            keep=sink.mode == "dequeue",
            validity_us=None if sink.validity_ms is None else round(sink.validity_ms * 1000),
        )
        self._board = Board(self._results)
        self._told = log.cursor(sink.consumer)
        self._next = max(self._told + 1, log.head() - QUEUE)
        self._results.skip_to(self._next)
        self._past_ns: int | None = clock.now_ns()
        """When this process began; None once what was there before is read."""
        self._trouble = Trouble.NONE
        self._over = asyncio.Event()
        self._fault: StoreFault | None = None

    async def serve(self) -> int:
        """Until core says stop or is gone."""
        try:
            from edge_inspector.gateways.modbus_server import Registers, Server
        except ModuleNotFoundError as error:
            raise Breakage(
                f"a Modbus sink needs the package '{error.name}', which is not installed; "
                "install edge-inspector[modbus]"
            ) from error
        loop = asyncio.get_running_loop()
        sink, board = self._sink, self._board
        registers = Registers(self._block, lambda: board.held, self._write)
        address = (str(sink.host), sink.port)
        server = Server(
            registers, address, allow=sink.allow, writer=sink.writer, counts=self._results.counts
        )
        await server.start()
        process.limit_growth(MEMORY_MIB)
        self._catch_up(self._log.head())
        self._past_ns = None
        loop.add_reader(self._line.fileno(), self._listen)
        self._line.try_send(Ready(f"modbus {sink.host}:{sink.port}"))
        try:
            while not self._over.is_set():
                self._tell()
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._over.wait(), TICK_S)
        finally:
            loop.remove_reader(self._line.fileno())
            await server.shutdown()  # type: ignore[no-untyped-call]
        if self._fault is not None:
            raise self._fault
        self._tell()
        return 0

    # from core

    def _listen(self) -> None:
        try:
            for _ in range(_BURST):
                self._hear(self._line.receive())
        except BlockingIOError:
            pass
        except StoreFault as fault:
            self._fault = fault
            self._over.set()

    def _hear(self, message: Message | None) -> None:
        match message:
            case Row():
                self._row(message)
            case Pulse():
                self._catch_up(message.head_vseq)
                self._board.pulse(message, clock.now_ns())
            case RunBegan():
                self._results.begin_run(message.run)
            case Stop() | None:
                self._over.set()

    def _row(self, row: Row) -> None:
        if row.vseq > self._next:
            self._catch_up(row.vseq - 1)
        if row.vseq == self._next:
            self._take(row.vseq, row.body)

    def _catch_up(self, head: int) -> None:
        """Read from the log what core's line was too full for; more than a queue of it is lost."""
        if head - self._next > QUEUE:
            self._results.counts["modbus_skipped"] += head - QUEUE - self._next
            self._results.overrun = True
            self._next = head - QUEUE
        while self._next <= head and (rows := self._log.rows(self._next, QUEUE)):
            for vseq, body, _ in rows:
                self._take(vseq, body)

    def _take(self, vseq: int, body: bytes) -> None:
        self._next = vseq + 1
        try:
            self._results.add(_VERDICT.decode(body), past_ns=self._past_ns)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self._results.counts["modbus_unreadable_rows"] += 1
            self._results.skip_to(vseq + 1)

    # to the PLC

    def _block(self) -> tuple[int, ...]:
        return self._board.block(clock.now_ns(), busy=self._gauge.busy)

    def _write(self, address: int, values: Sequence[int]) -> bool:
        wishes = self._board.write(address, values, clock.now_ns())
        for wish in wishes or ():
            self._line.try_send(wish)
        return wishes is not None

    # to core

    def _tell(self) -> None:
        trouble = self._board.trouble(clock.now_ns())
        if trouble is not self._trouble and trouble in (Trouble.PLC_SILENT, Trouble.CORE_SILENT):
            self._results.counts[f"modbus_{trouble.name.lower()}"] += 1
        self._trouble = trouble
        if self._results.upto > self._told and self._line.try_send(
            Acked(self._sink.consumer, self._results.upto)
        ):
            self._told = self._results.upto
        if self._line.try_send(Alive(dict(self._results.counts))):
            self._results.counts.clear()


if __name__ == "__main__":
    raise SystemExit(main())
