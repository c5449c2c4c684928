"""Ingest started for real, with the test in core's place: it grants slots and reads heads."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
import zmq

from edge_inspector import channel, clock, slots
from edge_inspector.channel import Alive, Answer, Answers, Arrived, Failed, Grant, Pulse, Ready
from edge_inspector.ingest import IngestConfig
from edge_inspector.records import Outcome
from edge_inspector.slots import Slots
from edge_inspector.wire.codes import CODES
from edge_inspector.wire.pixels import to_array
from tests.core_side import CoreSide
from tests.ingest.peer import Peer

SLOT_BYTES = 1024 * 1024


class Core(CoreSide):
    """Core's side of the line to one ingest process."""

    def __init__(self, sources, *, slots_granted=8, slot_bytes=SLOT_BYTES, **config):
        self.fd = slots.create(max(slots_granted, 1), slot_bytes)
        self.slots = Slots(self.fd, slot_bytes, writable=False)
        self.alive_ns = []
        self.early = []
        values = {
            "station": "st1",
            "recipe": "board",
            "cameras": ("main", "side"),
            "recipes": ("board",),
            "sources": tuple(sources),
            "slot_bytes": slot_bytes,
            "max_pixels": 4_000_000,
            **config,
        }
        super().__init__(
            ("-m", "edge_inspector.ingest"),
            IngestConfig(**values).encode(),
            {"OPENCV_IO_MAX_IMAGE_PIXELS": "4000000"},
            slots=self.fd,
        )
        self.granted = slots_granted

    def start(self):
        """Wait until its sockets are bound, grant the slots."""
        self.started = self.message(Ready, Failed)
        if isinstance(self.started, Ready):
            self.line.send(Grant(tuple(range(self.granted))))
        return self

    def take(self, message):
        if isinstance(message, Alive):
            self.alive_ns.append(clock.now_ns())

    def frame(self, *, keep=False, timeout_s=10.0):
        """The next head; its slot is granted again at once unless the test keeps it."""
        arrived = self.message(Arrived, timeout_s=timeout_s)
        assert arrived is not None, "ingest is gone"
        head = arrived.head
        self.pixels = None
        if head.slot >= 0:
            view = self.slots.view(head.slot, head.size)
            self.pixels = None if head.fault else view.copy()
            if not keep:
                self.line.send(Grant((head.slot,)))
        return head

    def array(self, head):
        """Pixels of the last frame as a worker sees them."""
        assert self.pixels is not None
        return to_array(head, self.pixels, 4_000_000)

    def answer(self, head, text="OK", **fields):
        self.line.send(Answers((Answer(head.ticket, text, **fields),)))

    def accept(self, head):
        self.answer(head, "", kind="accepted", final=False)

    def settle(self, head, vseq, outcome=Outcome.PASS, **fields):
        self.answer(head, "", kind="settled", vseq=vseq, code=CODES[outcome], **fields)

    def pulse(self, state="ready", head_vseq=0, toggle=False):
        self.line.send(Pulse(head_vseq, min(1, head_vseq), state, toggle))

    def rss_mib(self):
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def hang_up(self):
        """As if core had died."""
        self.line.close()
        self.line, other = channel.pair()
        other.close()

    def close(self):
        try:
            super().close()
        finally:
            self.slots.close()
            os.close(self.fd)


@pytest.fixture
def start_ingest():
    """Starts an ingest process on the given sources; it must leave in peace at the end."""
    with ExitStack() as stack:

        def start(*sources, **config):
            core = Core(sources, **config)
            stack.callback(core.close)
            return core.start()

        yield start


@pytest.fixture
def endpoint():
    """A free TCP endpoint of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def connect():
    """Opens peers of the ASSURED tier; each says HELLO unless told otherwise."""
    with zmq.Context() as context, ExitStack() as stack:

        def open_peer(endpoint, *, hello=True, **keys):
            peer = Peer(context, endpoint, **keys)
            stack.callback(peer.close)
            if hello:
                peer.hello()
            return peer

        yield open_peer
