"""A remote I/O coupler as a Modbus TCP client sees it: two outputs that keep what was written last."""

from __future__ import annotations

from typing import Any

from edge_inspector import clock
from edge_inspector.importer import load
from edge_inspector.settings_sinks import DiscreteSink

CLIENT = "pymodbus.client:ModbusTcpClient"
MODBUS_ERROR = "pymodbus.exceptions:ModbusException"
RETRY_NS = 50 * clock.NS_PER_MS


class Coupler:
    """
    The outputs, as far as they were acknowledged; after any doubt both are written again.

    Raises `BackendMissing` where the package pymodbus is not installed.
    """

    def __init__(self, sink: DiscreteSink) -> None:
        self._error = load(MODBUS_ERROR)
        self._client = load(CLIENT)(
            sink.host, port=sink.port, timeout=sink.timeout_ms / 1000, retries=0
        )
        self._sink = sink
        self._held: dict[int, bool] = {}
        self._retry_ns = 0
        self.problem = "not asked yet"

    @property
    def answers(self) -> bool:
        """Whether the last thing that was written was acknowledged."""
        return not self.problem

    def show(self, *, passing: bool, beat: bool) -> None:
        """Write what is not there already, the pass output first; never raises."""
        if not self.answers and clock.now_ns() < self._retry_ns:
            return
        try:
            if not self._client.connected and not self._client.connect():
                raise OSError("nobody answers")
            self._write(self._sink.pass_coil, passing)
            self._write(self._sink.watchdog_coil, beat)
            self.problem = ""
        except (self._error, OSError) as error:
            self._client.close()
            self._held.clear()
            self.problem = str(error) or type(error).__name__
            self._retry_ns = clock.now_ns() + RETRY_NS

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def _write(self, coil: int, wanted: bool) -> None:
        if self._held.get(coil) is wanted:
            return
        self._held.pop(coil, None)
        answer: Any = self._client.write_coil(coil, wanted, device_id=self._sink.device)
        if answer.isError() or answer.bits[:1] != [wanted]:
            raise OSError(f"coil {coil} was not written: {answer}")
        self._held[coil] = wanted
