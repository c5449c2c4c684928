"""
The poller process: the incumbent's verdicts from the Modbus registers of a controller, to core.

A child of core like delivery, so that nothing a controller answers or leaves unanswered holds up
the line. An incumbent that says nothing while units are judged is told and counted.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import zmq

from edge_inspector import clock, process
from edge_inspector.channel import (
    Alive,
    Channel,
    Failed,
    IncumbentSaid,
    Ready,
    Remark,
    Row,
    Stop,
)
from edge_inspector.errors import Breakage, EdgeInspectorError
from edge_inspector.importer import load
from edge_inspector.records import Baseline, Outcome
from edge_inspector.settings import Incumbent

TIMEOUT_S = 0.5
RETRY_NS = 1000 * clock.NS_PER_MS
ALIVE_NS = 100 * clock.NS_PER_MS
CLIENT = "pymodbus.client:ModbusTcpClient"
MODBUS_ERROR = "pymodbus.exceptions:ModbusException"


def main(argv: Sequence[str] | None = None) -> int:
    """Poll until core says stop or is gone."""
    arguments = process.begin("poller", argv)
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    line = Channel.from_fd(arguments.channel_fd)
    line.set_blocking(False)
    asked = Incumbent.model_validate_json(arguments.config)
    try:
        registers = Registers(asked)
    except EdgeInspectorError as error:
        line.try_send(Failed.of(error, "incumbent: "))
        return 1
    Poller(asked, line, registers).serve()
    registers.close()
    line.close()
    return 0


class Registers:
    """The registers that are asked for, in one reading; raises `Breakage` where none comes."""

    def __init__(self, asked: Incumbent) -> None:
        self._error = load(MODBUS_ERROR)
        self._client = load(CLIENT)(asked.host, port=asked.port, timeout=TIMEOUT_S, retries=0)
        wanted = [asked.trigger, asked.trigger + 1, asked.outcome]
        wanted += [] if asked.counter is None else [asked.counter]
        self.first = min(wanted)
        self._count = max(wanted) - self.first + 1
        self._device = asked.device
        self._read = getattr(self._client, f"read_{asked.registers}_registers")

    def read(self) -> list[int]:
        """Their values, 16 bits each."""
        try:
            if not self._client.connected and not self._client.connect():
                raise Breakage("nobody answers")
            answer: Any = self._read(self.first, count=self._count, device_id=self._device)
        except (self._error, OSError) as error:
            self._client.close()
            raise Breakage(str(error)) from error
        if answer.isError() or len(answer.registers) != self._count:
            raise Breakage(f"registers {self.first} and {self._count - 1} more: {answer}")
        return list(answer.registers)

    def close(self) -> None:
        """Hang up."""
        self._client.close()


class Readings:
    """
    Readings to verdicts: what was read twice alike, and is not what was taken last, is new.

    A controller may write its registers one after the other; what lies there at the first look is
    of a unit from before, and only marks where to begin.
    """

    def __init__(self, asked: Incumbent, first: int) -> None:
        self._asked = asked
        self._first = first
        self._seen: tuple[int, int, int] | None = None
        self._taken: tuple[int, int] | None = None

    def take(self, values: Sequence[int]) -> IncumbentSaid | None:
        """The verdict that this reading completes, None where there is no new one."""
        asked = self._asked
        high, low = (values[asked.trigger + i - self._first] for i in (0, 1))
        trigger_id = high << 16 | low
        outcome = values[asked.outcome - self._first]
        counter = 0 if asked.counter is None else values[asked.counter - self._first]
        before, self._seen = self._seen, (counter, trigger_id, outcome)
        mark = (counter, trigger_id)
        if self._seen != before or mark == self._taken:
            return None
        known, self._taken = self._taken, mark
        if known is None or trigger_id == 0:
            return None
        meant = {asked.pass_value: Outcome.PASS, asked.fail_value: Outcome.FAIL}
        return IncumbentSaid(Baseline(meant.get(outcome, Outcome.UNINSPECTED)), trigger_id)


class Poller:
    """Core on one side, the controller on the other."""

    def __init__(self, asked: Incumbent, line: Channel, registers: Registers) -> None:
        self._asked = asked
        self._line = line
        self._registers = registers
        self._readings = Readings(asked, registers.first)
        self._counters: Counter[str] = Counter()
        self._waiting_since_ns = self._units = 0
        """When the first unit was judged since the incumbent was heard, and how many since."""
        self._silent = False
        self._problem = "it gives no new verdict"
        self._retry_ns = 0

    def serve(self) -> None:
        """Look at the registers each `poll_ms`."""
        self._line.try_send(Ready(f"{self._asked.host}:{self._asked.port}"))
        poller = zmq.Poller()
        poller.register(self._line.fileno(), zmq.POLLIN)
        due_ns = alive_ns = clock.now_ns()
        while True:
            left_ns = due_ns - clock.now_ns()
            if poller.poll(max(0, -(-left_ns // clock.NS_PER_MS))) and not self._listen():
                return
            now_ns = clock.now_ns()
            if now_ns < due_ns:
                continue
            due_ns = now_ns + int(self._asked.poll_ms * clock.NS_PER_MS)
            self._look(now_ns)
            if now_ns >= alive_ns:
                alive_ns = now_ns + ALIVE_NS
                self._tell(now_ns)

    def _listen(self) -> bool:
        """Hear core; False when it says stop or is gone."""
        try:
            while True:
                message = self._line.receive()
                if message is None or isinstance(message, Stop):
                    return False
                if isinstance(message, Row):
                    self._units += 1
                    self._waiting_since_ns = self._waiting_since_ns or clock.now_ns()
        except BlockingIOError:
            return True

    def _look(self, now_ns: int) -> None:
        if now_ns < self._retry_ns:
            return
        try:
            said = self._readings.take(self._registers.read())
        except Breakage as error:
            self._counters["incumbent_unreachable"] += 1
            self._problem, self._retry_ns = str(error), clock.now_ns() + RETRY_NS
            return
        self._problem = "it gives no new verdict"
        if said is not None:
            self._counters["incumbent_said"] += 1
            self._waiting_since_ns = self._units = 0
            self._silent = False
            self._line.try_send(said)

    def _tell(self, now_ns: int) -> None:
        waited_s = (now_ns - self._waiting_since_ns) / 1e9 if self._waiting_since_ns else 0.0
        if waited_s > self._asked.silent_s and not self._silent:
            self._silent = True
            self._counters["incumbent_silent"] += 1
            text = (
                f"{self._asked.host}:{self._asked.port} said nothing for {waited_s:.0f} s and "
                f"{self._units} units, the limit is {self._asked.silent_s:g} s: {self._problem}; "
                "look at [incumbent], or give its verdicts as CSV"
            )
            self._line.try_send(Remark("incumbent_silent", text))
        if self._line.try_send(Alive(dict(self._counters))):
            self._counters.clear()


if __name__ == "__main__":
    raise SystemExit(main())
