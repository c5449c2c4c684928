"""The ROUTER that line controllers connect to: whole messages in and out, nothing ever waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import zmq

from edge_inspector.errors import Misuse
from edge_inspector.wire import assured, sockets
from edge_inspector.wire.assured import Part

MAX_PART = 64 * 1024
QUEUE = 4096
"""Messages on their way to one consumer: both windows, replies and heartbeats; not the backlog."""
INBOX = 32

Fate = Literal["sent", "full", "gone"]


class Door:
    """Bound when it is made, to this host alone; raises `Misuse` or `Breakage` where it cannot."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        try:
            sockets.check_local(endpoint)
        except Misuse:
            raise Misuse(
                f"verdicts cannot be served at '{endpoint}': beyond this host that needs CURVE, "
                "which is not there yet; write ipc://path or tcp://127.0.0.1:port"
            ) from None
        self.socket = sockets.open_socket(context, zmq.ROUTER, hwm=QUEUE, max_bytes=MAX_PART)
        self.socket.setsockopt(zmq.RCVHWM, INBOX)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.socket.setsockopt(zmq.ROUTER_HANDOVER, 0)
        sockets.bind(self.socket, endpoint)
        sockets.open_to_group(endpoint)

    def receive(self) -> tuple[bytes, list[Part]] | None:
        """Who says what, None when nobody does; of too many parts only as many as show it."""
        try:
            peer, *parts = sockets.receive(self.socket, assured.MAX_PARTS + 1)
        except zmq.Again:
            return None
        return bytes(peer), parts

    def send(self, peer: bytes, parts: Sequence[Part]) -> Fate:
        """Hand a message over, or say why not: the peer does not read, or is not there."""
        try:
            sockets.send(self.socket, [peer, *parts])
        except zmq.Again:
            return "full"
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return "gone"
        return "sent"

    def close(self, linger_ms: int) -> None:
        """Let go; what was sent has this long to leave."""
        self.socket.close(linger=linger_ms)
