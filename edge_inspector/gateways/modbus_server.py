"""
The Modbus TCP server around a register board: who may connect, for how long, and what it may ask.

Modbus knows no keys. Peers are told apart by address alone; functions 3, 4, 6 and 16 are served.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.pdu import ExceptionResponse
from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import DataType, SimData, SimDevice

from edge_inspector.errors import Breakage
from edge_inspector.wire.registers import COUNT, HOLDING

CONNECTIONS = 8
IDLE_S = 1.0
READS, WRITES = (3, 4), (6, 16)
_READ_INPUTS = 4
_LONGEST = 254
"""Bytes of unit id and request in one frame (Modbus Messaging on TCP/IP, 3.1.3)."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


class Registers:
    """What the server asks for its registers: the block as it is now, and what a write leads to."""

    def __init__(
        self,
        block: Callable[[], Sequence[int]],
        held: Callable[[], Sequence[int]],
        write: Callable[[int, Sequence[int]], bool],
    ) -> None:
        self._block, self._held, self._write = block, held, write

    async def action(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        current: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Fill `current` before it is read, all of it at once, so that no answer is torn."""
        if values is not None:
            return None if self._write(address, values) else ExcCodes.ILLEGAL_VALUE
        fresh = self._block() if function == _READ_INPUTS else self._held()
        current[: len(fresh)] = fresh
        return None

    def device(self) -> SimDevice:
        """As pymodbus takes it; coils and discrete inputs have to be there and are never served."""
        none = [SimData(0, values=[False] * 16, datatype=DataType.BITS)]
        held = [SimData(0, values=[0] * HOLDING, datatype=DataType.REGISTERS)]
        shown = [SimData(0, values=[0] * COUNT, datatype=DataType.REGISTERS)]
        return SimDevice(0, (none, none, held, shown), action=self.action)


class Connection(ServerRequestHandler):
    """One peer: cut when it is not on the list, is one too many, is idle, or talks nonsense."""

    server: Server

    def __init__(self, owner: Server) -> None:
        super().__init__(owner, None, None, None)  # type: ignore[no-untyped-call]
        self._peer: Address | None = None
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Look at who it is before anything is read."""
        super().connection_made(transport)
        host = transport.get_extra_info("peername")[0].partition("%")[0]
        self._peer = ipaddress.ip_address(host)
        refusal = self.server.refusal(self._peer)
        if refusal:
            self.server.counts[refusal] += 1
            self.close()
            return
        self._rest()

    def callback_data(self, data: bytes, addr: tuple[Any, ...] | None = None) -> int:
        """A frame, or part of one; what can be none ends the connection, as there is no way back."""
        if not self.is_active():
            return len(data)
        self._rest()
        length = int.from_bytes(data[4:6], "big") if len(data) >= 6 else 2
        if any(data[2:4]) or not 2 <= length <= _LONGEST:
            self.server.counts["modbus_unreadable"] += 1
            self.close()
            return len(data)
        if len(data) < max(8, 6 + length) or data[7] in (*READS, *WRITES):
            return super().callback_data(data, addr)
        self._refuse(data[7], data[6], int.from_bytes(data[:2], "big"))
        return 6 + length

    async def handle_request(self) -> None:
        """Answer one request; only the writer's writes are done."""
        pdu = self.last_pdu
        if pdu is None or pdu.function_code not in WRITES or self.server.may_write(self._peer):
            await super().handle_request()  # type: ignore[no-untyped-call]
            return
        self.server.counts["modbus_not_writer"] += 1
        self._refuse(pdu.function_code, pdu.dev_id, pdu.transaction_id)

    def callback_disconnected(self, exc: Exception | None) -> None:
        """It is gone."""
        if self._idle is not None:
            self._idle.cancel()
        super().callback_disconnected(exc)

    def _refuse(self, function: int, unit: int, transaction: int) -> None:
        """Under its own function code, where pymodbus would answer an unknown one as function 0."""
        refused = ExceptionResponse(function & 0x7F, ExcCodes.ILLEGAL_FUNCTION, unit, transaction)
        self.server_send(refused, None)  # type: ignore[no-untyped-call]

    def _rest(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = self.loop.call_later(IDLE_S, self._expire)

    def _expire(self) -> None:
        self.server.counts["modbus_idle"] += 1
        self.close()


class Server(ModbusTcpServer):
    """Listens for PLCs; counts what it refuses."""

    def __init__(
        self,
        registers: Registers,
        address: tuple[str, int],
        *,
        allow: Sequence[Network] = (),
        writer: Address | None = None,
        counts: Counter[str] | None = None,
    ) -> None:
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
        super().__init__(registers.device(), address=address)
        self.counts: Counter[str] = Counter() if counts is None else counts
        self._allow = tuple(allow) or LOOPBACK
        self._writer = writer

    def callback_new_connection(self) -> Connection:
        """One more peer."""
        return Connection(self)

    def refusal(self, peer: Address) -> str:
        """Why this peer is not served, as the name of a counter; empty where it is."""
        if not any(peer in network for network in self._allow):
            return "modbus_not_allowed"
        return "modbus_too_many" if len(self.active_connections) > CONNECTIONS else ""

    def may_write(self, peer: Address | None) -> bool:
        """Whether this peer's writes are done."""
        return self._writer is None or peer == self._writer

    async def start(self) -> None:
        """Listen; raises `Breakage` where the port cannot be had."""
        if not await self.listen():
            host, port = self.comm_params.source_address or ("", 0)
            raise Breakage(
                f"modbus {host}:{port} cannot be listened on: taken, or not an address of this box; "
                "give the sink another port, or its host"
            )
