"""Data Matrix and other codes on the product: the region that holds one gives the unit its serial."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_inspector.crops import cut, expand_region
from edge_inspector.errors import BackendMissing, Uninspectable
from edge_inspector.recipe import Recipe, Region
from edge_inspector.records import Crop, Inspection, Outcome, Pixels, Pose, Reason, Roi
from edge_inspector.verdict import uninspected

MAX_SERIAL = 128
"""Characters of a serial, so that verdicts still fit one message."""
MARGIN = 0.15
"""Share of the region's shorter side that is read around it: a code needs its quiet zone."""
ENLARGED_PX = 200
"""Larger regions are not enlarged: where nothing can be read it would take 15 ms of 26 at 390 px."""
FORMATS = {"data-matrix": "DataMatrix", "qr-code": "QRCode", "code-128": "Code128"}


@dataclass(frozen=True, slots=True)
class CodeReader:
    """Reads the one code of a region."""

    roi: Roi
    required: bool
    """Whether a unit whose code cannot be read is uninspected."""
    decode: Callable[[Pixels], set[str]]

    def read(self, pixels: NDArray[Any], pose: Pose) -> str:
        """The code's text; raises `Uninspectable` where there is none, or more than one."""
        crop = self._crop(pixels, pose)
        for view in _views(crop.pixels):
            if texts := self.decode(view):
                return self._only(texts)
        x, y, width, height = crop.frame_box
        raise self._unreadable(
            f"no code can be read at x {x}, y {y}, {width} x {height} px; mend its print, its "
            'light or the region, or give the region unreadable = "unnamed"'
        )

    def _crop(self, pixels: NDArray[Any], pose: Pose) -> Crop:
        """Turned upright, with a margin where the frame has one."""
        x, y, width, height = self.roi.box
        edge = max(4, round(MARGIN * min(width, height)))
        wide = (x - edge, y - edge, width + 2 * edge, height + 2 * edge)
        with suppress(Uninspectable):
            roi = Roi(self.roi.name, self.roi.camera, wide)
            return cut(pixels, pose, [roi], (wide[3], wide[2], 1))[0]
        return cut(pixels, pose, [self.roi], (height, width, 1))[0]

    def _only(self, texts: set[str]) -> str:
        if len(texts) > 1:
            raise self._unreadable(f"{len(texts)} codes are read; draw the region around one")
        (text,) = texts
        if len(text) > MAX_SERIAL or not text.isprintable():
            raise self._unreadable(
                f"its code has {len(text)} characters; a serial has at most {MAX_SERIAL}, "
                "all of them printable"
            )
        return text

    def _unreadable(self, problem: str) -> Uninspectable:
        return Uninspectable(Reason.BAD_INPUT.value, f"region '{self.roi.name}': {problem}")


def open_codes(recipe: Recipe) -> dict[str, tuple[CodeReader, ...]]:
    """The readers of a recipe's codes by camera; raises `BackendMissing`."""
    readers: dict[str, tuple[CodeReader, ...]] = {}
    for region in recipe.regions:
        if region.code is not None:
            (roi,) = expand_region(region)
            reader = CodeReader(roi, region.unreadable == "uninspected", _decoder(region))
            readers[region.camera] = (*readers.get(region.camera, ()), reader)
    return readers


def read_codes(readers: Sequence[CodeReader], pixels: NDArray[Any], pose: Pose) -> tuple[str, str]:
    """The serial, of several codes joined by ';', and why one that is required cannot be read."""
    texts: list[str] = []
    problem = ""
    for reader in readers:
        try:
            texts.append(reader.read(pixels, pose))
        except Uninspectable as error:
            problem = problem or (error.detail if reader.required else "")
    return ";".join(dict.fromkeys(texts)), problem


def named(inspection: Inspection, serial: str, problem: str) -> Inspection:
    """The answer with its serial; no pass without a code that is required."""
    if problem and inspection.outcome is Outcome.PASS:
        inspection = uninspected(Reason.BAD_INPUT, problem)
    return msgspec.structs.replace(inspection, serial=serial)


def _decoder(region: Region) -> Callable[[Pixels], set[str]]:
    try:
        import zxingcpp
    except ImportError:
        raise BackendMissing(
            f"region '{region.name}' holds a code, and the package 'zxing-cpp' is not installed; "
            "pip install 'edge-inspector[codes]'"
        ) from None
    formats = zxingcpp.barcode_formats_from_str(FORMATS.get(region.code or "", ""))

    def decode(pixels: Pixels) -> set[str]:
        return {found.text for found in zxingcpp.read_barcodes(pixels, formats)}

    return decode


def _views(pixels: Pixels) -> Iterator[Pixels]:
    """As it is; smoothed, for noise and coarse dots; enlarged, for modules of 2 px; smoothed more."""
    yield pixels
    yield np.asarray(cv2.GaussianBlur(pixels, (0, 0), 1.0), np.uint8)
    if max(pixels.shape) <= ENLARGED_PX:
        larger = cv2.resize(pixels, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        yield np.asarray(larger, np.uint8)
    yield np.asarray(cv2.GaussianBlur(pixels, (0, 0), 2.0), np.uint8)
