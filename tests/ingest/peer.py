"""A source of the ASSURED tier by hand, so that it can also do what none should."""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import zmq

from edge_inspector import clock
from edge_inspector.wire import assured
from edge_inspector.wire.assured import (
    Credit,
    FrameFacts,
    Heartbeat,
    Hello,
    Metadata,
    Nack,
    Ping,
    Pong,
    Welcome,
)  # fmt: skip
from edge_inspector.wire.codes import FORMAT_NUMBERS, Flag
from edge_inspector.wire.header import Header, digest

GOOD = np.arange(64 * 48, dtype=np.uint8).reshape(48, 64)
SIZE = GOOD.nbytes


class Peer:
    """
    One DEALER; `heard` counts messages by type, `nacks` keeps the refusals.

    PINGs are answered at once unless `ponging` is off.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        name: str = "line",
        epoch: bytes | None = None,
        routing_id: bytes = b"",
    ) -> None:
        self.name = name
        self.epoch = uuid.uuid4().bytes if epoch is None else epoch
        self.heard: Counter[str] = Counter()
        self.nacks: list[tuple[Header, Nack]] = []
        self.pings: list[Header] = []
        self.ponging = True
        self.credit = [0, 0]
        self.used = [0, 0]
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.sndtimeo = 5000
        if routing_id:
            self.socket.setsockopt(zmq.ROUTING_ID, routing_id)
        self.socket.connect(endpoint)

    def close(self) -> None:
        self.socket.close()

    # what it says

    def raw(self, *parts: Any) -> None:
        self.socket.send_multipart(parts)

    def say(self, metadata: Metadata, payload: bytes | memoryview = b"", **fields: Any) -> None:
        self.raw(*self.parts(metadata, payload, **fields))

    def parts(
        self, metadata: Metadata, payload: bytes | memoryview = b"", **fields: Any
    ) -> list[Any]:
        kind = next(number for number, of in assured.KINDS.items() if of is type(metadata))
        header = Header(**{"type": kind, "epoch": self.epoch, **fields})
        return assured.build(metadata, header, payload)

    def hello(self, timeout_s: float = 5.0, **keys: Any) -> Welcome:
        """Say HELLO; the credit counts from now."""
        self.say(Hello(**{"name": self.name, "versions": [1], **keys}))
        welcome = self.hear(Welcome, timeout_s=timeout_s)[1]
        assert isinstance(welcome, Welcome)
        self.credit, self.used = [welcome.credit_msgs, welcome.credit_bytes], [0, 0]
        return welcome

    def frame(self, seq: int, pixels: Any = GOOD, **fields: Any) -> None:
        """One whole frame; `age_us`, `unit_id` and `total_len` are metadata, the rest is header."""
        (facts, body), header = self.whole(seq, pixels, **fields)
        self.used = [self.used[0] + 1, self.used[1] + len(body)]
        self.say(facts, body, **header)

    def whole(self, seq: int, pixels: Any = GOOD, **fields: Any) -> tuple[Any, dict[str, Any]]:
        named = {key: fields.pop(key) for key in FrameFacts.__struct_fields__ if key in fields}
        body = pixels if isinstance(pixels, bytes) else pixels.tobytes()
        layout = {} if isinstance(pixels, bytes) else described(pixels)
        header = {"flags": Flag.LAST, "seq": seq, "digest": digest(body), **layout, **fields}
        return (FrameFacts(**named), body), header

    def chunks(self, seq: int, pixels: Any, size: int, **fields: Any) -> list[list[Any]]:
        """The messages of one frame in parts of `size` bytes."""
        body = pixels.tobytes()
        (_, _), header = self.whole(seq, pixels)
        facts = FrameFacts(total_len=len(body), **fields)
        messages = []
        for offset in range(0, len(body), size):
            payload = body[offset : offset + size]
            last = Flag.LAST if offset + size >= len(body) else 0
            messages.append(
                self.parts(facts, payload, **{**header, "flags": last, "offset": offset})
            )
        return messages

    def tombstone(self, seq: int, why: Any = "no_image", **fields: Any) -> None:
        self.say(FrameFacts(why=why), flags=Flag.TOMBSTONE, seq=seq, **fields)

    # what it hears

    def hear(self, *kinds: type[Any], timeout_s: float = 5.0) -> tuple[Header, Any]:
        """The next message of these kinds; what comes before is counted."""
        give_up_ns = clock.now_ns() + timeout_s * 1e9
        while True:
            left_ms = max(0, round((give_up_ns - clock.now_ns()) / 1e6))
            if not self.socket.poll(left_ms):
                raise TimeoutError(f"no {kinds} within {timeout_s} s; heard {self.heard}")
            header, metadata = self._next(self.socket.recv_multipart())
            if isinstance(metadata, kinds):
                return header, metadata

    def listen(self, seconds: float) -> Counter[str]:
        """What it hears in that time, counted by type."""
        before = self.heard.copy()
        with contextlib.suppress(TimeoutError):
            self.hear(_Nothing, timeout_s=seconds)
        return self.heard - before

    def drain(self) -> None:
        """Take what waits."""
        self.listen(0.0)

    def _next(self, parts: Sequence[bytes]) -> tuple[Header, Metadata]:
        message = assured.split(parts)
        header, metadata = message.header, assured.read(message)
        self.heard[type(metadata).__name__] += 1
        if isinstance(metadata, Ping):
            self.pings.append(header)
            if self.ponging:
                self.say(Pong(), seq=header.seq)
        elif isinstance(metadata, Credit):
            self.credit = [metadata.msgs, metadata.bytes]
        elif isinstance(metadata, Nack):
            self.nacks.append((header, metadata))
        return header, metadata

    def beat(self) -> None:
        self.say(Heartbeat())


class _Nothing(msgspec.Struct):
    """No message is one."""


def described(pixels: Any) -> dict[str, int]:
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    name = {1: "mono8", 3: "bgr8", 4: "bgra8"}[channels]
    return {
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "pixel_format": FORMAT_NUMBERS[name],
    }
