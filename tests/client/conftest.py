"""A pretend daemon: a ROUTER that follows the protocol as far as a source can tell."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from edge_inspector import clock
from edge_inspector.records import Outcome, Reason, Verdict, chained
from edge_inspector.wire import assured
from edge_inspector.wire.assured import (
    Accepted,
    Ack,
    Bye,
    Credit,
    FrameFacts,
    Heartbeat,
    Hello,
    Metadata,
    Nack,
    NewRun,
    Ping,
    Pong,
    Replay,
    Run,
    Settled,
    Subscribe,
    Subscribed,
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
        return [h.seq for h, _ in list(self.frames) if h.has(Flag.TOMBSTONE) is tombstones]

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
        if header.has(Flag.TOMBSTONE):
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


class PretendDelivery:
    """
    A verdict log behind a ROUTER, as far as one line controller can tell; `said` is what it heard.

    `beating`, `answering` and `refuse` choose whether it sends heartbeats, answers SUBSCRIBE and
    NEW_RUN, or refuses them. Killed and started again, the log and the cursor survive.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.rows: list[tuple[Verdict, bytes]] = []
        self.chains = [0]
        self.run = 1
        self.acked = 0
        self.beating = self.answering = True
        self.refuse: Nack | None = None
        self.said: list[tuple[int, Metadata]] = []
        self._outbox: deque[list[assured.Part]] = deque()
        self._stop = threading.Event()

    def start(self) -> None:
        self._stop.clear()
        self._outbox.clear()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def heard(self, kind: type[Metadata]) -> list[Any]:
        return [said for _, said in list(self.said) if isinstance(said, kind)]

    def commit(self, *, send: bool = True, **facts: Any) -> int:
        """Append a verdict, a fresh pass unless told otherwise, and send it on the live lane."""
        vseq = len(self.rows) + 1
        verdict = Verdict(
            **{
                "unit_key": f"t:st1/{self.run}/{vseq}",
                "station": "st1",
                "outcome": Outcome.PASS,
                "frames": (),
                "recipe": "board",
                "run": self.run,
                "trigger_id": vseq,
                "unit_id": f"A-{vseq}",
                "time_zero_ns": clock.now_ns(),
                "valid_us": 5_000_000,
                "vseq": vseq,
                **facts,
            }
        )
        self.rows.append((verdict, msgspec.msgpack.encode(verdict)))
        self.chains.append(chained(self.chains[-1], self.rows[-1][1]))
        if send:
            self.send(vseq)
        return vseq

    def send(self, vseq: int, flags: int = 0, **wrong: int) -> None:
        verdict, body = self.rows[vseq - 1]
        code = code_of(verdict.outcome, verdict.reason)
        header = Header(
            type=Type.VERDICT,
            flags=flags,
            seq=vseq,
            t_mono_ns=clock.now_ns(),
            pixel_format=code,
            codec=code ^ 0xFF,
            digest=digest(body),
            offset=self.chains[vseq],
        )
        self._outbox.append(assured.assemble(msgspec.structs.replace(header, **wrong), body))

    def _say(self, kind: Type, metadata: Metadata) -> None:
        header = Header(type=kind, t_mono_ns=clock.now_ns())
        self._outbox.append(assured.build(metadata, header))

    def _run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
            router.linger = 0
            router.sndhwm = 0  # without ROUTER_MANDATORY a full pipe drops and says nothing
            router.bind(self.endpoint)
            peer, beat_ns = b"", 0
            while not self._stop.is_set():
                if router.poll(5):
                    peer, *parts = router.recv_multipart()
                    self._hear(assured.split(parts))
                if not peer:
                    continue
                if self.beating and clock.now_ns() - beat_ns > 50 * clock.NS_PER_MS:
                    beat_ns = clock.now_ns()
                    self._say(Type.HEARTBEAT, Heartbeat(head_vseq=len(self.rows), state="ready"))
                while self._outbox:
                    router.send_multipart([peer, *self._outbox.popleft()])

    def _hear(self, message: assured.Message) -> None:
        said = assured.read(message)
        self.said.append((clock.now_ns(), said))
        if isinstance(said, Ack):
            self.acked = max(self.acked, said.upto)
        elif isinstance(said, Replay):
            for vseq in range(said.first, said.last + 1):
                self.send(vseq, Flag.REPLAY)
        elif self.refuse is not None and isinstance(said, (Subscribe, NewRun)):
            self._say(Type.NACK, self.refuse)
        elif isinstance(said, Subscribe) and self.answering:
            self._subscribe(said.start)
        elif isinstance(said, NewRun) and self.answering:
            self.run += 1
            self._say(Type.RUN, Run(said.station, self.run))

    def _subscribe(self, start: int | str) -> None:
        live_from = len(self.rows) + 1
        first = {0: self.acked + 1, "live": live_from}.get(start, start)
        assert isinstance(first, int)
        subscribed = Subscribed(
            link="1",
            head=live_from - 1,
            oldest=1,
            acked=self.acked,
            live_from=live_from,
            live_chain=self.chains[live_from - 1],
            history_from=first,
            history_chain=self.chains[first - 1],
            run=self.run,
        )
        self._outbox.clear()
        self._say(Type.SUBSCRIBED, subscribed)
        self._say(Type.HEARTBEAT, Heartbeat(head_vseq=live_from - 1, state="ready"))
        for vseq in range(first, live_from):
            self.send(vseq, Flag.HISTORICAL)


@pytest.fixture
def delivery(tmp_path: Path):
    """A pretended delivery that serves one line controller."""
    pretended = PretendDelivery(f"ipc://{tmp_path}/verdicts.sock")
    pretended.start()
    yield pretended
    pretended.stop()
