"""What a source offers and what it hears back: one frame as header and bytes, one settlement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_inspector import clock
from edge_inspector.errors import Misuse, WireError
from edge_inspector.records import Outcome, Reason
from edge_inspector.wire.codes import CODEC_NUMBERS, FORMAT_NUMBERS, Type
from edge_inspector.wire.header import Header, digest
from edge_inspector.wire.incumbent import read_incumbent
from edge_inspector.wire.layout import JPEG, PNG, raw_layout
from edge_inspector.wire.plain import check_lot

MAX_SIDE = 65_535
MAX_TRIGGER = 2**64 - 1
MAX_UNIT_ID = 64
MAX_BUDGET_MS = 600_000.0

Part = bytes | memoryview
Given = Literal["camera_fault", "no_image"]
"""Why a source gives a frame up by itself."""

Answer = tuple[int | None, Outcome | None, Reason | None, str]
"""vseq, outcome, reason and detail of a settlement."""


class Settlement(msgspec.Struct, frozen=True):
    """
    The end of one frame: its unit has a verdict in the daemon's log, under number `vseq`.

    `vseq` is None where the source heard no number: a new link said only that the frame is settled
    (`outcome` is None too), or the daemon has other pixels under this number (`conflict`).
    """

    seq: int
    vseq: int | None
    outcome: Outcome | None
    reason: Reason | None = None
    detail: str = ""
    trigger_id: int | None = None
    unit_id: str | None = None


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A frame without a number; no `pixels` means a tombstone, which says `why`."""

    header: Header
    pixels: Part | None = None
    unit_id: str | None = None
    recipe: str | None = None
    why: Given | None = None
    incumbent: str | None = None
    lot: str | None = None
    repeat: bool = False


def draft(
    pixels: NDArray[Any] | bytes | None,
    *,
    trigger_id: int | None,
    unit_id: str | None,
    camera: int,
    recipe: str | None,
    age_ms: float,
    budget_ms: float,
    pixel_format: str | None = None,
    copy: bool = True,
    why: Given | None = None,
    incumbent: str | None = None,
    lot: str | None = None,
) -> Draft:
    """A frame taken `age_ms` ago, a negative age counts as 0; raises `Misuse`."""
    if trigger_id is not None and not 1 <= trigger_id <= MAX_TRIGGER:
        raise Misuse(f"trigger_id {trigger_id}; it counts from 1 to {MAX_TRIGGER}")
    if unit_id is not None and not 1 <= len(unit_id) <= MAX_UNIT_ID:
        raise Misuse(f"unit_id of {len(unit_id)} characters; it has 1 to {MAX_UNIT_ID}")
    if not 0 < budget_ms <= MAX_BUDGET_MS:
        raise Misuse(f"budget_ms {budget_ms}; it is above 0 and at most {MAX_BUDGET_MS:.0f}")
    if incumbent is not None:
        _checked(read_incumbent, incumbent)
    _checked(check_lot, lot)
    age_ns = round(max(0.0, age_ms) * clock.NS_PER_MS)
    header = Header(
        type=Type.FRAME,
        trigger_id=trigger_id or 0,
        t_mono_ns=max(0, clock.now_ns() - age_ns),
        t_utc_ns=max(0, clock.utc_ns() - age_ns),
        budget_us=max(1, round(budget_ms * 1000)),
        camera=camera,
    )
    body: Part | None = None
    if pixels is not None:
        header, body = _described(header, pixels, pixel_format, copy=copy)
    return Draft(
        header=header,
        pixels=body,
        unit_id=unit_id,
        recipe=recipe,
        why=why,
        incumbent=incumbent,
        lot=lot,
    )


def _checked(read: Callable[[Any], object], text: str | None) -> None:
    try:
        read(text)
    except WireError as error:
        raise Misuse(str(error)) from None


def _described(
    header: Header, pixels: NDArray[Any] | bytes, pixel_format: str | None, *, copy: bool
) -> tuple[Header, Part]:
    if isinstance(pixels, bytes):
        codec = "jpeg" if pixels.startswith(JPEG) else "png" if pixels.startswith(PNG) else None
        if codec is None:
            raise Misuse(
                f"{len(pixels)} bytes that start with {pixels[:4].hex() or 'nothing'} are neither "
                "JPEG nor PNG; give raw pixels as an array"
            )
        return _with(header, digest=digest(pixels), codec=CODEC_NUMBERS[codec]), pixels
    try:
        size = pixels.nbytes
        layout = raw_layout(pixels.dtype.str, pixels.shape, pixel_format, size, MAX_SIDE**2)
    except WireError as error:
        raise Misuse(str(error)) from None
    number = FORMAT_NUMBERS.get(layout.pixel_format)
    if number is None or max(layout.height, layout.width) > MAX_SIDE:
        raise Misuse(
            f"{layout.width} x {layout.height} {layout.pixel_format}; sides reach {MAX_SIDE} px, "
            f"formats are {', '.join(FORMAT_NUMBERS)}"
        )
    body = _bytes_of(pixels, copy=copy)
    return _with(
        header,
        digest=digest(body),
        width=layout.width,
        height=layout.height,
        pixel_format=number,
    ), body


def _bytes_of(pixels: NDArray[Any], *, copy: bool) -> Part:
    """Rows tight, low byte first."""
    if pixels.dtype.str == ">u2":
        return pixels.astype("<u2").tobytes()
    if copy:
        return pixels.tobytes()
    return np.ascontiguousarray(pixels).reshape(-1).view(np.uint8).data


def _with(header: Header, **fields: int) -> Header:
    return msgspec.structs.replace(header, **fields)
