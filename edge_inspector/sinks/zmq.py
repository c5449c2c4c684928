"""Telemetry over ZeroMQ: every committed verdict to whoever listens. It may drop, and never waits."""

from __future__ import annotations

import zmq

from edge_inspector import settings
from edge_inspector.errors import EdgeInspectorError
from edge_inspector.records import Committed
from edge_inspector.wire import sockets, telemetry

_HWM = 1000


class ZmqSink:
    """A PUB socket, bound; listeners see what they missed by gaps in `vseq`."""

    def __init__(self, sink: settings.ZmqSink, station: str) -> None:
        self._station = station
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = sockets.open_socket(self._context, zmq.PUB, hwm=_HWM)
        try:
            sockets.bind(self._socket, sink.endpoint)
        except EdgeInspectorError:
            self.close()
            raise

    def publish(self, row: Committed) -> None:
        """Send one verdict to those who listen."""
        self._socket.send_multipart(telemetry.encode(row))

    def publish_state(self, head_vseq: int, state: str) -> None:
        """Say how the station is; meant for once a second."""
        self._socket.send_multipart(telemetry.encode_state(self._station, head_vseq, state))

    def close(self) -> None:
        """Let go; what was handed to the network a moment ago still goes out."""
        self._context.destroy(linger=200)
