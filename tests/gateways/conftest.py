"""The Modbus gateway started for real, with the test in core's place and pymodbus clients as PLCs."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack

import pytest

pytest.importorskip("pymodbus", reason="the Modbus gateway is not tested: pymodbus is missing")

from pymodbus.client import ModbusTcpClient

from edge_inspector import channel, clock, gauge
from edge_inspector.channel import Acked, Alive, Failed, Pulse, Ready, Row, RunBegan, Stop
from edge_inspector.gateways.modbus import config_text
from edge_inspector.gauge import Gauge
from edge_inspector.settings import ModbusSink
from edge_inspector.studies.harness import free_port
from edge_inspector.wire import registers
from tests.delivery.conftest import Store

MS = clock.NS_PER_MS


class Core:
    """Core's side of the line to one gateway."""

    def __init__(self, written, **sink):
        self.store = written
        self.port = sink.setdefault("port", free_port())
        self.counters: Counter[str] = Counter()
        self.acked = []
        self.heard = []
        self.toggle = False
        self.line, theirs = channel.pair()
        gauge_fd = gauge.create()
        self.gauge = Gauge(gauge_fd, writable=True)
        config = config_text(ModbusSink(type="modbus", **sink), written.folder, ("bent", "missing"))
        with theirs:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "edge_inspector.gateways.modbus"),
                    *("--channel-fd", str(theirs.fileno()), "--gauge-fd", str(gauge_fd)),
                    *("--config", config),
                ],
                pass_fds=(theirs.fileno(), gauge_fd),
            )
        os.close(gauge_fd)
        self.started = self.message(Ready, Failed)

    def commit(self, count=1, **fields):
        rows = self.store.commit(count, **fields)
        for row in rows:
            self.line.send(Row(row.vseq, row.body, row.chain))
        return rows

    def pulse(self, state="ready", *, moved=True):
        self.toggle ^= moved
        outbox = self.store.outbox
        self.line.send(Pulse(outbox.head(), outbox.oldest(), state, self.toggle))

    def begin_run(self, run):
        self.line.send(RunBegan(run))

    def message(self, *kinds, timeout_s=10.0):
        """The next message of these kinds, None when the gateway is gone."""
        give_up_ns = clock.now_ns() + timeout_s * 1e9
        while True:
            left_s = max(0, give_up_ns - clock.now_ns()) / 1e9
            if not select.select([self.line.fileno()], [], [], left_s)[0]:
                raise TimeoutError(f"no {kinds} within {timeout_s} s")
            message = self.line.receive()
            if isinstance(message, Alive):
                self.counters.update(message.counters)
            elif isinstance(message, Acked):
                self.acked.append(message.upto)
                self.store.outbox.acked(message.consumer, message.upto)
            else:
                self.heard.append(message)
            if message is None or isinstance(message, kinds):
                return message

    def until_counted(self, name, count=1, timeout_s=5.0):
        give_up_ns = clock.now_ns() + timeout_s * 1e9
        while self.counters[name] < count and clock.now_ns() < give_up_ns:
            self.message(Alive)
        return self.counters[name]

    def until_acked(self, upto):
        while upto not in self.acked:
            self.message(Acked)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.line.send(Stop())
        try:
            status = self.process.wait(5)
        finally:
            self.process.kill()
            self.process.wait()
            self.line.close()
            self.gauge.close()
        assert status in ((0, -signal.SIGKILL) if isinstance(self.started, Ready) else (1,))


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
