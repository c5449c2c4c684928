"""Address lists for sockets without CURVE: answers libzmq's questions (ZeroMQ RFC 27)."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Mapping, Sequence

import zmq

from edge_inspector.wire.sockets import network

ENDPOINT = "inproc://zeromq.zap.01"
_Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


def domain(source: str) -> str:
    """ZAP domain of one source; a socket in it asks who may connect."""
    return f"plain:{source}"


class AddressLists:
    """A thread that lets peers in by address; open it before the sockets that ask."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], allow: Mapping[str, Sequence[str]]
    ) -> None:
        self._lists: dict[bytes, _Networks] = {
            domain(source).encode(): tuple(network(cidr) for cidr in cidrs)
            for source, cidrs in allow.items()
        }
        self._socket = context.socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(ENDPOINT)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="zap", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let go; from then on nobody new comes in."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        with self._socket:
            while not self._stopping.is_set():
                if self._socket.poll(100):
                    self._socket.send_multipart(self._answer(self._socket.recv_multipart()))

    def _answer(self, request: Sequence[bytes]) -> list[bytes]:
        version, number = (*request, b"", b"")[:2]
        if self._admits(request):
            return [version, number, b"200", b"OK", b"", b""]
        return [version, number, b"400", b"address is not in the source's allow list", b"", b""]

    def _admits(self, request: Sequence[bytes]) -> bool:
        if len(request) < 6 or request[0] != b"1.0" or request[5] != b"NULL":
            return False
        try:
            address = ipaddress.ip_address(request[3].decode())
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in one for one in self._lists.get(request[2], ()))
