"""A source with bad manners, straight on the socket: duplicates, late repeats, disorder."""

from __future__ import annotations

import random
import threading
import uuid
from collections import Counter

import zmq

from edge_inspector import clock
from edge_inspector.wire import assured, codes
from edge_inspector.wire.assured import Credit, FrameFacts, Hello, Settled, Welcome
from edge_inspector.wire.codes import Flag, Type
from edge_inspector.wire.header import Header, digest

WINDOW = 8
IN_FLIGHT = 40


class RudeSource(threading.Thread):
    """
    Offers `frames` frames: one in ten twice, one in twenty again later, in windows shuffled.

    `settled` holds, by frame number, each (vseq, outcome code) that it was told.
    """

    def __init__(self, endpoint, name, frames, pixels, *, triggers, seed):
        super().__init__(daemon=True)
        self.endpoint, self.source_name, self.frames = endpoint, name, frames
        self.pixels, self.triggers = pixels, triggers
        self.chance = random.Random(seed)
        self.epoch = uuid.UUID(int=self.chance.getrandbits(128)).bytes
        self.settled = {}
        self.answers: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self._granted = self._used = 0
        self._open = set()

    def run(self):
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(self.endpoint)
            self._socket = socket
            hello = Hello(name=self.source_name, versions=[1], cameras=["main"])
            socket.send_multipart(assured.build(hello, Header(type=Type.HELLO, epoch=self.epoch)))
            for seq, kind in self._plan():
                self._offer(seq, kind)
            give_up_ns = clock.now_ns() + 10 * 10**9
            while len(self.settled) < self.frames and clock.now_ns() < give_up_ns:
                self._hear(50)

    def _plan(self):
        """Frame numbers in the order in which they are sent, and why."""
        late: list[tuple[int, int]] = []
        for first in range(1, self.frames + 1, WINDOW):
            window = list(range(first, min(first + WINDOW, self.frames + 1)))
            if self.chance.random() < 0.5:
                self.chance.shuffle(window)
            for seq in window:
                yield seq, "new"
                if self.chance.random() < 0.10:
                    yield seq, "twice"
                if self.chance.random() < 0.05:
                    late.append((seq + self.chance.randint(20, 300), seq))
            due = [seq for at, seq in late if at <= first]
            late = [(at, seq) for at, seq in late if at > first]
            for seq in due:
                yield seq, "late"
        for _, seq in late:
            yield seq, "late"

    def _offer(self, seq, kind):
        while self._used >= self._granted or (kind == "new" and len(self._open) >= IN_FLIGHT):
            self._hear(50)
        pixels = self.pixels(seq)
        header = Header(
            type=Type.FRAME, flags=Flag.LAST, epoch=self.epoch, seq=seq,
            trigger_id=seq if self.triggers else 0, t_mono_ns=clock.now_ns(), budget_us=2_000_000,
            width=pixels.shape[1], height=pixels.shape[0], pixel_format=1, camera=1,
            digest=digest(pixels.data),
        )  # fmt: skip
        facts = FrameFacts(unit_id=None if self.triggers else f"{self.source_name}-{seq}")
        self._socket.send_multipart(assured.build(facts, header, pixels.reshape(-1).data))
        self._used += 1
        self.sent[kind] += 1
        if kind == "new":
            self._open.add(seq)
        self._hear(0)

    def _hear(self, wait_ms):
        while self._socket.poll(wait_ms):
            wait_ms = 0
            message = assured.split(self._socket.recv_multipart())
            metadata = assured.read(message)
            self.answers[type(metadata).__name__] += 1
            if isinstance(metadata, Welcome):
                self._granted = metadata.credit_msgs
            elif isinstance(metadata, Credit):
                self._granted = metadata.msgs
            elif isinstance(metadata, Settled):
                header = message.header
                codes.outcome_of(header.code, header.complement)
                self._open.discard(header.seq)
                self.settled.setdefault(header.seq, set()).add((metadata.vseq, header.code))
            elif isinstance(metadata, assured.Ping):
                self._socket.send_multipart(
                    assured.build(assured.Pong(), Header(type=Type.PONG, seq=message.header.seq))
                )
