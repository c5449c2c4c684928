"""PLAIN tier: `[optional topic][metadata map][pixels]`, as pyzmq's recipe and imagezmq send it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_inspector.errors import WireError
from edge_inspector.records import Baseline
from edge_inspector.wire.incumbent import read_incumbent
from edge_inspector.wire.layout import Layout, encoded_layout, raw_layout
from edge_inspector.wire.messages import NAME

MAX_METADATA = 16 * 1024
MAX_ID = 64
MAX_TRIGGER = 2**64 - 1
MAX_SEQ = 2**63 - 1

EVERY = "*"
"""Among the names that a station knows: all of them."""

Part = bytes | memoryview
_Name = Annotated[str, msgspec.Meta(max_length=MAX_ID)]


class Identity(msgspec.Struct, frozen=True):
    """What a message says about which unit it shows, and when; all of it may be missing."""

    unit_id: str | None = None
    trigger_id: int | None = None
    seq: int | None = None
    captured_ns: int | None = None
    """UTC of capture."""
    lot: str = ""


class PlainFrame(msgspec.Struct, frozen=True, kw_only=True):
    """One message read: `pixels` is a view of its last part."""

    identity: Identity
    camera: str
    recipe: str
    layout: Layout
    pixels: memoryview
    incumbent: Baseline | None = None


class BadFrame(WireError):
    """A frame that arrived and cannot be used; `identity` is what could be read of it."""

    def __init__(self, message: str, identity: Identity) -> None:
        self.identity = identity
        super().__init__(message)


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What one source may send: names the station knows, defaults, limits."""

    camera: str
    recipe: str
    cameras: frozenset[str]
    recipes: frozenset[str]
    msg_is: str = "camera"
    max_bytes: int = 16 * 1024 * 1024
    max_pixels: int = 33_554_432


class _Metadata(msgspec.Struct, frozen=True):
    """Types only; ranges are checked where the message can name the value."""

    dtype: _Name | None = None
    shape: Annotated[list[int], msgspec.Meta(max_length=8)] | None = None
    msg: msgspec.Raw = msgspec.Raw()
    unit_id: str | int | None = None
    trigger_id: int | None = None
    seq: int | None = None
    camera: _Name | None = None
    recipe: _Name | None = None
    captured_ns: int | None = None
    pixel_format: _Name | None = None
    incumbent: str | None = None
    lot: str | None = None


_MAPS = {*range(0x80, 0x90), 0xDE, 0xDF}
_JSON: msgspec.json.Decoder[_Metadata] = msgspec.json.Decoder(_Metadata)
_MSGPACK: msgspec.msgpack.Decoder[_Metadata] = msgspec.msgpack.Decoder(_Metadata)
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""The last two are no msgspec errors, and hostile metadata raises them."""


def decode(parts: Sequence[Part], rules: Rules) -> PlainFrame:
    """Read one message; raises `BadFrame`, a `WireError`, for anything that is not a frame."""
    metadata, text = _read_metadata(parts, rules)
    identity = _identity(metadata, text, rules)
    try:
        camera, recipe = _names(metadata, text, rules)
        layout = _layout(metadata, parts[-1], rules)
        said = None if metadata.incumbent is None else read_incumbent(metadata.incumbent)
        identity = msgspec.structs.replace(identity, lot=check_lot(metadata.lot))
    except WireError as error:
        raise BadFrame(str(error), identity) from None
    return PlainFrame(
        identity=identity,
        camera=camera,
        recipe=recipe,
        layout=layout,
        pixels=memoryview(parts[-1]),
        incumbent=said,
    )


def encode(
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
) -> tuple[bytes, bytes | memoryview]:
    """Metadata and pixels of an array (h, w[, c]) of uint8 or uint16, or of JPEG or PNG bytes."""
    values: dict[str, object] = {
        "unit_id": unit_id,
        "trigger_id": trigger_id,
        "seq": seq,
        "camera": camera,
        "recipe": recipe,
        "captured_ns": captured_ns,
        "pixel_format": pixel_format,
        "incumbent": incumbent,
        "lot": lot,
    }
    body: bytes | memoryview
    if isinstance(pixels, bytes):
        body = pixels
    else:
        values |= {"dtype": pixels.dtype.str, "shape": pixels.shape}
        body = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8).data
    return msgspec.msgpack.encode({k: v for k, v in values.items() if v is not None}), body


def _read_metadata(parts: Sequence[Part], rules: Rules) -> tuple[_Metadata, str | None]:
    """The typed metadata, and the text of `msg` where the source says what it is."""
    if len(parts) not in (2, 3):
        raise BadFrame(
            f"message of {len(parts)} parts; send [metadata, pixels] or [topic, metadata, pixels]",
            Identity(),
        )
    raw = parts[-2]
    if not 1 <= len(raw) <= MAX_METADATA:
        raise BadFrame(
            f"metadata of {len(raw)} bytes; the limit is 1 to {MAX_METADATA}", Identity()
        )
    is_json = raw[0] == ord("{")
    if not is_json and raw[0] not in _MAPS:
        raise BadFrame(
            f"metadata starts with byte 0x{raw[0]:02x}; send a JSON object or a msgpack map",
            Identity(),
        )
    try:
        metadata = _JSON.decode(raw) if is_json else _MSGPACK.decode(raw)
        text = None if rules.msg_is == "ignore" else _text(metadata.msg, is_json=is_json)
    except _UNREADABLE as error:
        raise BadFrame(f"metadata cannot be read: {str(error)[:120]}", Identity()) from None
    return metadata, text


def _text(raw: msgspec.Raw, *, is_json: bool) -> str | None:
    if not bytes(raw):
        return None
    return msgspec.json.decode(raw, type=str) if is_json else msgspec.msgpack.decode(raw, type=str)


def is_known(name: str, names: frozenset[str]) -> bool:
    """Whether a station with these names takes this one."""
    return name in names or (EVERY in names and re.fullmatch(NAME, name) is not None)


def _identity(metadata: _Metadata, text: str | None, rules: Rules) -> Identity:
    unit = metadata.unit_id
    if unit is None and rules.msg_is == "unit_id":
        unit = text
    _in_range("trigger_id", metadata.trigger_id, 1, MAX_TRIGGER)
    _in_range("seq", metadata.seq, 0, MAX_SEQ)
    _in_range("captured_ns", metadata.captured_ns, 0, MAX_SEQ)
    if isinstance(unit, int):
        _in_range("unit_id", unit, -MAX_TRIGGER, MAX_TRIGGER)
        unit = str(unit)
    if unit is not None and not (1 <= len(unit) <= MAX_ID and unit.isprintable()):
        raise BadFrame(
            f"unit_id {unit[:80]!r}; send 1 to {MAX_ID} printable characters or a number",
            Identity(),
        )
    return Identity(unit, metadata.trigger_id, metadata.seq, metadata.captured_ns)


def check_lot(lot: str | None) -> str:
    """The name of a lot, empty where none is given; raises `WireError`."""
    if lot is not None and not re.fullmatch(NAME, lot):
        raise WireError(f"lot {lot[:80]!r}; 1 to 64 of the characters A-Z a-z 0-9 _ . - name one")
    return lot or ""


def _in_range(key: str, value: int | None, least: int, most: int) -> None:
    if value is not None and not least <= value <= most:
        shown = value if -MAX_TRIGGER <= value <= MAX_TRIGGER else "of more than 64 bits"
        raise BadFrame(f"{key} {shown}; the limits are {least} to {most}", Identity())


def _names(metadata: _Metadata, text: str | None, rules: Rules) -> tuple[str, str]:
    camera = metadata.camera
    if camera is None and rules.msg_is == "camera":
        camera = text
    camera = rules.camera if camera is None else camera
    recipe = rules.recipe if metadata.recipe is None else metadata.recipe
    if not is_known(camera, rules.cameras):
        raise WireError(
            f"camera {camera[:80]!r}; this station knows {', '.join(sorted(rules.cameras))}; "
            "name it in the recipe, or set the source's msg_is to 'unit_id' or 'ignore'"
        )
    if not is_known(recipe, rules.recipes):
        raise WireError(
            f"recipe {recipe[:80]!r}; this station knows {', '.join(sorted(rules.recipes))}; "
            "leave it out or activate that recipe"
        )
    return camera, recipe


def _layout(metadata: _Metadata, pixels: Part, rules: Rules) -> Layout:
    size = len(pixels)
    if not 1 <= size <= rules.max_bytes:
        raise WireError(
            f"frame of {size} bytes; the limit is 1 to {rules.max_bytes}; raise frames.max_bytes"
        )
    dtype, shape = metadata.dtype, metadata.shape
    if (dtype is None) != (shape is None):
        given, missing = ("dtype", "shape") if shape is None else ("shape", "dtype")
        raise WireError(
            f"{given} without {missing}; send both for raw pixels, none for JPEG or PNG"
        )
    if dtype is None or shape is None:
        return encoded_layout(pixels, metadata.pixel_format, rules.max_pixels)
    if dtype in ("uint8", "|u1") and shape in ([size], [size, 1]):
        return encoded_layout(pixels, metadata.pixel_format, rules.max_pixels)
    return raw_layout(dtype, shape, metadata.pixel_format, size, rules.max_pixels)
