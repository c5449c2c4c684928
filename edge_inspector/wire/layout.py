"""How pixels lie in a buffer: the raw formats, and the size that a JPEG or PNG header announces."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

from edge_inspector.errors import WireError

FORMATS = {
    "mono8": (1, 1),
    "mono16": (2, 1),
    "bgr8": (1, 3),
    "rgb8": (1, 3),
    "bgr16": (2, 3),
    "bgra8": (1, 4),
    "rgba8": (1, 4),
    "bgra16": (2, 4),
    "bayer_rg8": (1, 1),
    "bayer_gr8": (1, 1),
    "bayer_gb8": (1, 1),
    "bayer_bg8": (1, 1),
}
"""Pixel format -> bytes per sample, samples per pixel."""

DTYPES = {
    "uint8": ("raw", 1),
    "|u1": ("raw", 1),
    "uint16": ("raw", 2),
    "<u2": ("raw", 2),
    ">u2": ("raw-be", 2),
}
"""Name of a sample type on the wire -> codec, bytes per sample; `raw-be` is high byte first."""

DECODED = ("mono8", "mono16", "bgr8")
"""What a JPEG or PNG decodes to, so what a message may say of one."""

JPEG = b"\xff\xd8\xff"
PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB\x60\x82"
_JPEG_END = b"\xff\xd9"
_STANDALONE = {0x01, *range(0xD0, 0xD8)}
_START_OF_FRAME = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MAX_SEGMENTS = 1024


class Layout(msgspec.Struct, frozen=True):
    """How one frame's bytes are to be read; an encoded image says its size itself."""

    codec: str = "raw"
    pixel_format: str = "mono8"
    height: int = 0
    width: int = 0
    channels: int = 0


def raw_layout(
    dtype: str, shape: Sequence[int], pixel_format: str | None, size: int, max_pixels: int
) -> Layout:
    """The layout of a C-order buffer of `size` bytes; raises `WireError` when it cannot be one."""
    if dtype not in DTYPES:
        raise WireError(f"dtype {_short(dtype)} is not taken; send one of {', '.join(DTYPES)}")
    codec, sample = DTYPES[dtype]
    if (
        len(shape) not in (2, 3)
        or min(shape) < 1
        or (len(shape) == 3 and shape[2] not in (1, 3, 4))
    ):
        raise WireError(
            f"shape {_short(list(shape))}; send [h, w], [h, w, 1], [h, w, 3] or [h, w, 4]"
        )
    height, width, channels = shape[0], shape[1], shape[2] if len(shape) == 3 else 1
    within_cap(height, width, max_pixels)
    if height * width * channels * sample != size:
        raise WireError(
            f"shape {list(shape)} of {dtype} takes {height * width * channels * sample} bytes; "
            f"the pixel part has {size}; send the array whole and in C order"
        )
    chosen = pixel_format or _default_format(sample, channels)
    if FORMATS.get(chosen) != (sample, channels):
        raise WireError(
            f"pixel_format {_short(chosen)} does not fit {dtype} with {channels} channels; "
            f"send one of {', '.join(n for n, f in FORMATS.items() if f == (sample, channels))}"
        )
    return Layout(codec, chosen, height, width, channels)


def encoded_layout(buffer: bytes | memoryview, pixel_format: str | None, max_pixels: int) -> Layout:
    """The layout of a whole JPEG or PNG within `max_pixels`; raises `WireError` otherwise."""
    codec, height, width = announced(buffer)
    within_cap(height, width, max_pixels)
    if pixel_format is not None and pixel_format not in DECODED:
        raise WireError(
            f"pixel_format {_short(pixel_format)} with a {codec} image; "
            f"leave it out or send one of {', '.join(DECODED)}"
        )
    return Layout(codec, pixel_format or "bgr8")


def announced(buffer: bytes | memoryview) -> tuple[str, int, int]:
    """Codec, height and width in px that the header says, of an image whose end is there."""
    start = bytes(buffer[:8])
    if start.startswith(PNG):
        return "png", *_png_size(buffer)
    if start.startswith(JPEG):
        return "jpeg", *_jpeg_size(buffer)
    raise WireError(
        f"pixels start with {start.hex() or 'nothing'}, which is neither JPEG (ffd8ff) nor PNG; "
        "send dtype and shape with raw pixels"
    )


def within_cap(height: int, width: int, max_pixels: int) -> None:
    """Refuse an image of more than `max_pixels`."""
    if height * width > max_pixels:
        raise WireError(
            f"image of {_short(width)} x {_short(height)} pixels; "
            f"the limit is {max_pixels} pixels; raise frames.max_pixels if this camera is right"
        )


def _default_format(sample: int, channels: int) -> str:
    return ("mono", "", "bgr", "bgra")[channels - 1] + ("8" if sample == 1 else "16")


def _png_size(buffer: bytes | memoryview) -> tuple[int, int]:
    header = bytes(buffer[8:24])
    if len(header) < 16 or header[4:8] != b"IHDR":
        raise WireError(f"PNG of {len(buffer)} bytes without an IHDR; it was cut or is not a PNG")
    width, height = struct.unpack(">II", header[8:16])
    if not width or not height:
        raise WireError(f"PNG announces {width} x {height} pixels; at least 1 x 1 is needed")
    if not bytes(buffer[-8:]) == _PNG_END:
        raise WireError(f"PNG of {len(buffer)} bytes does not end with IEND; it was cut")
    return height, width


def _jpeg_size(buffer: bytes | memoryview) -> tuple[int, int]:
    """Walk the segments to the frame header (ITU-T T.81, B.1.1 and B.2.2)."""
    at = 2
    for _ in range(_MAX_SEGMENTS):
        head = bytes(buffer[at : at + 9])
        if len(head) < 4 or head[0] != 0xFF:
            break
        marker = head[1]
        if marker == 0xFF or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _START_OF_FRAME and len(head) == 9:
            return _whole_jpeg(buffer, *struct.unpack(">HH", head[5:9]))
        length = int.from_bytes(head[2:4], "big")
        if marker in (0xD9, 0xDA) or length < 2:
            break
        at += 2 + length
    raise WireError(f"JPEG of {len(buffer)} bytes has no frame header; it was cut or is no JPEG")


def _whole_jpeg(buffer: bytes | memoryview, height: int, width: int) -> tuple[int, int]:
    """A JPEG without its end marker was cut; libjpeg would fill the rest with grey and say nothing."""
    if not height or not width:
        raise WireError(f"JPEG announces {width} x {height} pixels; at least 1 x 1 is needed")
    if not bytes(buffer[-256:]).rstrip(b"\0").endswith(_JPEG_END):
        raise WireError(f"JPEG of {len(buffer)} bytes does not end with FF D9; it was cut")
    return height, width


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
