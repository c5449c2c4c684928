"""A controller with Modbus registers, on loopback: as much of the protocol as the poller uses."""

from __future__ import annotations

import socketserver
import struct
import threading


class Controller:
    """Serves `registers` by address; with `mute` it takes requests and never answers."""

    def __init__(self, *, mute: bool = False) -> None:
        self.registers = [0] * 16
        self.mute = mute
        self.asked = 0
        outer = self

        class Peer(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                while len(request := self.request.recv(12)) == 12:
                    outer.asked += 1
                    if not outer.mute:
                        self.request.sendall(outer.answer(request))

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Peer)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def answer(self, request: bytes) -> bytes:
        number, _, _, device, function, first, count = struct.unpack(">HHHBBHH", request)
        if function not in (3, 4) or first + count > len(self.registers):
            return struct.pack(">HHHBBB", number, 0, 3, device, function | 0x80, 2)
        values = struct.pack(f">{count}H", *self.registers[first : first + count])
        return (
            struct.pack(">HHHBBB", number, 0, 3 + len(values), device, function, len(values))
            + values
        )

    def say(self, trigger_id: int, outcome: int, counter: int = 0) -> None:
        """The incumbent's verdict: trigger id in 0 and 1, outcome in 2, counter in 3."""
        self.registers[0:4] = [trigger_id >> 16, trigger_id & 0xFFFF, outcome, counter]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
