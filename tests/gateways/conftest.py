"""The Modbus gateway started for real, with the test in core's place and pymodbus clients as PLCs."""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest

pytest.importorskip("pymodbus", reason="the Modbus gateway is not tested: pymodbus is missing")

from pymodbus.client import ModbusTcpClient

from edge_inspector import clock, gauge
from edge_inspector.channel import Acked, Alive, Failed, Ready, RunBegan
from edge_inspector.gateways.modbus import config_text
from edge_inspector.gauge import Gauge
from edge_inspector.settings import ModbusSink
from edge_inspector.studies.harness import free_port
from edge_inspector.wire import registers
from tests.core_side import LogSide
from tests.delivery.conftest import Store

MS = clock.NS_PER_MS


class Core(LogSide):
    """Core's side of the line to one gateway."""

    def __init__(self, written, **sink):
        self.port = sink.setdefault("port", free_port())
        self.consumer = ModbusSink(type="modbus", **sink).consumer
        self.heard = []
        gauge_fd = gauge.create()
        self.gauge = Gauge(gauge_fd, writable=True)
        config = config_text(ModbusSink(type="modbus", **sink), written.folder, ("bent", "missing"))
        command = ("-m", "edge_inspector.gateways.modbus")
        super().__init__(written, command, config, gauge=gauge_fd)
        os.close(gauge_fd)
        self.started = self.message(Ready, Failed)

    def take(self, message):
        super().take(message)
        if not isinstance(message, (Alive, Acked)):
            self.heard.append(message)

    def begin_run(self, run):
        self.line.send(RunBegan(run))

    def close(self):
        super().close()
        self.gauge.close()


class Plc:
    """A PLC by hand."""

    def __init__(self, port, host="127.0.0.1"):
        self.client = ModbusTcpClient(host, port=port, timeout=1, retries=0)
        self.client.connect()

    def read(self):
        """The twenty registers of one request."""
        return self.client.read_input_registers(0, count=20).registers

    def result(self):
        return registers.decode(self.read())

    def status(self):
        return registers.Status(self.read()[1])

    def write(self, address, *values):
        answer = self.client.write_registers(address, list(values))
        return answer.exception_code if answer.isError() else 0

    def until(self, condition, seconds=3.0):
        """Read until the block is as wanted; the block."""
        give_up_ns = clock.now_ns() + seconds * 1e9
        while not condition(block := self.read()):
            assert clock.now_ns() < give_up_ns, block
        return block

    def close(self):
        self.client.close()


@pytest.fixture
def stack():
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def store(tmp_path, stack):
    written = Store(tmp_path / "state")
    stack.callback(written.outbox.close)
    return written


@pytest.fixture
def start_gateway(store, stack):
    def start(**sink):
        core = Core(store, **sink)
        stack.callback(core.close)
        return core

    return start


@pytest.fixture
def connect(stack):
    def connected(port):
        plc = Plc(port)
        stack.callback(plc.close)
        return plc

    return connected
