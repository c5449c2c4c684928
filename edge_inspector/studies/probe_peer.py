"""
Which kind of ZeroMQ socket connects to an endpoint, found out without answering as the wrong one.

libzmq gives a connection up for good when a socket of a kind that does not fit answers it; one that
is cut in the middle of its handshake (ZMTP 3.0, rfc.zeromq.org/spec/23) comes back.
"""

from __future__ import annotations

import errno
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

from edge_inspector import clock
from edge_inspector.errors import Breakage, Misuse

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
KEY = b"\x0bSocket-Type"
MOST = 512
PATIENCE = 0.4
"""Share of the time in which a publisher that was just started may still bind."""


def listens(uri: str) -> bool:
    """Whether somebody is bound to it: then it is for us to connect, and never to bind over it."""
    family, address = _address(uri)
    with socket.socket(family) as probing:
        probing.settimeout(0.5)
        try:
            probing.connect(address)
        except OSError:
            return False
    return True


def appears(uri: str, until_ns: int) -> bool:
    """Whether somebody is bound to it, or comes to be in the first part of the time."""
    give_up_ns = clock.now_ns() + int(PATIENCE * (until_ns - clock.now_ns()))
    while not listens(uri):
        if clock.now_ns() > give_up_ns:
            return False
        time.sleep(0.1)
    return True


def connecting(uri: str, until_ns: int) -> str | None:
    """
    The type of the first socket that connects, as PUSH, REQ or PUB; None when none does in time.

    SUB when `uri` is no address of this box, so that only we could connect. Raises `Breakage`.
    """
    family, address = _address(uri)
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            if isinstance(address, str):
                Path(address).unlink(missing_ok=True)  # nobody listens there
            listener.bind(address)
        except socket.gaierror as error:
            raise Breakage(f"{uri}: {error.strerror}; mend the name") from None
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                return "SUB"
            raise Breakage(f"cannot listen at {uri}: {error.strerror}") from None
        listener.listen()
        try:
            while (left_s := (until_ns - clock.now_ns()) / 1e9) > 0:
                listener.settimeout(left_s)
                if (found := _asked(listener, left_s)) is not None:
                    return found
        finally:
            if isinstance(address, str):
                Path(address).unlink(missing_ok=True)
    return None


def _asked(listener: socket.socket, left_s: float) -> str | None:
    """What the next one to connect says that it is."""
    try:
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(min(1.0, left_s))
            peer.sendall(GREETING)
            return _read(peer)
    except OSError:  # nobody came, or it was no ZeroMQ socket
        return None


def _read(peer: socket.socket) -> str | None:
    said = b""
    while len(said) < MOST and (more := peer.recv(MOST)):
        said += more
        at = said.find(KEY)
        rest = said[at + len(KEY) :] if at >= 0 else b""
        if len(rest) >= 4 and len(rest) >= 4 + (size := int.from_bytes(rest[:4], "big")):
            return rest[4 : 4 + size].decode("ascii", "replace")
    return None


def _address(uri: str) -> tuple[int, str | tuple[str, int]]:
    if uri.startswith("ipc://"):
        return socket.AF_UNIX, uri.removeprefix("ipc://")
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or port is None:
        raise Misuse(f"'{uri}'; write tcp://address:port")
    return socket.AF_INET6 if ":" in host else socket.AF_INET, (host, port)
