"""
A simulated line controller on Modbus TCP: it polls the gateway, moves its belt and drives a gate.

The logic is `simulator.plc`; here are its clock, its connection, and what happened at the gate.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from edge_inspector import clock
from edge_inspector.errors import Breakage
from edge_inspector.simulator.plc import PlcLogic, Slot, intact

CYCLE_S = 0.01
TIMEOUT_S = 0.1
REGISTERS = 20
READY = 2


class Gated(NamedTuple):
    """One part at the gate, and whether it was let through."""

    trigger_id: int
    opened: bool
    seen: bool
    at_ns: int


class PlcLine:
    """
    One belt, in a thread of its own: `feed(trigger_id)` is called for each part before the camera.

    `wants_part` says whether a part enters with the next move; `gated` hears of each one that
    leaves. With `follow` there is no belt: the part at the gate is always the one whose result is
    shown, for a look at a station whose parts somebody else counts.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        rate_hz: float,
        slots: int = 16,
        wants_part: Callable[[], bool] = lambda: False,
        feed: Callable[[int], None] = lambda _: None,
        gated: Callable[[Gated], None] = lambda _: None,
        follow: bool = False,
    ) -> None:
        try:
            from pymodbus.client import ModbusTcpClient
            from pymodbus.exceptions import ModbusException
        except ModuleNotFoundError as error:
            raise Breakage(
                "plc-sim needs the package 'pymodbus'; install edge-inspector[modbus]"
            ) from error
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
        self.logic = PlcLogic(1 if follow else slots)
        self.reads = self.faults = 0
        self.healthy_ns = self.ready_ns = 0
        self._faulty = (ModbusException, OSError)
        self._client: Any = ModbusTcpClient(host, port=port, timeout=TIMEOUT_S, retries=0)
        self._period_ns = int(1e9 / rate_hz)
        self._wants_part, self._feed, self._gated = wants_part, feed, gated
        self._follow = follow
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="plc", daemon=True)

    def __enter__(self) -> PlcLine:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        last_ns = move_ns = clock.now_ns()
        while not self._over.wait(CYCLE_S):
            registers = self._read()
            elapsed_ms = (clock.now_ns() - last_ns) // clock.NS_PER_MS
            last_ns += elapsed_ms * clock.NS_PER_MS
            if self._follow and registers is not None:
                self._place(registers)
            writes = self.logic.scan(registers, elapsed_ms).writes
            self._remember(registers)
            while not self._follow and clock.now_ns() >= move_ns:
                move_ns += self._period_ns
                writes = self._move()
            if self._follow and self.logic.belt[0].seen:
                writes = self._move()
            self._write(writes)
        self._client.close()

    def _remember(self, registers: list[int] | None) -> None:
        """When the station was last trusted, and when it last called itself ready beside that."""
        if self.logic.healthy:
            self.healthy_ns = clock.now_ns()
            if registers is not None and registers[1] & READY:
                self.ready_ns = self.healthy_ns

    def _place(self, registers: list[int]) -> None:
        """The part of the result that is shown is the one at the gate."""
        if intact(registers) and registers[4]:
            self.logic.belt[0] = Slot(part=True, trigger_id=registers[5] << 16 | registers[6])

    def _move(self) -> tuple[int, int, int, int, int, int]:
        enters = self.logic.running and self._wants_part()
        scanned = self.logic.scan(None, 0, moved=True, part=enters)
        left = scanned.left
        if left.part:
            self._gated(Gated(left.trigger_id, scanned.opens, left.seen, clock.now_ns()))
        if enters:
            self._feed(self.logic.trigger_id)
        return scanned.writes

    def _read(self) -> list[int] | None:
        """All registers in one request, None where the gateway does not answer."""
        try:
            if not self._client.connected and not self._client.connect():
                return None
            answer = self._client.read_input_registers(0, count=REGISTERS)
        except self._faulty:
            self._lose()
            return None
        if answer.isError():
            self.faults += 1
            return None
        self.reads += 1
        return list(answer.registers)

    def _write(self, values: tuple[int, ...]) -> None:
        if not self._client.connected:
            return
        try:
            self.faults += self._client.write_registers(0, list(values)).isError()
        except self._faulty:
            self._lose()

    def _lose(self) -> None:
        self.faults += 1
        self._client.close()
