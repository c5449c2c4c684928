"""A pretend daemon: a ROUTER that follows the protocol as far as a source can tell."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from pathlib import Path

import pytest
import zmq

from edge_inspector import clock
from edge_inspector.records import Outcome, Reason
from edge_inspector.wire import assured
from edge_inspector.wire.assured import (
    Accepted,
    Bye,
    Credit,
    FrameFacts,
    Heartbeat,
    Hello,
    Metadata,
    Nack,
    Ping,
    Pong,
    Settled,
    Welcome,
)  # fmt: skip
from edge_inspector.wire.codes import TOMBSTONES, Flag, Type, Why, code_of
from edge_inspector.wire.header import Header, digest

Answer = tuple[Outcome, Reason | None]
PASS: Answer = (Outcome.PASS, None)


class PretendDaemon:
    """
    Settles every whole frame at once as `answer`, a tombstone as its cause; `log` is its memory.

    `settle = False` keeps frames unanswered, `mute` says nothing at all, `nacks[seq]` are sent
    before the frame is looked at. `faults` names what a source did against the protocol.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.answer = PASS
        self.settle = True
        self.accept = False
        self.mute = False
        self.raw: deque[list[bytes]] = deque()
        self.refuse: Nack | None = None
        self.nacks: dict[int, list[Nack]] = defaultdict(list)
        self.recipes = ["board"]
        self.credit_msgs, self.credit_bytes = 8, 1 << 20
        self.return_credit = True
        self.max_part, self.max_payload = 1 << 20, 1 << 24
        self.settled_upto = 0
        self.hellos: list[Hello] = []
        self.frames: list[tuple[Header, FrameFacts]] = []
        self.pixels: dict[int, bytes] = {}
        self.log: dict[tuple[bytes, int], tuple[int, Answer]] = {}
        self.beats = self.pongs = self.byes = 0
        self.faults: list[str] = []
        self._used: dict[bytes, list[int]] = {}
        self._parts: dict[int, bytearray] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """As a kill: no word of farewell; the log survives."""
        self._stop.set()
        self._thread.join()
        self._used.clear()
        self._parts.clear()

    def seqs(self, *, tombstones: bool = False) -> list[int]:
        return [h.seq for h, _ in list(self.frames) if assured.is_tombstone(h) is tombstones]

    def _run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as self._socket:
            self._socket.linger = 0
            self._socket.bind(self.endpoint)
            beat_ns = clock.now_ns()
            while not self._stop.is_set():
                if self._socket.poll(5):
                    peer, *parts = self._socket.recv_multipart()
                    self._hear(peer, parts)
                if clock.now_ns() >= beat_ns:
                    beat_ns += 100 * clock.NS_PER_MS
                    for peer in self._used:
                        self._say(peer, Type.HEARTBEAT, Heartbeat(state="ready"))
                        self._say(peer, Type.PING, Ping(), seq=7)
                while self.raw:
                    for peer in self._used:
                        self._socket.send_multipart([peer, *self.raw[0]])
                    self.raw.popleft()

    def _say(self, peer: bytes, kind: Type, metadata: Metadata, **fields: int | bytes) -> None:
        if not self.mute:
            header = Header(type=kind, **fields)  # type: ignore[arg-type]
            self._socket.send_multipart([peer, *assured.build(metadata, header)])

    def _hear(self, peer: bytes, parts: list[bytes]) -> None:
        message = assured.split(parts)
        metadata = assured.read(message)
        if isinstance(metadata, Hello):
            self._greet(peer, metadata)
        elif peer not in self._used:
            self._say(peer, Type.NACK, Nack(why=Why.HELLO_FIRST), seq=message.header.seq)
        elif isinstance(metadata, FrameFacts):
            self._frame(peer, message.header, metadata, bytes(message.payload))
        elif isinstance(metadata, Heartbeat):
            self.beats += 1
        elif isinstance(metadata, Pong):
            self.pongs += message.header.seq == 7
        elif isinstance(metadata, Bye):
            self.byes += 1

    def _greet(self, peer: bytes, hello: Hello) -> None:
        self.hellos.append(hello)
        if self.refuse is not None:
            self._say(peer, Type.NACK, self.refuse)
            return
        if self.mute:
            return
        self._used[peer] = [0, 0]
        welcome = Welcome(
            version=1,
            link=f"link-{len(self.hellos)}",
            state="ready",
            credit_msgs=self.credit_msgs,
            credit_bytes=self.credit_bytes,
            settled_upto=self.settled_upto,
            max_part=self.max_part,
            max_payload=self.max_payload,
            ttl_ms=300,
            recipes=self.recipes,
        )
        self._say(peer, Type.WELCOME, welcome)

    def _frame(self, peer: bytes, header: Header, facts: FrameFacts, payload: bytes) -> None:
        self.frames.append((header, facts))
        if self.nacks[header.seq]:
            nack = self.nacks[header.seq].pop(0)
            self._say(peer, Type.NACK, nack, seq=header.seq, epoch=header.epoch)
            return
        if assured.is_tombstone(header):
            assert facts.why is not None
            self._settle(peer, header, (Outcome.UNINSPECTED, TOMBSTONES[facts.why]))
            return
        used = self._used[peer]
        used[0] += 1
        used[1] += len(payload)
        if self.return_credit:
            credit = Credit(self.credit_msgs + used[0], self.credit_bytes + used[1])
            self._say(peer, Type.CREDIT, credit)
        elif used[0] > self.credit_msgs or used[1] > self.credit_bytes:
            self.faults.append(f"frame {header.seq} is over credit")
        self._assemble(peer, header, facts, payload)

    def _assemble(self, peer: bytes, header: Header, facts: FrameFacts, payload: bytes) -> None:
        body = self._parts.setdefault(header.seq, bytearray())
        if header.offset == 0:
            body.clear()
        if header.offset != len(body):
            self.faults.append(f"chunk at {header.offset} of frame {header.seq} is out of order")
        body += payload
        if not header.has(Flag.LAST):
            return
        if len(body) != (facts.total_len or len(body)) or digest(bytes(body)) != header.digest:
            self.faults.append(f"frame {header.seq} is not what its header says")
        self.pixels[header.seq] = bytes(body)
        if self.accept:
            self._say(peer, Type.ACCEPTED, Accepted(), seq=header.seq, epoch=header.epoch)
        if self.settle:
            self._settle(peer, header, self.answer)

    def _settle(self, peer: bytes, header: Header, answer: Answer) -> None:
        vseq, (outcome, reason) = self.log.setdefault(
            (header.epoch, header.seq), (len(self.log) + 1, answer)
        )
        code = code_of(outcome, reason)
        self._say(
            peer,
            Type.SETTLED,
            Settled(vseq=vseq, detail="because"),
            seq=header.seq,
            epoch=header.epoch,
            pixel_format=code,
            codec=code ^ 0xFF,
        )


@pytest.fixture
def pretend_daemon(tmp_path: Path):
    """A pretend daemon that serves; a source against the protocol fails the test."""
    daemon = PretendDaemon(f"ipc://{tmp_path}/frames.sock")
    daemon.start()
    yield daemon
    daemon.stop()
    assert daemon.faults == []
