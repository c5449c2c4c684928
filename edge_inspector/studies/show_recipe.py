"""A recipe's regions drawn over a frame, in the pose in which the product lies there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.align import open_alignment
from edge_inspector.crops import cut, expand_region
from edge_inspector.errors import Misuse, Uninspectable
from edge_inspector.pixels import check, eight_bit, pose_matrix, without_colour
from edge_inspector.recipe import Recipe, Region
from edge_inspector.records import Pixels, Pose

COLOURS = ((80, 200, 60), (240, 160, 40), (60, 160, 250), (200, 90, 220), (60, 220, 230))
"""Blue, green, red; one for each engine, in turn."""
OUTSIDE = (40, 40, 230)
IGNORED = (40, 40, 230)
NAME_PX = 14
"""Height of a name; frames with a shorter side below 480 px are drawn larger for it."""
SMALLEST_PX = 480


@dataclass(frozen=True, slots=True)
class Shown:
    """The picture (h, w, 3) BGR, the pose and in words, and what leaves the frame."""

    picture: Pixels
    pose: Pose
    words: str
    outside: tuple[str, ...]


def show_recipe(recipe: Recipe, pixels: NDArray[Any], camera: str) -> Shown:
    """
    Draw the regions of `camera` over a frame of it.

    Raises `Uninspectable` where the product is not found, `Misuse` for an unknown camera.
    """
    regions = [region for region in recipe.regions if region.camera == camera]
    if not regions:
        raise Misuse(f"no region has camera '{camera}'; cameras: {', '.join(recipe.cameras)}")
    pose = open_alignment(recipe.alignment.get(camera)).find(pixels)
    larger = max(round(SMALLEST_PX / min(pixels.shape[:2])), 1)
    picture = _backdrop(pixels, larger)
    matrix = pose_matrix(pose)
    names = list(dict.fromkeys(region.engine or region.rules for region in regions))
    outside = []
    for region in regions:
        colour = COLOURS[names.index(region.engine or region.rules) % len(COLOURS)]
        if problem := _leaves(pixels, pose, region):
            outside.append(problem)
        _draw(picture, region, matrix, larger, OUTSIDE if problem else colour)
    return Shown(picture, pose, _words(recipe, camera, pose, pixels.shape), tuple(outside))


def reference_frame(recipe: Recipe, pixels: NDArray[Any], camera: str) -> Pixels:
    """The frame as the recipe's reference has it, uint8 (h, w) or (h, w, 3), for drawing regions on."""
    spec = recipe.alignment.get(camera)
    pose = open_alignment(spec).find(pixels)
    height, width = pixels.shape[:2]
    size = spec.size if spec is not None and spec.method == "outline" else (width, height)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    plain = eight_bit(check(pixels))
    return np.asarray(cv2.warpAffine(plain, pose_matrix(pose), size, flags=flags), np.uint8)


def _backdrop(pixels: NDArray[Any], larger: int) -> Pixels:
    grey = eight_bit(without_colour(check(pixels)))
    size = (grey.shape[1] * larger, grey.shape[0] * larger)
    sized = cv2.resize(grey, size, interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.cvtColor(sized, cv2.COLOR_GRAY2BGR), np.uint8)


def _leaves(pixels: NDArray[Any], pose: Pose, region: Region) -> str | None:
    """What the line would say of a region that leaves the frame."""
    try:
        cut(pixels, pose, expand_region(region), (8, 8, 1))
    except Uninspectable as error:
        return error.detail
    return None


def _draw(
    picture: Pixels,
    region: Region,
    matrix: NDArray[np.float64],
    larger: int,
    colour: tuple[int, int, int],
) -> None:
    x, y = region.rect[:2]
    cells = [] if region.grid is None else [roi.box for roi in expand_region(region)]
    for box in cells:
        _polygon(picture, _corners(box), matrix, larger, colour, 1)
    for polygon in region.ignore:
        points = _placed(np.array(polygon, np.float64), matrix, larger)
        shade = picture.copy()
        cv2.fillPoly(shade, [points], IGNORED)
        cv2.addWeighted(shade, 0.4, picture, 0.6, 0, dst=picture)
    _polygon(picture, _corners(region.rect), matrix, larger, colour, 2)
    at = _placed(np.array([(x + 2.0, y + 2.0)]), matrix, larger)[0]
    scale = NAME_PX / 22
    place = (int(at[0]), int(at[1]) + NAME_PX)
    for thick, shade_of in ((4, (0, 0, 0)), (1, colour)):
        cv2.putText(
            picture,
            region.name,
            place,
            cv2.FONT_HERSHEY_SIMPLEX,
            scale,
            shade_of,
            thick,
            cv2.LINE_AA,
        )


def _corners(box: tuple[int, int, int, int]) -> NDArray[np.float64]:
    """A px reaches half a px from its number."""
    x, y, width, height = box
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    return np.array(corners, np.float64) - 0.5


def _polygon(
    picture: Pixels,
    corners: NDArray[np.float64],
    matrix: NDArray[np.float64],
    larger: int,
    colour: tuple[int, int, int],
    thick: int,
) -> None:
    points = _placed(corners, matrix, larger)
    cv2.polylines(picture, [points], True, colour, thick, cv2.LINE_AA)


def _placed(
    points: NDArray[np.float64], matrix: NDArray[np.float64], larger: int
) -> NDArray[np.int32]:
    """Reference px to px of the drawing."""
    return np.round(((points @ matrix[:, :2].T + matrix[:, 2]) + 0.5) * larger).astype(np.int32)


def _words(recipe: Recipe, camera: str, pose: Pose, shape: tuple[int, ...]) -> str:
    spec = recipe.alignment.get(camera)
    if spec is None:
        return f"camera '{camera}': no alignment, the frame of {shape[1]} x {shape[0]} px is taken as it comes"
    turn = "counter-clockwise" if pose.angle_deg > 0 else "clockwise"
    return (
        f"camera '{camera}': found by its {spec.method} with a score of {pose.score:.2f}; the "
        f"reference begins at x {pose.dx:.1f}, y {pose.dy:.1f} px, turned by "
        f"{abs(pose.angle_deg):.2f} degrees {turn}, {pose.scale:.3f} times as large"
    )
