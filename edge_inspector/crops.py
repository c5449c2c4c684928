"""Frame + recipe -> crops: the one place where pixels are cut, turned and resized."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.errors import Uninspectable
from edge_inspector.records import Pixels, Reason

EIGHT_BIT = 255.0 / 65535.0
"""uint16 pixels fill their 16 bits (mono16); nothing is guessed from the values in a frame."""


def fit(
    pixels: NDArray[Any], height: int, width: int, channels: int, *, square: bool = False
) -> Pixels:
    """
    Pixels as an engine takes them: uint8, (height, width) or (height, width, 3).

    Takes uint8 or uint16, grey, BGR or BGRA; `square` cuts to the centre square first. The whole
    area is mapped to the whole crop. Shrinking averages blocks of whole pixels and interpolates
    the remaining factor below 2, because INTER_AREA with a broken factor costs more than a lean
    network (2 ms for 1000 -> 256). Same size, depth and channels: the pixels themselves, no copy.
    Raises `Uninspectable`.
    """
    check(pixels)
    if square:
        pixels = _centre_square(pixels)
    flat = pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    return _channels(_eight_bit(resize(_reduce(flat, channels), height, width)), channels)


def check(pixels: NDArray[Any]) -> None:
    """Refuse what is not a picture of 8 or 16 bits with 1, 3 or 4 channels."""
    planes = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim not in (2, 3):
        detail = f"pixels are {pixels.dtype} of shape {pixels.shape}; uint8 or uint16 (h, w[, c])"
        raise Uninspectable(Reason.BAD_INPUT.value, f"{detail} can be used")
    if planes not in (1, 3, 4) or not pixels.size:
        detail = f"pixels have shape {pixels.shape}; 1, 3 or 4 channels and no empty side can be"
        raise Uninspectable(Reason.BAD_INPUT.value, f"{detail} used")


def resize(pixels: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Map the whole area to `height` x `width`: block means, then linear; same size: no copy."""
    rows, columns = pixels.shape[:2]
    down, across = max(rows // height, 1), max(columns // width, 1)
    if (down, across) != (1, 1):
        pixels = _block_means(pixels, down, across)
    if (rows % down, columns % across) == (0, 0):
        same = pixels.shape[:2] == (height, width)
        return pixels if same else cv2.resize(pixels, (width, height))
    # The last block hangs over the edge: cv2.resize would squeeze, this keeps centres on centres.
    x, y = columns / (width * across), rows / (height * down)
    matrix = np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        pixels, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )


def _block_means(pixels: NDArray[Any], down: int, across: int) -> NDArray[Any]:
    rows, columns = pixels.shape[:2]
    below, right = -rows % down, -columns % across
    if below or right:
        pixels = cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_REPLICATE)
    size = (pixels.shape[1] // across, pixels.shape[0] // down)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def _centre_square(pixels: NDArray[Any]) -> NDArray[Any]:
    side = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    return pixels[top : top + side, left : left + side]


def _reduce(pixels: NDArray[Any], channels: int) -> NDArray[Any]:
    """Drop channels that are not wanted, before the work of resizing."""
    if pixels.ndim == 2:
        return pixels
    alpha = pixels.shape[2] == 4
    if channels == 1:
        return cv2.cvtColor(pixels, cv2.COLOR_BGRA2GRAY if alpha else cv2.COLOR_BGR2GRAY)
    return pixels[:, :, :3] if alpha else pixels


def _eight_bit(pixels: NDArray[Any]) -> Pixels:
    if pixels.dtype == np.uint16:
        return np.asarray(cv2.convertScaleAbs(pixels, alpha=EIGHT_BIT), dtype=np.uint8)
    return np.asarray(pixels, dtype=np.uint8)


def _channels(pixels: Pixels, channels: int) -> Pixels:
    if channels == 3 and pixels.ndim == 2:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), dtype=np.uint8)
    return pixels
