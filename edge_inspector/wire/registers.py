"""
The Modbus register block of one station: twenty input registers, six holding registers. Pure.

The map is version 1.1; integers are big endian, the high word first. The PLC reads the whole block
in one request and checks its CRC, so that half of one result and half of another never look right.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Sequence

import msgspec

from edge_inspector.errors import WireError
from edge_inspector.wire.codes import NO_CLASS

MAP_VERSION = 0x0101
COUNT = 20
HOLDING = 6
COUNTERS = 65_535
PASS_WORD = 0x5AA5
_COVERED = slice(4, 17)
_U16, _U32 = 2**16 - 1, 2**32 - 1
MAX_TRIGGER = _U32
SCORE_UNIT = 10_000


class Status(enum.IntFlag):
    """Bits of register 1."""

    ONLINE = 1 << 0
    READY = 1 << 1
    BUSY = 1 << 2
    RESULT_VALID = 1 << 3
    OVERRUN = 1 << 4
    FAULT = 1 << 5
    DEGRADED = 1 << 6
    CLOCK_STEP = 1 << 7
    TOGGLE = 1 << 15


class Command(enum.IntEnum):
    """What the PLC may write to holding register 2."""

    NONE = 0
    DEQUEUE = 1
    CLEAR_OVERRUN = 2
    SELECT_RECIPE = 3
    SELF_TEST = 4
    NEW_RUN = 5


class Trouble(enum.IntEnum):
    """The fault code of register 16; the highest one that holds."""

    NONE = 0
    WRONG_ACK = 1
    RESULTS_LOST = 2
    COMMAND_REFUSED = 3
    PLC_SILENT = 4
    CORE_SILENT = 5


class Held(enum.IntEnum):
    """The holding registers."""

    HEARTBEAT = 0
    ACK = 1
    COMMAND = 2
    ARGUMENT = 3
    NEXT_HIGH = 4
    NEXT_LOW = 5


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One verdict as registers 4 to 16 tell it; code 0 means nothing, and never a pass."""

    counter: int = 0
    trigger_id: int = 0
    code: int = 0
    defect_class: int = NO_CLASS
    score: float = 0.0
    latency_us: int = 0
    vseq: int = 0
    engine: int = 0


def counter_of(vseq: int) -> int:
    """The result counter of a verdict: never 0, the same after a restart, as the log's number is."""
    return (vseq - 1) % COUNTERS + 1


def encode(
    status: Status, heartbeat: int, echo: int, result: Result, depth: int, trouble: Trouble
) -> tuple[int, ...]:
    """The twenty input registers."""
    word = result.code << 8 | result.code ^ 0xFF if result.code else 0
    told = (
        result.counter,
        *_words(result.trigger_id),
        word,
        result.defect_class,
        max(0, min(round(result.score * SCORE_UNIT), _U16)),
        min(result.latency_us // 1000, _U16),
        min(depth, _U16),
        *_words(result.vseq & _U32),
        *_words(result.engine),
        int(trouble),
    )
    return (
        MAP_VERSION,
        int(status),
        heartbeat & _U16,
        echo,
        *told,
        *_words(_crc(told)),
        result.counter,
    )


def decode(registers: Sequence[int]) -> Result:
    """The result in a block; raises `WireError` for one that is torn, damaged or of another map."""
    if len(registers) != COUNT or registers[0] >> 8 != MAP_VERSION >> 8:
        raise WireError(
            f"{len(registers)} registers of map 0x{registers[0] if registers else 0:04x}; "
            f"{COUNT} of 0x{MAP_VERSION:04x} are read"
        )
    if registers[4] != registers[19]:
        raise WireError(f"result {registers[4]} ends as {registers[19]}: read all at once")
    crc = registers[17] << 16 | registers[18]
    if crc != _crc(registers[_COVERED]):
        raise WireError(f"the CRC of result {registers[4]} is not 0x{crc:08x}")
    code, complement = registers[7] >> 8, registers[7] & 0xFF
    if registers[7] and code ^ complement != 0xFF:
        raise WireError(f"code word 0x{registers[7]:04x} of result {registers[4]} is damaged")
    return Result(
        counter=registers[4],
        trigger_id=registers[5] << 16 | registers[6],
        code=code,
        defect_class=registers[8],
        score=registers[9] / SCORE_UNIT,
        latency_us=registers[10] * 1000,
        vseq=registers[12] << 16 | registers[13],
        engine=registers[14] << 16 | registers[15],
    )


def _crc(words: Sequence[int]) -> int:
    return zlib.crc32(struct.pack(f">{len(words)}H", *words))


def _words(value: int) -> tuple[int, int]:
    return value >> 16, value & _U16
