"""The numbers of the ASSURED tier: message types, flags, outcome codes, pixel formats."""

from __future__ import annotations

import enum

from edge_inspector.errors import WireError
from edge_inspector.records import Outcome, Reason


class Type(enum.IntEnum):
    """What a message is."""

    HELLO = 0x01
    WELCOME = 0x02
    PING = 0x03
    PONG = 0x04
    FRAME = 0x10
    CREDIT = 0x12
    ACCEPTED = 0x13
    SETTLED = 0x14
    NACK = 0x15
    BYE = 0x1F
    SUBSCRIBE = 0x20
    SUBSCRIBED = 0x21
    VERDICT = 0x22
    ACK = 0x23
    REPLAY = 0x24
    HEARTBEAT = 0x25
    TRUNCATED = 0x26
    EXPECT = 0x27
    NEW_RUN = 0x28
    RUN = 0x29
    INCUMBENT = 0x2A


class Flag(enum.IntFlag):
    """Bits of the header's flags."""

    HISTORICAL = 1
    REPLAY = 2
    LAST = 4
    TOMBSTONE = 8
    DEGRADED = 16
    CLOCK_STEP = 32
    TEST = 64


class Why(str, enum.Enum):
    """Why a message was refused; nothing of it was recorded."""

    BUSY = "BUSY"
    BAD_HEADER = "BAD_HEADER"
    VERSION = "VERSION"
    NOT_ALLOWED = "NOT_ALLOWED"
    OVER_CREDIT = "OVER_CREDIT"
    HELLO_FIRST = "HELLO_FIRST"
    CONFLICT = "CONFLICT"


class Refusal(WireError):
    """A message that is answered with NACK; `why` is what the peer is told."""

    def __init__(self, why: Why, message: str) -> None:
        self.why = why
        super().__init__(message)


TOMBSTONES = {
    "no_credit": Reason.SHED,
    "camera_fault": Reason.CAMERA_FAULT,
    "no_image": Reason.NO_IMAGE,
    "expired": Reason.TIMEOUT,
}
"""Why a source sends a frame without pixels -> what its unit is recorded as."""

CODES: dict[Outcome | Reason, int] = {
    Outcome.PASS: 0x5A,
    Outcome.FAIL: 0xF0,
    Reason.TIMEOUT: 0x33,
    Reason.ABORTED: 0x3C,
    Reason.SHED: 0x55,
    Reason.BAD_INPUT: 0x66,
    Reason.NO_IMAGE: 0x69,
    Reason.CAMERA_FAULT: 0x96,
    Reason.MODEL_FAULT: 0x99,
    Reason.STORE_FAULT: 0xAA,
    Reason.CONFLICT: 0xC3,
}
"""At least four bits apart, also from 00 and FF; A5, the complement of pass, means nothing."""

_MEANINGS = {code: meaning for meaning, code in CODES.items()}

NO_CLASS = 0xFFFF
"""Defect class id of a verdict that names none."""

PIXEL_FORMATS = {
    1: "mono8",
    2: "mono16",
    3: "bgr8",
    4: "rgb8",
    5: "bgra8",
    6: "rgba8",
    8: "bayer_rg8",
    9: "bayer_gr8",
    10: "bayer_gb8",
    11: "bayer_bg8",
}
"""Number on the wire -> pixel format; 0 is an encoded image."""
FORMAT_NUMBERS = {name: number for number, name in PIXEL_FORMATS.items()}

CODECS = {0: "raw", 1: "jpeg", 2: "png"}
CODEC_NUMBERS = {name: number for number, name in CODECS.items()}


def code_of(outcome: Outcome, reason: Reason | None) -> int:
    """The code of an outcome."""
    return CODES[reason if outcome is Outcome.UNINSPECTED and reason is not None else outcome]


def outcome_of(code: int, complement: int) -> tuple[Outcome, Reason | None]:
    """What a code means; raises `WireError` for one that is none or differs from its complement."""
    meaning = _MEANINGS.get(code)
    if meaning is None or code ^ complement != 0xFF:
        raise WireError(
            f"outcome code 0x{code:02x} with complement 0x{complement:02x} is none of the known"
        )
    if isinstance(meaning, Reason):
        return Outcome.UNINSPECTED, meaning
    return meaning, None
