"""
Copies of frames from a worker to `record`, for which the line never waits.

`record` listens on a Unix socket in the station's store folder; a worker looks for it now and then.
Each frame goes as its head and an anonymous file with its pixels, some at a time: what is not
fetched in time, or would cost a unit its deadline, is dropped, counted, and told with the next one.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np

from edge_inspector import clock
from edge_inspector.errors import Misuse
from edge_inspector.records import FrameHead, Pixels

NAME = "tap.sock"
LOOK_NS = 200 * clock.NS_PER_MS
BUFFER_BYTES = 24576
"""Of the sending socket: ten frames wait unfetched (measured), 160 MiB of the largest kind."""
COPY_NS_PER_BYTE = 4
"""A copy takes 0.3 to 0.6 ns a byte (measured); with less time than this left it is not made."""
MAX_MESSAGE = 64 * 1024


class Copy(msgspec.Struct, frozen=True):
    """What goes with a descriptor; `dropped` counts the copies that this worker could not hand on."""

    head: FrameHead
    dropped: int


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Copy)


class Tap:
    """The worker's side: no call waits or raises."""

    def __init__(self, folder: Path) -> None:
        self.dropped = 0
        self._folder = folder
        self._socket: socket.socket | None = None
        self._look_ns = 0

    def offer(self, head: FrameHead, pixels: Pixels, deadline_ns: int) -> None:
        """Hand a copy of a frame to whoever records, if anybody does."""
        now_ns = clock.now_ns()
        if self._socket is None:
            self._look(now_ns)
        if self._socket is None:
            return
        late = now_ns + COPY_NS_PER_BYTE * pixels.nbytes > deadline_ns
        if late or not select.select([], [self._socket], [], 0)[1]:
            self.dropped += 1
            return
        self._hand(self._socket, head, pixels)

    def close(self) -> None:
        """Let go; whoever records sees it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _look(self, now_ns: int) -> None:
        if now_ns < self._look_ns:
            return
        self._look_ns = now_ns + LOOK_NS
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        try:
            with address(self._folder) as path:
                opened.connect(path)
        except OSError:  # nobody records: ENOENT, or ECONNREFUSED where one was killed
            opened.close()
            return
        self._socket, self.dropped = opened, 0

    def _hand(self, opened: socket.socket, head: FrameHead, pixels: Pixels) -> None:
        try:
            fd = os.memfd_create("edge-inspector-copy", os.MFD_CLOEXEC)
            try:
                os.write(fd, pixels.data)
                socket.send_fds(opened, [_ENCODER.encode(Copy(head, self.dropped))], [fd])
            finally:
                os.close(fd)
        except (BrokenPipeError, ConnectionResetError):
            self.close()
        except OSError:  # EAGAIN, or no descriptor or memory left for it
            self.dropped += 1


@contextmanager
def address(folder: Path) -> Iterator[str]:
    """A name of the socket that is short enough (sun_path has 108 bytes), however long the folder's."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{NAME}"
    finally:
        os.close(fd)


def listen(folder: Path) -> socket.socket:
    """A socket that the workers of a station find; raises `Misuse` when somebody else listens."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with address(folder) as path:
            _remove_stale(path)
            opened.bind(path)
        opened.listen(64)
        opened.setblocking(False)
    except (OSError, Misuse):
        opened.close()
        raise
    return opened


def forget(folder: Path) -> None:
    """Take the listener's name away."""
    with address(folder) as path:
        Path(path).unlink(missing_ok=True)


def receive(connection: socket.socket) -> tuple[Copy, Pixels] | None:
    """The next copy and its pixels, None when the worker is gone; raises `BlockingIOError`."""
    raw, fds, _, _ = socket.recv_fds(connection, MAX_MESSAGE, 1)
    if not raw:
        return None
    (fd,) = fds
    try:
        copy = _DECODER.decode(raw)
        return copy, np.frombuffer(os.pread(fd, copy.head.size, 0), np.uint8)
    finally:
        os.close(fd)


def _remove_stale(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
        except FileNotFoundError:
            return
        else:
            raise Misuse("another process records this station already; wait for it or end it")
