"""ZeroMQ socket options that every socket of ours gets, and which endpoints may be bound."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path

import zmq

from edge_inspector.errors import Breakage, Misuse

HEARTBEAT_MS = 1000
HEARTBEAT_TIMEOUT_MS = 3000
HANDSHAKE_MS = 2000
RECONNECT_MS = 100
RECONNECT_MAX_MS = 5000
_LARGE = 8192
_AT_ONCE = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
"""As numbers: `|` of pyzmq's flags takes 2 us for each part."""


def open_socket(
    context: zmq.Context[zmq.Socket[bytes]], kind: int, *, hwm: int, max_bytes: int = -1
) -> zmq.Socket[bytes]:
    """A socket that never holds the process, notices dead peers, and caps parts at `max_bytes`."""
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, hwm)
    socket.setsockopt(zmq.RCVHWM, hwm)
    socket.setsockopt(zmq.MAXMSGSIZE, max_bytes)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
    return socket


def send(socket: zmq.Socket[bytes], parts: Sequence[bytes | memoryview]) -> None:
    """Send a message without waiting; raises `zmq.Again`. As pyzmq does it, in two thirds of the time."""
    *first, last = parts
    for part in first:
        socket.send(part, _MORE)
    socket.send(last, _AT_ONCE)


def receive(socket: zmq.Socket[bytes], most: int) -> list[bytes | memoryview]:
    """
    The next message without waiting, large parts where they lie; raises `zmq.Again`.

    Of more than `most` parts one more is kept, to show it.
    """
    frame = socket.recv(_AT_ONCE, copy=False)
    parts = [_part(frame)]
    while frame.more:
        frame = socket.recv(_AT_ONCE, copy=False)
        if len(parts) <= most:
            parts.append(_part(frame))
    return parts


def _part(frame: zmq.Frame) -> bytes | memoryview:
    return frame.bytes if len(frame) < _LARGE else frame.buffer


def connect(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """
    Connect; an absent peer is no error, and is not queued for either.

    A SUB is left without IMMEDIATE: with it, it subscribes only once it is read.
    """
    check_endpoint(endpoint)
    socket.setsockopt(zmq.IMMEDIATE, int(socket.type != zmq.SUB))
    socket.setsockopt(zmq.IPV6, int("[" in endpoint))
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise Misuse(f"cannot connect to {endpoint}: {error.strerror}; mend the endpoint") from None


def bind(socket: zmq.Socket[bytes], endpoint: str, allow: Sequence[str] = ()) -> None:
    """Bind to one address; raises `Misuse` for a wildcard or, off loopback, without `allow`."""
    check_bind(endpoint, allow)
    socket.setsockopt(zmq.IPV6, int("[" in endpoint))
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise Breakage(
            f"cannot bind {endpoint}: {error.strerror}; stop what uses it or name another endpoint"
        ) from None


def check_endpoint(endpoint: str) -> None:
    """Only tcp and ipc carry frames and verdicts."""
    if not endpoint.startswith(("tcp://", "ipc://", "inproc://")):
        raise Misuse(f"endpoint '{endpoint}': write tcp://address:port or ipc://path")


def check_bind(endpoint: str, allow: Sequence[str]) -> None:
    """Refuse what would listen to more than was meant."""
    check_endpoint(endpoint)
    for cidr in allow:
        network(cidr)
    if not endpoint.startswith("tcp://"):
        return
    host = endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    if host == "localhost":
        return
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise Misuse(
            f"bind to '{endpoint}': write the address of one interface, such as tcp://127.0.0.1:5574;"
            " names and wildcards are refused"
        ) from None
    if address.is_unspecified:
        raise Misuse(f"bind to '{endpoint}': a wildcard listens on every interface; name one")
    if not address.is_loopback and not allow:
        raise Misuse(
            f"bind to '{endpoint}' is reachable from the network; "
            "list who may send, such as allow = ['10.0.0.0/24']"
        )


def check_local(endpoint: str) -> None:
    """Refuse what a stranger could reach: the ASSURED tier has no keys yet."""
    check_bind(endpoint, ())
    if not endpoint.startswith(("ipc://", "tcp://")):
        raise Misuse(f"endpoint '{endpoint}': write ipc://path or tcp://127.0.0.1:port")


def open_to_group(endpoint: str) -> None:
    """Let this user and group alone use an ipc socket that was bound."""
    if endpoint.startswith("ipc://"):
        Path(endpoint.removeprefix("ipc://")).chmod(0o660)


def network(cidr: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A network of an address list; raises `Misuse`."""
    try:
        return ipaddress.ip_network(cidr)
    except ValueError as error:
        raise Misuse(f"allow '{cidr}': {error}; write an address or a network") from None
