"""The 96 bytes before every message of the ASSURED tier: fixed, little endian, under a CRC."""

from __future__ import annotations

import struct
import zlib

import msgspec
import xxhash

from edge_inspector.errors import WireError
from edge_inspector.wire.codes import Flag, Refusal, Type, Why

SIZE = 96
MAGIC = b"EIP1"
MAJOR = 1
MINOR = 0
VERSIONS = (MAJOR,)
NO_EPOCH = bytes(16)

_LAYOUT = struct.Struct("<4sBBBBII16sQQQQIHHHBBHHQI")
_CRC = struct.Struct("<I")


class Header(msgspec.Struct, frozen=True, gc=False):
    """
    One header. VERDICT and SETTLED say other things at some places; they have names of their own.

    `epoch` is the sender's start, in replies about a frame that frame's; `stride` is in bytes, a
    multiple of 16, 0 where rows are tight; `offset` is where this chunk starts in the frame.
    """

    type: int
    flags: int = 0
    meta_len: int = 0
    payload_len: int = 0
    epoch: bytes = NO_EPOCH
    seq: int = 0
    trigger_id: int = 0
    t_mono_ns: int = 0
    t_utc_ns: int = 0
    budget_us: int = 0
    width: int = 0
    height: int = 0
    stride_16: int = 0
    pixel_format: int = 0
    codec: int = 0
    camera: int = 0
    recipe: int = 0
    digest: int = 0
    offset: int = 0

    @property
    def stride(self) -> int:
        """Bytes from one row to the next, 0 where rows are tight."""
        return self.stride_16 * 16

    @property
    def latency_us(self) -> int:
        """VERDICT and SETTLED: time zero to commit."""
        return self.budget_us

    @property
    def defect_class(self) -> int:
        """VERDICT and SETTLED: number of the defect class, `codes.NO_CLASS` without one."""
        return self.width

    @property
    def roi_count(self) -> int:
        """VERDICT and SETTLED: regions that were judged."""
        return self.stride_16

    @property
    def code(self) -> int:
        """VERDICT and SETTLED: the outcome code."""
        return self.pixel_format

    @property
    def complement(self) -> int:
        """VERDICT and SETTLED: the outcome code with every bit turned."""
        return self.codec

    @property
    def station(self) -> int:
        """VERDICT and SETTLED: number of the station."""
        return self.camera

    @property
    def chain(self) -> int:
        """VERDICT and SETTLED: running CRC-32 over the metadata of all verdicts up to this one."""
        return self.offset

    def has(self, flag: Flag) -> bool:
        """Whether a flag is set."""
        return bool(self.flags & int(flag))  # as numbers: `&` of a flag takes 2 us


def pack(header: Header) -> bytes:
    """The 96 bytes; raises `WireError` for a value that its field cannot hold."""
    h = header
    try:
        body = _LAYOUT.pack(MAGIC, MAJOR, MINOR, *msgspec.structs.astuple(h))
    except struct.error as error:
        raise WireError(f"header cannot be written: {error}") from None
    return body + _CRC.pack(zlib.crc32(body))


def unpack(raw: bytes | memoryview) -> Header:
    """Read 96 bytes, raises `Refusal`: length, magic and CRC first, then the version."""
    if len(raw) != SIZE:
        raise Refusal(Why.BAD_HEADER, f"header of {len(raw)} bytes; it has {SIZE}")
    magic, major, _minor, *fields = _LAYOUT.unpack_from(raw)
    if magic != MAGIC:
        raise Refusal(Why.BAD_HEADER, f"magic {magic!r}; expected {MAGIC!r}")
    told, found = _CRC.unpack_from(raw, SIZE - 4)[0], zlib.crc32(raw[: SIZE - 4])
    if told != found:
        raise Refusal(Why.BAD_HEADER, f"header CRC {told:08x}; its bytes give {found:08x}")
    if major != MAJOR:
        raise Refusal(Why.VERSION, f"protocol version {major}; this side speaks {VERSIONS}")
    header = Header(*fields)  # in the order of the bytes: by name it takes 10 us
    if header.type not in _TYPES:
        raise Refusal(Why.BAD_HEADER, f"message type 0x{header.type:02x} is unknown")
    return header


def digest(data: bytes | memoryview) -> int:
    """XXH3-64 with seed 0, which finds what software damaged, not what an attacker changed."""
    return int(xxhash.xxh3_64_intdigest(data))


_TYPES = frozenset(Type)
