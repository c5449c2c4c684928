"""The discrete process started for real: the test in core's place, and a coupler made of a socket."""

from __future__ import annotations

import select
import socket
import struct
import subprocess
import sys
import threading

import msgspec
import pytest

pytest.importorskip("pymodbus", reason="the discrete sink is not tested: pymodbus is missing")

import contextlib

from edge_inspector import channel, clock
from edge_inspector.channel import Alive, Failed, Pulse, Ready, Remark, Row, Stop
from edge_inspector.records import FrameKey, Outcome, Verdict
from edge_inspector.settings import DiscreteSink
from edge_inspector.studies.harness import free_port

MS = clock.NS_PER_MS
PASS, WATCHDOG = 4, 5
DELAY_MS, WINDOW_MS = 150.0, 80.0


class Board:
    """A coupler: keeps what was written last, with the instant; `mute` leaves requests unanswered."""

    def __init__(self, port=0):
        self.server = socket.create_server(("127.0.0.1", port))
        self.port = self.server.getsockname()[1]
        self.coils = {PASS: True, WATCHDOG: False}  # as a process that was killed left them
        self.writes = []
        self.mute = False
        self.refuse = False
        self.open = [self.server]
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            try:
                peer, _ = self.server.accept()
            except OSError:
                return
            self.open.append(peer)
            with peer:
                self._talk(peer)

    def _talk(self, peer):
        try:
            while request := peer.recv(260):
                number, _, _, device, function, coil, value = struct.unpack(">HHHBBHH", request)
                assert (device, function, value in (0, 0xFF00)) == (7, 5, True)
                if self.mute:
                    continue
                if self.refuse:
                    peer.send(struct.pack(">HHHBBB", number, 0, 3, device, 0x85, 2))
                    continue
                self.coils[coil] = bool(value)
                self.writes.append((clock.now_ns(), coil, bool(value)))
                peer.send(request)
        except OSError:
            pass

    def of(self, coil):
        return [(at_ns, value) for at_ns, which, value in self.writes if which == coil]

    def close(self):
        for one in self.open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self.thread.join(2)


class Core:
    """Core's side of the line; it pulses each 90 ms unless `silent`."""

    def __init__(self, port):
        sink = DiscreteSink.model_validate(
            {
                "type": "discrete",
                "host": "127.0.0.1",
                "port": port,
                "device": 7,
                "pass_coil": PASS,
                "watchdog_coil": WATCHDOG,
                "delay_ms": DELAY_MS,
                "window_ms": WINDOW_MS,
            }
        )
        self.vseq = 0
        self.silent = False
        self.toggle = False
        self.remarks = []
        self.counters = {}
        self.line, theirs = channel.pair()
        with theirs:
            command = [sys.executable, "-m", "edge_inspector.gateways.discrete"]
            command += ["--channel-fd", str(theirs.fileno()), "--config", sink.model_dump_json()]
            self.process = subprocess.Popen(command, pass_fds=(theirs.fileno(),))
        self.until(lambda: self.ready)

    ready = False

    def run(self, ms):
        """Time passes."""
        end_ns = clock.now_ns() + ms * MS
        pulsed_ns = 0
        while (now_ns := clock.now_ns()) < end_ns:
            if not self.silent and now_ns - pulsed_ns > 90 * MS:
                pulsed_ns, self.toggle = now_ns, not self.toggle
                self.line.send(Pulse(self.vseq, 1, "ready", self.toggle))
            if select.select([self.line.fileno()], [], [], 0.005)[0]:
                self.hear(self.line.receive())

    def hear(self, message):
        match message:
            case Ready():
                self.ready = True
            case Remark():
                self.remarks.append(message.detail)
            case Alive():
                for name, count in message.counters.items():
                    self.counters[name] = self.counters.get(name, 0) + count
            case Failed():
                raise AssertionError(message.detail)

    def until(self, done, ms=10_000):
        end_ns = clock.now_ns() + ms * MS
        while not done():
            assert clock.now_ns() < end_ns, (self.remarks, self.counters)
            self.run(20)

    def unit(self, outcome=Outcome.PASS):
        """A verdict that comes at once; when its window begins and ends."""
        self.vseq += 1
        zero_ns = clock.now_ns()
        verdict = Verdict(
            unit_key=f"t:s/0/{self.vseq}",
            station="s",
            outcome=outcome,
            frames=(FrameKey("src", "e", self.vseq),),
            recipe="r",
            vseq=self.vseq,
            time_zero_ns=zero_ns,
            valid_us=100_000,
        )
        self.line.send(Row(self.vseq, msgspec.msgpack.encode(verdict), 0))
        start_ns = zero_ns + int(DELAY_MS * MS)
        return start_ns, start_ns + int(WINDOW_MS * MS)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.line.close()


@pytest.fixture
def board():
    board = Board()
    yield board
    board.close()


@pytest.fixture
def core(board):
    core = Core(board.port)
    core.until(lambda: board.of(WATCHDOG))
    yield core
    core.close()


def test_the_first_thing_it_does_is_to_switch_off_what_was_left_on(core, board):
    assert board.writes[0][1:] == (PASS, False)


def test_the_pass_output_is_on_while_the_unit_is_at_the_gate(core, board):
    start_ns, end_ns = core.unit()
    core.run(350)
    (_, off), (on_ns, on), (off_ns, off_again) = board.of(PASS)
    assert (off, on, off_again) == (False, True, False)
    assert start_ns <= on_ns < end_ns
    assert end_ns <= off_ns < end_ns + 200 * MS


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.UNINSPECTED])
def test_a_reject_writes_nothing(core, board, outcome):
    core.unit(outcome)
    core.run(300)
    assert [value for _, value in board.of(PASS)] == [False]


def test_the_watchdog_output_moves_while_core_does_and_stands_still_300_ms_after(core, board):
    core.run(1000)
    moved = board.of(WATCHDOG)
    assert len(moved) >= 6
    core.silent = True
    silent_ns = clock.now_ns()
    core.run(1200)
    assert board.of(WATCHDOG)[-1][0] < silent_ns + 600 * MS


def test_it_leaves_with_the_pass_output_off(core, board):
    core.unit()
    core.run(int(DELAY_MS) + 30)
    assert board.coils[PASS]
    core.line.send(Stop())
    assert core.process.wait(5) == 0
    assert not board.coils[PASS]


def test_it_ends_with_core(core, board):
    core.unit()
    core.run(int(DELAY_MS) + 30)
    core.line.close()
    assert core.process.wait(5) == 0
    assert not board.coils[PASS]


@pytest.mark.parametrize("how", ["mute", "refuse"])
def test_a_coupler_in_doubt_is_told_and_written_anew(core, board, how):
    setattr(board, how, True)
    core.until(lambda: any("does not answer" in remark for remark in core.remarks))
    core.unit()
    core.run(int(DELAY_MS + WINDOW_MS))
    known = len(board.writes)
    setattr(board, how, False)
    core.until(lambda: len(board.writes) > known)
    assert board.writes[known][1:] == (PASS, False)
    core.until(lambda: core.remarks[-1].endswith(" answers"))
    assert core.counters["discrete_lost"] == 1


def test_a_coupler_that_is_not_there_yet_is_found_when_it_comes():
    port = free_port()
    core = Core(port)
    core.until(lambda: core.remarks)
    assert "does not answer" in core.remarks[0]
    board = Board(port)
    core.until(lambda: board.of(WATCHDOG))
    board.close()
    core.close()
