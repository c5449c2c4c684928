"""
A patch at one scale, refined by least squares.

This is the inverse compositional algorithm of Baker and Matthews, "Lucas-Kanade 20 Years On",
IJCV 56(3), 2004, with brightness and contrast projected out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.pixels import pose_matrix
from edge_inspector.records import Pixels, Pose

Floats = NDArray[np.float32]

SOFT = (5, 5)
"""Gaussian kernel that hides what linear interpolation does to sharp edges."""
STEPS = 5
MAX_STEP_PX = 2.0
HUBER = 2.0
"""Residuals count up to this many times their mean."""


@dataclass(frozen=True, slots=True)
class Found:
    """A place of the patch: its middle in px, its turn, its correlation, its relative contrast."""

    x: float
    y: float
    angle_deg: float
    score: float
    contrast: float = 1.0
    edges: float = 1.0
    """Correlation of the grey levels' slopes: lower where bright and dark agree but not the shapes."""

    def at(self, factor: float) -> Found:
        """The same place in a picture whose px are `factor` times as long."""
        x, y = (self.x + 0.5) / factor - 0.5, (self.y + 0.5) / factor - 0.5
        return replace(self, x=x, y=y)


class Level:
    """The patch at one scale, ready for least squares; places are in px of that scale."""

    def __init__(self, patch: Pixels, factor: int, turns: bool) -> None:
        small = block_means(patch, factor).astype(np.float32)
        self.factor = factor
        self.pixels = small
        self.middle = np.array([patch.shape[1], patch.shape[0]]) / (2 * factor) - 0.5
        self._radius = float(self.middle.max())
        self._edges = across, down = _slopes(small)
        rows, columns = np.indices(small.shape, dtype=np.float32)
        steepest = [across, down]
        if turns:
            steepest.append(across * (rows - self.middle[1]) - down * (columns - self.middle[0]))
        flat = small.ravel() - small.mean()
        self._norm = float(np.linalg.norm(flat))
        self._unit = flat / self._norm
        slopes = np.stack([image.ravel() for image in steepest])
        slopes -= slopes.mean(axis=1, keepdims=True)
        slopes -= np.outer(slopes @ self._unit, self._unit)
        self._solve = np.linalg.solve(slopes @ slopes.T, slopes).astype(np.float32)

    def refine(self, picture: Pixels, place: Found, still_px: float) -> Found:
        """The place moved to where the patch fits best, with its score and contrast there."""
        for _ in range(STEPS):
            place, (across, down), turn = self._look(picture, place)
            place = replace(
                place,
                x=place.x + min(max(across, -MAX_STEP_PX), MAX_STEP_PX),
                y=place.y + min(max(down, -MAX_STEP_PX), MAX_STEP_PX),
                angle_deg=place.angle_deg + math.degrees(turn),
            )
            if math.hypot(across, down) + abs(turn) * self._radius < still_px:
                break
        return place

    def _look(self, picture: Pixels, place: Found) -> tuple[Found, list[float], float]:
        """The score at `place`, and the step in px and in rad towards a better one."""
        flat = self._seen(picture, place).ravel().astype(np.float32)
        flat -= flat.mean()
        norm = max(float(np.linalg.norm(flat)), 1e-6)
        score = float(flat @ self._unit) / norm
        # Huber's clipping: scratches and missing balls must not pull the patch aside.
        residual = flat * (self._norm / (norm * max(score, 0.5))) - self._unit * self._norm
        limit = HUBER * float(np.abs(residual).mean())
        step = self._solve @ np.clip(residual, -limit, limit)
        turn = -float(step[2]) if len(step) > 2 else 0.0
        scored = Found(place.x, place.y, place.angle_deg, score, norm / self._norm)
        rotation = pose_matrix(Pose(angle_deg=place.angle_deg))[:, :2]
        return scored, (-(rotation @ step[:2])).tolist(), turn

    def compare_edges(self, picture: Pixels, place: Found) -> Found:
        """`place`, which is in px of the full scale, with the correlation of its edges."""
        seen = _slopes(self._seen(picture, place.at(self.factor)).astype(np.float32))
        both = max(float(np.linalg.norm(seen)) * float(np.linalg.norm(self._edges)), 1e-6)
        return replace(place, edges=float((seen * self._edges).sum()) / both)

    def _seen(self, picture: Pixels, place: Found) -> NDArray[Any]:
        """What lies under the patch at `place`."""
        matrix = pose_matrix(Pose(angle_deg=place.angle_deg))
        matrix[:, 2] = (place.x, place.y) - matrix[:, :2] @ self.middle
        return cv2.warpAffine(
            picture,
            matrix,
            (self.pixels.shape[1], self.pixels.shape[0]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )


def _slopes(pixels: Floats) -> Floats:
    """Grey levels per px across and down, shape (2, h, w)."""
    slopes = [
        cv2.Sobel(pixels, cv2.CV_32F, *axis, ksize=3, scale=1 / 8) for axis in ((1, 0), (0, 1))
    ]
    return np.stack(slopes).astype(np.float32)


def block_means(picture: NDArray[Any], factor: int) -> NDArray[Any]:
    """The picture shrunk by a whole factor; what does not fill a block is left out."""
    height, width = picture.shape[0] // factor, picture.shape[1] // factor
    small = picture[: height * factor, : width * factor]
    if factor > 1:
        small = cv2.resize(small, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(small, SOFT, 0)
