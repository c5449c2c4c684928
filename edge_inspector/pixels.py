"""Pixels of any kind a frame may have, made uint8 grey, and where a pose puts them."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.errors import Uninspectable
from edge_inspector.records import Pixels, Pose, Reason

EIGHT_BIT = 255.0 / 65535.0
"""uint16 pixels fill their 16 bits (mono16); nothing is guessed from the values in a frame."""


def check(pixels: NDArray[Any]) -> NDArray[Any]:
    """The picture, (h, w) or (h, w, 3 or 4), uint8 or uint16; raises `Uninspectable` for others."""
    planes = pixels.shape[2] if pixels.ndim == 3 else 1
    known = pixels.dtype in (np.uint8, np.uint16) and pixels.ndim in (2, 3)
    if not known or planes not in (1, 3, 4) or not pixels.size:
        raise Uninspectable(
            Reason.BAD_INPUT.value,
            f"pixels are {pixels.dtype} of shape {pixels.shape}; "
            "send uint8 or uint16 of shape (h, w), (h, w, 3) or (h, w, 4), with no side empty",
        )
    return pixels[:, :, 0] if pixels.ndim == 3 and planes == 1 else pixels


def without_colour(pixels: NDArray[Any]) -> NDArray[Any]:
    """Grey of the same depth, shape (h, w)."""
    if pixels.ndim == 2:
        return pixels
    alpha = pixels.shape[2] == 4
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2GRAY if alpha else cv2.COLOR_BGR2GRAY)


def eight_bit(pixels: NDArray[Any]) -> Pixels:
    """uint8; uint16 is scaled from its full range."""
    if pixels.dtype == np.uint16:
        return np.asarray(cv2.convertScaleAbs(pixels, alpha=EIGHT_BIT), dtype=np.uint8)
    return np.asarray(pixels, dtype=np.uint8)


def grey(pixels: NDArray[Any]) -> Pixels:
    """uint8 grey, shape (h, w)."""
    return eight_bit(without_colour(check(pixels)))


def pose_matrix(pose: Pose) -> NDArray[np.float64]:
    """Reference px to frame px, 2 x 3."""
    angle = math.radians(pose.angle_deg)
    cosine, sine = pose.scale * math.cos(angle), pose.scale * math.sin(angle)
    return np.array([[cosine, sine, pose.dx], [-sine, cosine, pose.dy]])
