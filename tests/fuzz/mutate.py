"""The decoders that read what peers send, and damage to messages that still looks right."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

from edge_inspector import clock
from edge_inspector.errors import WireError
from edge_inspector.wire import assured, codes, header, plain, telemetry
from edge_inspector.wire.codes import Type
from tests.golden import vectors

Parts = list[bytes]
SLOWEST_NS = 10 * clock.NS_PER_MS
TRIES = 10
NASTY = [
    b"\xc1",
    b"\xdf\xff\xff\xff\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\x7f\xff\xff\xff",
    b"\x81\xa1x" + b"\x91" * 3000,
    b"[" * 3000,
    b'{"a":' * 1000,
    b"\xa2\xc3\x28",
    b"\xcf" + b"\xff" * 8,
    b"\xcb\x7f\xf0" + b"\0" * 6,
    b"1" * 400,
    b'"\\ud800"',
    b"\n",
]
"""Bytes that lie about lengths, nest deeply, or are no text."""


def read_header(parts: Sequence[bytes]) -> None:
    """The 96 bytes alone."""
    header.unpack(parts[0] if parts else b"")


def read_assured(parts: Sequence[bytes]) -> None:
    """Any message of the ASSURED tier."""
    assured.read(assured.split(parts))


def read_verdict(parts: Sequence[bytes]) -> None:
    """All that a consumer believes of a verdict."""
    message = assured.split(parts)
    codes.outcome_of(message.header.code, message.header.complement)
    assured.verify_verdict(message, None)


def read_plain(parts: Sequence[bytes]) -> None:
    """A frame of a publisher of the PLAIN tier."""
    plain.decode(parts, vectors.RULES)


def read_telemetry(parts: Sequence[bytes]) -> None:
    """What a dashboard hears."""
    telemetry.decode(parts)


def control(parts: Sequence[bytes]) -> None:
    """A decoder that takes lengths on trust; no golden message is short enough to show it."""
    if parts and parts[0][:4] == header.MAGIC:
        struct.unpack_from("<I", parts[0], 70)


Decoder = Callable[[Sequence[bytes]], Any]
DECODERS: dict[str, Decoder] = {
    "header": read_header,
    "assured": read_assured,
    "verdict": read_verdict,
    "plain": read_plain,
    "telemetry": read_telemetry,
}
SEALED = {"header", "assured", "verdict"}
"""Decoders behind a CRC, which damage passes only where it is made right again."""


def refuses(decode: Decoder, parts: Sequence[bytes]) -> bool:
    """Whether a message is refused; whatever is not a `WireError` goes on up."""
    try:
        decode(parts)
    except WireError:
        return True
    return False


def timed_ns(decode: Decoder, parts: Sequence[bytes]) -> int:
    """What decoding takes; a slow one is tried again, since the box may have been busy."""
    took = 0
    for _ in range(TRIES):
        began = clock.now_ns()
        refuses(decode, parts)
        took = clock.now_ns() - began
        if took <= SLOWEST_NS:
            return took
    shown = [bytes(part[:200]) for part in parts]
    raise AssertionError(f"{took / 1e6:.1f} ms, {TRIES} times, for {shown}")


def bases(name: str) -> list[Parts]:
    """The golden messages that a decoder is made for, broken ones included."""
    tier = "assured" if name in SEALED else name
    found = [vectors.parts(vector) for vector in vectors.names(tier)]
    if name == "verdict":
        found = [one for one in found if one and one[0][6:7] == bytes([Type.VERDICT])]
    return found


def damaged(parts: Parts, rng: random.Random) -> Parts:
    """A message with one to four faults."""
    found = list(parts)
    for _ in range(rng.randint(1, 4)):
        if rng.random() < 0.05:
            found = shuffled(found, rng)
        if found:
            at = rng.randrange(len(found))
            found[at] = spoiled(found[at], rng)
    return found


def shuffled(parts: Parts, rng: random.Random) -> Parts:
    """Fewer, more or other parts."""
    return rng.choice([parts[1:], parts[:-1], [*parts, b""], parts[::-1], parts * 2, []])


def spoiled(part: bytes, rng: random.Random) -> bytes:
    """Bytes with one fault."""
    at, until = sorted(rng.randint(0, len(part)) for _ in range(2))
    until = min(until, at + 16)
    kind = rng.randrange(6)
    if kind == 0 and part:
        at = min(at, len(part) - 1)
        return part[:at] + bytes([part[at] ^ 1 << rng.randrange(8)]) + part[at + 1 :]
    if kind == 1:
        return part[:at] + rng.choice(NASTY) + part[at:]
    if kind == 2:
        return part[:at] + rng.randbytes(until - at) + part[until:]
    if kind == 3:
        return part[:at] + part[until:]
    if kind == 4:
        return part[:until] + part[at:until] * rng.randint(1, 8) + part[until:]
    return part[:at]


def made_right(parts: Parts) -> Parts:
    """Lengths, digest and CRC of a header that fit what came, so that the rest is read."""
    if not parts or len(parts[0]) != header.SIZE:
        return parts
    head, sizes = parts[0], [len(part) for part in [*parts[1:3], b"", b""]]
    head = head[:8] + struct.pack("<II", sizes[0], sizes[1]) + head[16:]
    if head[6] == Type.VERDICT:
        body = parts[1] if len(parts) > 1 else b""
        head = head[:80] + struct.pack("<Q", header.digest(body)) + head[88:]
    return [vectors.sealed(b"EIP1\x01" + head[5:]), *parts[1:]]
