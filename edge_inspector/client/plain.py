"""Publisher and listener of the PLAIN tier: frames out, telemetry in; what is lost, is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import zmq
from numpy.typing import NDArray

from edge_inspector import clock
from edge_inspector.errors import Breakage, EdgeInspectorError, Misuse
from edge_inspector.wire import plain, sockets, telemetry
from edge_inspector.wire.telemetry import VerdictNote

_KINDS = {"push": zmq.PUSH, "pub": zmq.XPUB, "req": zmq.REQ}
_HWM = 1000
_LINGER_MS = 2000


class Publisher:
    """
    Sends frames to a daemon; numbers them, so that loss shows.

    `push` waits when the daemon does not keep up, `pub` drops what a slow daemon does not take,
    `req` waits for the daemon's word on each frame. `pub` binds unless told otherwise, the others
    connect. One thread per publisher.

        with Publisher("tcp://127.0.0.1:5574") as line:
            for number, image in enumerate(images, start=1):
                line.send(image, unit_id=f"A-{number}", trigger_id=number)
    """

    def __init__(
        self,
        endpoint: str,
        kind: Literal["push", "pub", "req"] = "push",
        *,
        bind: bool | None = None,
        timeout_ms: int = 5000,
    ) -> None:
        if kind not in _KINDS:
            raise Misuse(f"kind '{kind}'; write one of {', '.join(_KINDS)}")
        self.endpoint = endpoint
        self._kind = kind
        self._timeout_ms = timeout_ms
        self._next_seq = clock.utc_ns() // clock.NS_PER_MS
        """Starts at the time, so that a publisher that starts again is seen to have done so."""
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = sockets.open_socket(self._context, _KINDS[kind], hwm=_HWM)
        self._socket.setsockopt(zmq.SNDTIMEO, timeout_ms)
        self._socket.setsockopt(zmq.RCVTIMEO, timeout_ms)
        try:
            if bind if bind is not None else kind == "pub":
                sockets.bind(self._socket, endpoint, ("0.0.0.0/0", "::/0"))
            else:
                sockets.connect(self._socket, endpoint)
        except EdgeInspectorError:
            self._context.destroy(linger=0)
            raise

    def send(
        self,
        pixels: NDArray[Any] | bytes,
        *,
        unit_id: str | int | None = None,
        trigger_id: int | None = None,
        seq: int | None = None,
        camera: str | None = None,
        recipe: str | None = None,
        captured_ns: int | None = None,
        pixel_format: str | None = None,
        incumbent: str | None = None,
        lot: str | None = None,
    ) -> str | None:
        """
        Send one frame: an array (h, w[, c]) of uint8 or uint16, BGR, or JPEG or PNG bytes.

        `captured_ns` is UTC; `seq` counts up by itself; `incumbent` is what another inspector said:
        `pass`, `fail`, `fail:CLASS` or `uninspected`; `lot` is counted by `lots`. The daemon's text for `req`, else None.
        Raises `Breakage` when nobody took it in time.
        """
        number = self._next_seq if seq is None else seq
        parts = plain.encode(
            pixels,
            unit_id=unit_id,
            trigger_id=trigger_id,
            seq=number,
            camera=camera,
            recipe=recipe,
            captured_ns=captured_ns,
            pixel_format=pixel_format,
            incumbent=incumbent,
            lot=lot,
        )
        try:
            self._socket.send_multipart(parts)
            reply = self._socket.recv().decode() if self._kind == "req" else None
        except zmq.Again:
            raise Breakage(
                f"{self.endpoint} did not take frame {number} within {self._timeout_ms} ms; "
                "is the daemon running, and does it keep up?"
            ) from None
        self._next_seq = number + 1
        return reply

    def wait_for_listener(self, timeout_ms: int = 5000) -> bool:
        """For `pub`: wait until somebody subscribed, since what is sent before is lost."""
        return bool(self._kind == "pub" and self._socket.poll(timeout_ms) and self._socket.recv())

    def close(self) -> None:
        """Send what is queued, for at most two seconds, and let go."""
        self._context.destroy(linger=_LINGER_MS)

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Listener:
    """
    Hears verdicts as typed records; for screens and statistics, never for an actuator.

    `dropped` counts verdicts that were published and not heard, by gaps in `vseq`; `head_vseq` is
    the newest that the daemon is known to have.

        with Listener("tcp://127.0.0.1:5572") as verdicts:
            for verdict in verdicts:
                print(verdict.unit_id, verdict.outcome.value)
    """

    def __init__(self, endpoint: str, *, station: str | None = None) -> None:
        self.dropped = 0
        self.head_vseq = 0
        self.state = ""
        self._last: int | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = sockets.open_socket(
            self._context, zmq.SUB, hwm=_HWM * 10, max_bytes=telemetry.MAX_BODY
        )
        self._socket.subscribe(telemetry.PREFIX + (f"{station}/".encode() if station else b""))
        try:
            sockets.connect(self._socket, endpoint)
        except EdgeInspectorError:
            self._context.destroy(linger=0)
            raise

    def receive(self, timeout_ms: int | None = None) -> VerdictNote | None:
        """The next verdict, or None after `timeout_ms`; raises `WireError` for what is none."""
        give_up_ns = None if timeout_ms is None else clock.now_ns() + timeout_ms * clock.NS_PER_MS
        while self._socket.poll(None if give_up_ns is None else _left_ms(give_up_ns)):
            note = telemetry.decode(self._socket.recv_multipart())
            if isinstance(note, VerdictNote):
                self._place(note)
                return note
            self.head_vseq, self.state = note.head_vseq, note.state
        return None

    def __iter__(self) -> Iterator[VerdictNote]:
        while True:
            note = self.receive()
            if note is not None:
                yield note

    def _place(self, note: VerdictNote) -> None:
        """A number that is not higher is a verdict said again, or a log that began anew."""
        if note.fresh:
            if self._last is not None and note.vseq > self._last + 1:
                self.dropped += note.vseq - self._last - 1
            self._last = note.vseq
        self.head_vseq = max(self.head_vseq, note.vseq)

    def close(self) -> None:
        """Let go."""
        self._context.destroy(linger=0)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _left_ms(give_up_ns: int) -> int:
    return max(0, (give_up_ns - clock.now_ns()) // clock.NS_PER_MS)
