"""A DEALER that one thread reads and writes, other threads wake, and silence replaces."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

import zmq

from edge_inspector.client.frames import Part
from edge_inspector.errors import Misuse
from edge_inspector.wire import assured, sockets

_HWM = 256
_MAX_REPLY = 64 * 1024
_BURST = 256
_LINGER_MS = 200
_LARGE = 512 * 1024
"""From here on copying a frame takes longer than handing its memory over, with a thread for that."""


class Link:
    """One connection to the daemon's frames endpoint; only `wake` may be called by any thread."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._bell, self._ear = socket.socketpair()
        self._rung = False
        self._bell.setblocking(False)
        self._ear.setblocking(False)
        self._poller = zmq.Poller()
        self._poller.register(self._ear.fileno(), zmq.POLLIN)
        try:
            self._socket = self._opened()
        except Misuse:
            self.close()
            raise

    def renew(self) -> None:
        """Let go of the connection, of what it holds unsent too, and open another."""
        self._poller.unregister(self._socket)
        self._socket.close(linger=0)
        self._socket = self._opened()

    def send(self, parts: Sequence[Part]) -> bool:
        """False where nobody is connected or the pipe is full."""
        try:
            if memoryview(parts[-1]).nbytes < _LARGE:
                sockets.send(self._socket, parts)
            else:
                self._socket.send_multipart(parts, zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        return True

    def receive(self) -> Iterator[list[Part]]:
        """What has come, a bounded number of messages."""
        for _ in range(_BURST):
            try:
                yield sockets.receive(self._socket, assured.MAX_PARTS)
            except zmq.Again:
                return

    def poll(self, timeout_ms: int, *, writable: bool) -> None:
        """Wait for a message, for `wake`, and with `writable` for room in the pipe."""
        self._poller.modify(self._socket, zmq.POLLIN | (zmq.POLLOUT if writable else 0))
        if (self._ear.fileno(), zmq.POLLIN) in self._poller.poll(timeout_ms):
            self._ear.recv(4096)
            self._rung = False

    def wake(self) -> None:
        """End a `poll` of the other thread; harmless, and cheap, where it is being ended already."""
        if self._rung:
            return
        self._rung = True
        try:
            self._bell.send(b"\0")
        except BlockingIOError:
            return  # it is being rung already

    def close(self) -> None:
        """Give what was just sent a moment to leave, then let go."""
        self._context.destroy(linger=_LINGER_MS)
        self._bell.close()
        self._ear.close()

    def _opened(self) -> zmq.Socket[bytes]:
        opened = sockets.open_socket(self._context, zmq.DEALER, hwm=_HWM, max_bytes=_MAX_REPLY)
        sockets.connect(opened, self.endpoint)
        self._poller.register(opened, zmq.POLLIN)
        return opened
