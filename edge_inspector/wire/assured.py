"""
Messages of the ASSURED tier: `[header][metadata][payload]`, to typed records and back.

Pure; whatever a peer sends, only `WireError` is raised, and `Refusal` says what the peer is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from edge_inspector.errors import WireError
from edge_inspector.records import Verdict, chained
from edge_inspector.wire.codes import Refusal, Type, Why
from edge_inspector.wire.header import SIZE, Header, digest, pack, unpack

MAX_METADATA = 4096
MAX_PARTS = 3
MAX_NAMES = 64
NAME = r"^[A-Za-z0-9_.\-]{1,64}\Z"
Part = bytes | memoryview

Name = Annotated[str, msgspec.Meta(pattern=NAME)]
Text = Annotated[str, msgspec.Meta(max_length=300)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
State = Literal["starting", "ready", "degraded", "fault", "stopping"]


class Hello(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Source: who I am, and the number of my next frame; cameras are numbered from 1 as listed."""

    name: Name
    versions: Annotated[list[int], msgspec.Meta(max_length=16)]
    next_seq: Count = 1
    max_payload: Count = 0
    cameras: Annotated[list[Name], msgspec.Meta(max_length=MAX_NAMES)] = []
    boot_id: Text = ""


class Welcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Daemon: what the source may send; recipes are numbered from 1 as listed."""

    version: int
    link: Text
    state: State
    credit_msgs: Count
    credit_bytes: Count
    settled_upto: Count
    max_part: Count
    max_payload: Count
    ttl_ms: Count
    recipes: Annotated[list[Name], msgspec.Meta(max_length=MAX_NAMES)] = []


class Ping(msgspec.Struct, frozen=True, omit_defaults=True):
    """Daemon: answer with PONG under the same seq."""


class Pong(msgspec.Struct, frozen=True, omit_defaults=True):
    """Source: the answer to PING."""


class FrameFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Source: what a frame shows; `age_us` is trigger to sending, `why` belongs to a tombstone."""

    unit_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | None = None
    total_len: Count | None = None
    age_us: int = 0
    why: Literal["no_credit", "camera_fault", "no_image", "expired"] | None = None


class Credit(msgspec.Struct, frozen=True, omit_defaults=False):
    """Daemon: running totals since WELCOME of what may be sent."""

    msgs: Count
    bytes: Count


class Accepted(msgspec.Struct, frozen=True, omit_defaults=True):
    """Daemon: the frame's accept row is on disk."""


class Settled(msgspec.Struct, frozen=True, omit_defaults=False):
    """Daemon: the verdict of the frame's unit is on disk; the source may forget the pixels."""

    vseq: Count
    detail: Text = ""


class Nack(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Daemon: nothing was recorded."""

    why: Why
    retry_ms: Count = 0
    versions: Annotated[list[int], msgspec.Meta(max_length=16)] = []
    detail: Text = ""


class Subscribe(msgspec.Struct, frozen=True, kw_only=True, rename={"start": "from"}):
    """Controller: verdicts from this `vseq` on, 0 from behind its cursor, or live ones only."""

    consumer: Name
    start: Count | Literal["live"] = 0
    lanes: Literal[1, 2] = 2
    stations: Annotated[list[Name], msgspec.Meta(max_length=MAX_NAMES)] = []


class Subscribed(msgspec.Struct, frozen=True, kw_only=True):
    """
    Daemon: where both lanes start, and the chain value of the row before each.

    `history_from` equals `live_from` where there is no history to send; defect classes are
    numbered from 1 as listed.
    """

    link: Text
    head: Count
    oldest: Count
    acked: Count
    live_from: Count
    live_chain: Count
    history_from: Count
    history_chain: Count
    run: Count = 0
    classes: Annotated[list[Name], msgspec.Meta(max_length=256)] = []


class Ack(msgspec.Struct, frozen=True):
    """Controller: all up to `upto` are held; `live_upto` frees the window of the live lane."""

    upto: Count
    live_upto: Count = 0


class Replay(msgspec.Struct, frozen=True, rename={"first": "from", "last": "to"}):
    """Controller: send these again."""

    first: Count
    last: Count


class Truncated(msgspec.Struct, frozen=True, rename={"first": "from", "last": "to"}):
    """Daemon: retention took these; `chain` is the value of the last of them."""

    first: Count
    last: Count
    chain: Count


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Both ways, each 100 ms; a peer of the daemon sends it empty."""

    head_vseq: Count = 0
    oldest_vseq: Count = 0
    state: State | None = None
    toggle: bool = False


class NewRun(msgspec.Struct, frozen=True):
    """Controller: the part counter of this station starts again."""

    station: Name


class Run(msgspec.Struct, frozen=True):
    """Daemon: the run that counts from now on."""

    station: Name
    run: Count


class Bye(msgspec.Struct, frozen=True, omit_defaults=True):
    """Either side: I leave."""

    why: Text = ""


Metadata = (
    Hello | Welcome | Ping | Pong | FrameFacts | Credit | Accepted | Settled | Nack | Subscribe
    | Subscribed | Verdict | Ack | Replay | Truncated | Heartbeat | NewRun | Run | Bye
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
    Type.NEW_RUN: NewRun,
    Type.RUN: Run,
}
_TYPES = {kind: number for number, kind in KINDS.items()}
_DECODERS = {number: msgspec.msgpack.Decoder(kind) for number, kind in KINDS.items()}
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
        if not message.metadata:
            return _DECODERS[Type(message.header.type)].decode(b"\x80")
        return _DECODERS[Type(message.header.type)].decode(message.metadata)
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
