"""
Messages of the ASSURED tier: `[header][metadata][payload]`, to typed records and back.

Pure; whatever a peer sends, only `WireError` is raised, and `Refusal` says what the peer is told.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edge_inspector.errors import WireError
from edge_inspector.records import Verdict, chained
from edge_inspector.wire.codes import Refusal, Type, Why
from edge_inspector.wire.header import SIZE, Header, digest, pack, unpack
from edge_inspector.wire.messages import (
    MAX_NAMES,
    NAME,
    Accepted,
    Ack,
    Bye,
    Credit,
    Expect,
    FrameFacts,
    Heartbeat,
    Hello,
    Incumbent,
    Nack,
    NewRun,
    Ping,
    Pong,
    Replay,
    Run,
    Settled,
    State,
    Subscribe,
    Subscribed,
    Truncated,
    Welcome,
)

__all__ = [
    "KINDS",
    "MAX_METADATA",
    "MAX_NAMES",
    "MAX_PARTS",
    "NAME",
    "Accepted",
    "Ack",
    "Bye",
    "Credit",
    "Expect",
    "FrameFacts",
    "Heartbeat",
    "Hello",
    "Incumbent",
    "Message",
    "Metadata",
    "Nack",
    "NewRun",
    "Part",
    "Ping",
    "Pong",
    "Replay",
    "Run",
    "Settled",
    "State",
    "Subscribe",
    "Subscribed",
    "Truncated",
    "Welcome",
    "assemble",
    "build",
    "read",
    "split",
    "verify_verdict",
]

MAX_METADATA = 4096
MAX_PARTS = 3
Part = bytes | memoryview

Metadata = (
    Hello | Welcome | Ping | Pong | FrameFacts | Credit | Accepted | Settled | Nack | Subscribe
    | Subscribed | Verdict | Ack | Replay | Truncated | Heartbeat | Expect | NewRun | Run | Bye
    | Incumbent
)  # fmt: skip
KINDS: dict[Type, type[Metadata]] = {
    Type.HELLO: Hello,
    Type.WELCOME: Welcome,
    Type.PING: Ping,
    Type.PONG: Pong,
    Type.FRAME: FrameFacts,
    Type.CREDIT: Credit,
    Type.ACCEPTED: Accepted,
    Type.SETTLED: Settled,
    Type.NACK: Nack,
    Type.BYE: Bye,
    Type.SUBSCRIBE: Subscribe,
    Type.SUBSCRIBED: Subscribed,
    Type.VERDICT: Verdict,
    Type.ACK: Ack,
    Type.REPLAY: Replay,
    Type.HEARTBEAT: Heartbeat,
    Type.TRUNCATED: Truncated,
    Type.EXPECT: Expect,
    Type.NEW_RUN: NewRun,
    Type.RUN: Run,
    Type.INCUMBENT: Incumbent,
}
_TYPES = {kind: number for number, kind in KINDS.items()}
_DECODERS = {int(number): msgspec.msgpack.Decoder(kind) for number, kind in KINDS.items()}
_ENCODER = msgspec.msgpack.Encoder()
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""The last two are no msgspec errors, and hostile metadata raises them."""


class Message(msgspec.Struct, frozen=True):
    """One message whose parts, lengths, CRC and version are in order; metadata is not read yet."""

    header: Header
    metadata: Part
    payload: Part = b""


def split(parts: Sequence[Part]) -> Message:
    """Check a message in the protocol's order up to its version; raises `Refusal`."""
    if not 1 <= len(parts) <= MAX_PARTS:
        raise Refusal(Why.BAD_HEADER, f"message of {len(parts)} parts; 1 to {MAX_PARTS} are sent")
    if len(parts[0]) != SIZE:
        raise Refusal(Why.BAD_HEADER, f"header of {len(parts[0])} bytes; it has {SIZE}")
    metadata = parts[1] if len(parts) > 1 else b""
    payload = parts[2] if len(parts) > 2 else b""
    if len(metadata) > MAX_METADATA:
        raise Refusal(
            Why.BAD_HEADER, f"metadata of {len(metadata)} bytes; the limit is {MAX_METADATA}"
        )
    header = unpack(parts[0])
    if (header.meta_len, header.payload_len) != (len(metadata), len(payload)):
        raise Refusal(
            Why.BAD_HEADER,
            f"header tells {header.meta_len} and {header.payload_len} bytes of metadata and "
            f"payload; {len(metadata)} and {len(payload)} came",
        )
    return Message(header, metadata, payload)


def read(message: Message) -> Metadata:
    """The typed metadata; raises `Refusal`."""
    try:
        return _DECODERS[message.header.type].decode(message.metadata or b"\x80")
    except _UNREADABLE as error:
        name = Type(message.header.type).name
        raise Refusal(
            Why.BAD_HEADER, f"metadata of {name} cannot be read: {str(error)[:120]}"
        ) from None


def build(metadata: Metadata, header: Header | None = None, payload: Part = b"") -> list[Part]:
    """The parts of a message; lengths, a SETTLED's digest and a type not given are filled in."""
    header = Header(type=_TYPES[type(metadata)]) if header is None else header
    body = _ENCODER.encode(metadata)
    if header.type == Type.SETTLED:
        header = msgspec.structs.replace(header, digest=digest(body))
    return assemble(header, body, payload)


def assemble(header: Header, metadata: bytes, payload: Part = b"") -> list[Part]:
    """The parts of a message whose metadata is encoded already."""
    if len(metadata) > MAX_METADATA:
        raise WireError(f"metadata of {len(metadata)} bytes; the limit is {MAX_METADATA}")
    sized = msgspec.structs.replace(
        header, meta_len=len(metadata), payload_len=memoryview(payload).nbytes
    )
    parts: list[Part] = [pack(sized), metadata]
    if sized.payload_len:
        parts.append(payload)
    return parts


def verify_verdict(message: Message, previous_chain: int | None) -> Verdict:
    """
    A verdict whose digest, chain and number agree with its bytes; raises `WireError`.

    `previous_chain` is the value of the row before, None where that is not known.
    """
    if message.header.type != Type.VERDICT:
        raise WireError(f"message type 0x{message.header.type:02x} is no VERDICT")
    body = bytes(message.metadata)
    if digest(body) != message.header.digest:
        raise WireError(f"verdict {message.header.seq}: its digest is not that of its bytes")
    if previous_chain is not None and chained(previous_chain, body) != message.header.chain:
        raise WireError(f"verdict {message.header.seq}: its chain value does not follow")
    verdict = read(message)
    assert isinstance(verdict, Verdict)
    if verdict.vseq != message.header.seq:
        raise WireError(f"verdict {verdict.vseq} came under number {message.header.seq}")
    return verdict
