"""A frame's bytes to the array that is inspected; what cannot be one is `bad_input`."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.errors import Uninspectable, WireError
from edge_inspector.records import FrameHead, Pixels
from edge_inspector.wire.layout import FORMATS, announced, within_cap

MAX_PIXELS = 33_554_432

_TO_BGR = {
    "rgb8": cv2.COLOR_RGB2BGR,
    "bgra8": cv2.COLOR_BGRA2BGR,
    "bgra16": cv2.COLOR_BGRA2BGR,
    "rgba8": cv2.COLOR_RGBA2BGR,
    "bayer_rg8": cv2.COLOR_BayerRGGB2BGR,
    "bayer_gr8": cv2.COLOR_BayerGRBG2BGR,
    "bayer_gb8": cv2.COLOR_BayerGBRG2BGR,
    "bayer_bg8": cv2.COLOR_BayerBGGR2BGR,
}


def to_array(head: FrameHead, buffer: Pixels, max_pixels: int = MAX_PIXELS) -> NDArray[Any]:
    """
    Pixels of a frame, uint8 or uint16, shape (h, w) or (h, w, 3) BGR.

    Raw mono and BGR are views of `buffer`, without a copy. Raises `Uninspectable` with `bad_input`.
    """
    try:
        if head.codec in ("raw", "raw-be"):
            return _raw(head, buffer, max_pixels)
        return _decoded(buffer, max_pixels)
    except WireError as error:
        raise Uninspectable("bad_input", str(error)) from None


def _raw(head: FrameHead, buffer: Pixels, max_pixels: int) -> NDArray[Any]:
    if head.pixel_format not in FORMATS:
        raise WireError(f"pixel format {head.pixel_format!r}; known are {', '.join(FORMATS)}")
    sample, channels = FORMATS[head.pixel_format]
    shape = (head.height, head.width, channels) if channels > 1 else (head.height, head.width)
    within_cap(head.height, head.width, max_pixels)
    needed = head.height * head.width * channels * sample
    if needed != len(buffer) or not needed:
        raise WireError(
            f"{head.width} x {head.height} {head.pixel_format} takes {needed} bytes; "
            f"the frame has {len(buffer)}"
        )
    if sample == 2:
        order = ">u2" if head.codec == "raw-be" else "<u2"
        array: NDArray[Any] = buffer.view(order).reshape(shape).astype(np.uint16, copy=False)
    else:
        array = buffer.reshape(shape)
    code = _TO_BGR.get(head.pixel_format)
    return array if code is None else cv2.cvtColor(array, code)


def _decoded(buffer: Pixels, max_pixels: int) -> NDArray[Any]:
    codec, height, width = announced(buffer.data)
    within_cap(height, width, max_pixels)
    try:
        image = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise WireError(f"{codec} of {len(buffer)} bytes cannot be decoded: {error.err}") from None
    if image is None:
        raise WireError(f"{codec} of {len(buffer)} bytes cannot be decoded; it is damaged")
    if image.shape[:2] != (height, width):
        raise WireError(
            f"{codec} announced {width} x {height} pixels and "
            f"decoded to {image.shape[1]} x {image.shape[0]}; it is damaged"
        )
    if image.dtype not in (np.uint8, np.uint16):
        raise WireError(f"{codec} of {image.dtype} samples; 8 and 16 bits are taken")
    if image.ndim == 3 and image.shape[2] == 4:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)
    return image
