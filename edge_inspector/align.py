"""Where the product lies in a frame: by its outline, a template or fiducial marks; never a guess."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.align_outline import OutlineAligner
from edge_inspector.align_patch import COARSE_SIDE_PX, Patch
from edge_inspector.errors import DocumentError, Uninspectable
from edge_inspector.pixels import check, grey, pose_matrix
from edge_inspector.recipe_alignment import Fiducials, Outline, Template
from edge_inspector.records import Pixels, Pose, Reason

MIN_DEVIATION = 2.0
"""Standard deviation of grey levels below which a patch has nothing to be found by."""


class Aligner(Protocol):
    """Finds the product in a frame."""

    def find(self, pixels: NDArray[Any]) -> Pose:
        """Reference px to frame px; raises `Uninspectable` when the product is not surely found."""


def open_alignment(spec: Outline | Template | Fiducials | None) -> Aligner:
    """
    The aligner a recipe asks for; without one the frame is taken as it comes.

    Raises `DocumentError` when an image that `spec` names cannot be used.
    """
    if spec is None:
        return AsItComes()
    if isinstance(spec, Outline):
        return OutlineAligner(spec)
    return TemplateAligner(spec) if isinstance(spec, Template) else FiducialAligner(spec)


class AsItComes:
    """No alignment: the frame is the reference."""

    def find(self, pixels: NDArray[Any]) -> Pose:
        """The identity."""
        check(pixels)
        return Pose()


class TemplateAligner:
    """One patch gives translation and rotation."""

    def __init__(self, spec: Template) -> None:
        pixels = _read(spec.image)
        self._patch = Patch(
            pixels,
            search_px=spec.search_px,
            max_angle_deg=spec.max_angle_deg,
            min_score=spec.min_score,
            name=f"template '{spec.image.name}'",
        )
        self._middle = np.array(spec.position) + (np.array(pixels.shape[::-1]) - 1) / 2

    def find(self, pixels: NDArray[Any]) -> Pose:
        """Reference px to frame px; raises `Uninspectable`."""
        found = self._patch.find(check(pixels), *self._middle)
        return _pose((found.x, found.y), self._middle, found.angle_deg, found.score)


class FiducialAligner:
    """Two or more marks, each found near its place, give a rigid pose that all must agree with."""

    def __init__(self, spec: Fiducials) -> None:
        pixels = _read(spec.image)
        self._positions = np.array(spec.positions)
        self._limit_px = spec.max_residual_px
        self._patches = [
            Patch(
                pixels,
                search_px=spec.search_px,
                max_angle_deg=0,
                min_score=spec.min_score,
                name=f"fiducial {number} of '{spec.image.name}'",
            )
            for number in range(1, len(spec.positions) + 1)
        ]

    def find(self, pixels: NDArray[Any]) -> Pose:
        """Reference px to frame px; raises `Uninspectable`."""
        picture = check(pixels)
        marks = [
            patch.find(picture, *position)
            for patch, position in zip(self._patches, self._positions, strict=True)
        ]
        places = np.array([(mark.x, mark.y) for mark in marks])
        pose = _rigid(self._positions, places, min(mark.score for mark in marks))
        matrix = pose_matrix(pose)
        misses = np.hypot(*(self._positions @ matrix[:, :2].T + matrix[:, 2] - places).T)
        if misses.max() > self._limit_px:
            raise Uninspectable(
                Reason.BAD_INPUT.value,
                f"fiducial {misses.argmax() + 1} lies {misses.max():.2f} px from where the others "
                f"put it; max_residual_px is {self._limit_px}: a mark is hidden or the scale changed",
            )
        return pose


def _rigid(reference: NDArray[np.float64], seen: NDArray[np.float64], score: float) -> Pose:
    """Least-squares turn and shift of the points `reference` onto `seen`."""
    one, two = reference - reference.mean(axis=0), seen - seen.mean(axis=0)
    cross = float((one[:, 1] * two[:, 0] - one[:, 0] * two[:, 1]).sum())
    angle = math.degrees(math.atan2(cross, float((one * two).sum())))
    return _pose(seen.mean(axis=0), reference.mean(axis=0), angle, score)


def _pose(seen: Any, reference: NDArray[np.float64], angle_deg: float, score: float) -> Pose:
    """The pose that turns by `angle_deg` and puts the point `reference` at `seen`."""
    shift = np.asarray(seen) - pose_matrix(Pose(angle_deg=angle_deg))[:, :2] @ reference
    return Pose(float(shift[0]), float(shift[1]), angle_deg, 1.0, min(max(score, 0.0), 1.0))


def _read(path: Path) -> Pixels:
    if not path.is_file():
        raise DocumentError(str(path), None, "there is no such image; cut it from a good frame")
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise DocumentError(str(path), None, "is not an image that can be read; use PNG")
    pixels = grey(picture)
    if min(pixels.shape) < COARSE_SIDE_PX:
        size = f"{pixels.shape[1]} x {pixels.shape[0]} px"
        raise DocumentError(str(path), None, f"is {size}; at least {COARSE_SIDE_PX} px a side work")
    if pixels.std() < MIN_DEVIATION:
        raise DocumentError(
            str(path),
            None,
            f"its grey levels spread by {pixels.std():.1f}, less than {MIN_DEVIATION}: "
            "there is nothing to be found by; choose a patch with edges in both directions",
        )
    return pixels
