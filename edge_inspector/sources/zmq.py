"""
Frames over ZeroMQ, PLAIN tier: SUB connects or binds, PULL binds, requests are a ROUTER that binds.

The ROUTER keeps the envelope that REP would hide, so that many requests may wait at once.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence

import zmq
from zmq.utils.monitor import recv_monitor_message

from edge_inspector import clock, settings
from edge_inspector.channel import Answer
from edge_inspector.errors import Misuse
from edge_inspector.records import Reason
from edge_inspector.sources.arrival import Arrival, Offer, Surroundings, new_epoch
from edge_inspector.sources.zap import domain
from edge_inspector.wire import sockets
from edge_inspector.wire.plain import MAX_METADATA, BadFrame, Part, Rules, decode

_KINDS = {"zmq-sub": zmq.SUB, "zmq-pull": zmq.PULL, "zmq-rep": zmq.ROUTER}
_QUEUE_BYTES = 256 * 1024 * 1024
_MAX_QUEUE = 64
_BURST = 64
"""Messages read before answers and the monitor get their turn."""
_WAKE_MS = 100


class ZmqSource:
    """One PLAIN socket; opened, and bound, when it is made."""

    def __init__(self, source: settings.ZmqSource, around: Surroundings) -> None:
        if source.bind is False and source.type != "zmq-sub":
            raise Misuse(f"source '{source.name}': {source.type} binds; remove bind = false")
        self._settings = source
        self._count = around.count
        self._rules = Rules(
            camera=source.camera,
            recipe=source.recipe or around.recipe,
            cameras=around.cameras,
            recipes=around.recipes,
            msg_is=source.msg_is,
            max_bytes=around.max_bytes,
            max_pixels=around.max_pixels,
        )
        self._stopping = threading.Event()
        self._epoch = new_epoch()
        self._queue = max(4, min(_MAX_QUEUE, _QUEUE_BYTES // around.max_bytes))
        self._socket = sockets.open_socket(
            around.context,
            _KINDS[source.type],
            hwm=self._queue,
            max_bytes=max(around.max_bytes, MAX_METADATA),
        )
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._connects = source.type == "zmq-sub" and not source.bind
        self._attach()
        inbox = f"inproc://answers-{source.name}"
        self._answers = sockets.open_socket(around.context, zmq.PULL, hwm=1024)
        self._answers.bind(inbox)
        self._reply = sockets.open_socket(around.context, zmq.PUSH, hwm=1024)
        self._reply.connect(inbox)

    def run(self, offer: Offer) -> None:
        """Receive until `stop` is called."""
        poller = zmq.Poller()
        for socket in (self._socket, self._monitor, self._answers):
            poller.register(socket, zmq.POLLIN)
        try:
            while not self._stopping.is_set():
                ready = dict(poller.poll(_WAKE_MS))
                if self._socket in ready:
                    self._receive(offer, _BURST)
                if self._answers in ready:
                    self._send_answers()
                if self._monitor in ready:
                    self._disconnected(offer)
        finally:
            self._socket.disable_monitor()
            for socket in (self._socket, self._monitor, self._answers):
                socket.close(linger=0)

    def stop(self) -> None:
        """Make `run` return; called from the thread that made the source, as answers are."""
        self._stopping.set()
        self._reply.close(linger=0)

    def _attach(self) -> None:
        source, socket = self._settings, self._socket
        if source.type == "zmq-sub":
            socket.subscribe(b"")
        if source.type == "zmq-rep":
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        if source.allow and source.endpoint.startswith("tcp://"):
            socket.setsockopt_string(zmq.ZAP_DOMAIN, domain(source.name))
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        if self._connects:
            sockets.connect(socket, source.endpoint)
            return
        sockets.bind(socket, source.endpoint, source.allow)
        sockets.open_to_group(source.endpoint)

    def _receive(self, offer: Offer, most: int) -> None:
        for _ in range(most):
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            offer(self._read(parts))

    def _read(self, parts: Sequence[Part]) -> Arrival:
        arrived_ns = clock.now_ns()
        reply = None
        if self._settings.type == "zmq-rep":
            cut = next((i for i, part in enumerate(parts) if i and not part), 0)
            reply = functools.partial(self._answer, [bytes(part) for part in parts[: cut + 1]])
            parts = parts[cut + 1 :]
        try:
            frame = decode(parts, self._rules)
        except BadFrame as error:
            return Arrival(
                arrived_ns=arrived_ns,
                epoch=self._epoch,
                identity=error.identity,
                fault=Reason.BAD_INPUT,
                detail=str(error),
                reply=reply,
            )
        return Arrival(
            arrived_ns=arrived_ns,
            epoch=self._epoch,
            pixels=frame.pixels,
            layout=frame.layout,
            identity=frame.identity,
            camera=frame.camera,
            recipe=frame.recipe,
            reply=reply,
            incumbent=frame.incumbent,
        )

    def _answer(self, envelope: Sequence[bytes], answer: Answer) -> None:
        """From the thread of answers to the thread that owns the ROUTER."""
        try:
            self._reply.send_multipart([*envelope, answer.text.encode()], zmq.NOBLOCK)
        except zmq.Again:
            self._count(self._settings.name, "unanswered")

    def _send_answers(self) -> None:
        while self._answers.poll(0):
            try:
                self._socket.send_multipart(self._answers.recv_multipart(), zmq.NOBLOCK)
            except zmq.ZMQError:  # the peer left, or does not read: EHOSTUNREACH, EAGAIN
                self._count(self._settings.name, "unanswered")

    def _disconnected(self, offer: Offer) -> None:
        """
        A SUB that was cut by an oversized part never comes back by itself (libzmq 4.3.5).

        Its endpoint counts as connected still, so it is disconnected first, after what it holds
        was read: disconnecting drops that.
        """
        while self._monitor.poll(0):
            recv_monitor_message(self._monitor)
            self._count(self._settings.name, "disconnected")
        if self._connects:
            self._receive(offer, 2 * self._queue)
            try:
                self._socket.disconnect(self._settings.endpoint)
            except zmq.ZMQError:  # libzmq has let go of it already: ENOENT
                self._count(self._settings.name, "reconnected")
            sockets.connect(self._socket, self._settings.endpoint)
            self._epoch = new_epoch()
