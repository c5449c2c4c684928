"""What the messages of the ASSURED tier say: the metadata of each, typed and bounded."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edge_inspector.records import Outcome
from edge_inspector.wire.codes import Why

MAX_NAMES = 64
NAME = r"^[A-Za-z0-9_.\-]{1,64}\Z"

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
    incumbent: Annotated[str, msgspec.Meta(max_length=80)] | None = None
    lot: Name | None = None
    repeat: bool = False


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


class Expect(msgspec.Struct, frozen=True):
    """Controller: this unit is on its way; not seen within the latency budget it has no image."""

    station: Name
    trigger_id: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]


class Incumbent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Controller: what the inspection that was there before said of this unit; it drives nothing."""

    station: Name
    outcome: Outcome
    trigger_id: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)] | None = None
    unit_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | None = None
    defect_class: Name | None = None


class Run(msgspec.Struct, frozen=True):
    """Daemon: the run that counts from now on."""

    station: Name
    run: Count


class Bye(msgspec.Struct, frozen=True, omit_defaults=True):
    """Either side: I leave."""

    why: Text = ""
