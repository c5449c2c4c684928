"""Frame + recipe -> crops: the one place where pixels are cut, turned and resized."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.errors import Misuse, Uninspectable
from edge_inspector.pixels import check, eight_bit, pose_matrix, without_colour
from edge_inspector.recipe import Grid, Recipe, Region
from edge_inspector.records import Box, Crop, Pixels, Pose, Reason, Roi

_Place = tuple[float, float]
OVERHANG_PX = 0.5
"""A region may hang over the frame's edge by this much: its nearest pixels are still there."""


def expand(recipe: Recipe) -> tuple[Roi, ...]:
    """All regions of a recipe, in its order, grids cut into cells; raises `Misuse`."""
    return tuple(roi for region in recipe.regions for roi in expand_region(region))


def expand_region(region: Region) -> tuple[Roi, ...]:
    """
    A region as one `Roi`, or its grid's cells named `<region>-r<row>c<column>` from 1.

    Cells that lie wholly in `ignore` are left out. Raises `Misuse` when nothing is left to judge.
    """
    if region.grid is None:
        cells = [(region.name, region.rect)]
    else:
        cells = _cells(region.name, region.rect, region.grid)
    rois = [Roi(name, region.camera, box, _mask(box, region.ignore)) for name, box in cells]
    judged = tuple(roi for roi in rois if roi.mask is None or not roi.mask.all())
    if not judged:
        raise Misuse(
            f"region '{region.name}': 'ignore' covers all {region.rect[2]} x {region.rect[3]} px; "
            "leave some of it to judge, or remove the region"
        )
    return judged


def _cells(name: str, rect: Box, grid: Grid) -> list[tuple[str, Box]]:
    """Equal cells; where the sides do not divide evenly, cells differ by one px and none is lost."""
    left, top, width, height = rect
    if grid.columns > width or grid.rows > height:
        raise Misuse(
            f"region '{name}': a grid of {grid.rows} x {grid.columns} cells does not fit into "
            f"{height} x {width} px; use fewer cells"
        )
    xs = [left + width * column // grid.columns for column in range(grid.columns + 1)]
    ys = [top + height * row // grid.rows for row in range(grid.rows + 1)]
    return [
        (f"{name}-r{row + 1}c{column + 1}", (x, y, xs[column + 1] - x, ys[row + 1] - y))
        for row, y in enumerate(ys[:-1])
        for column, x in enumerate(xs[:-1])
    ]


def _mask(box: Box, polygons: Sequence[Sequence[tuple[float, float]]]) -> Pixels | None:
    if not polygons:
        return None
    mask = np.zeros((box[3], box[2]), np.uint8)
    for polygon in polygons:
        points = np.round(np.array(polygon, dtype=np.float64) - box[:2]).astype(np.int32)
        cv2.fillPoly(mask, [points], 255)
    return mask if mask.any() else None


def squared(roi: Roi) -> Roi:
    """The centre square of a region, for engines whose manifest says `square`."""
    left, top, width, height = roi.box
    side = min(width, height)
    dx, dy = (width - side) // 2, (height - side) // 2
    mask = None if roi.mask is None else roi.mask[dy : dy + side, dx : dx + side]
    return Roi(roi.name, roi.camera, (left + dx, top + dy, side, side), mask)


def cut(
    pixels: NDArray[Any], pose: Pose, rois: Sequence[Roi], input_shape: tuple[int, int, int]
) -> list[Crop]:
    """
    The regions of one frame as the scorer takes them, `input_shape` (height, width, channels).

    Where the pose moves by whole pixels a crop is a slice of the frame, not copied unless it is
    resized; else each region is warped straight to the scorer's size. Raises `Uninspectable` when
    a region leaves the frame.
    """
    picture = check(pixels)
    return [_cut_one(picture, pose, roi, input_shape) for roi in rois]


def _cut_one(
    picture: NDArray[Any], pose: Pose, roi: Roi, input_shape: tuple[int, int, int]
) -> Crop:
    height, width, channels = input_shape
    box = _frame_box(picture, pose, roi)
    x, y, across, down = box
    window = picture[y : y + down, x : x + across]
    if _whole_pixels(pose):
        crop = fit(window, height, width, channels)
    else:
        matrix = _crop_to_frame(roi.box, pose, height, width)
        matrix[:, 2] -= (x, y)
        crop = _finish(_warp(_reduce(window, channels), matrix, height, width), channels)
    if roi.mask is not None:
        crop = _neutral(crop, crop_mask(roi.mask, height, width))
    return Crop(roi, crop, box)


def _whole_pixels(pose: Pose) -> bool:
    plain = pose.angle_deg == 0.0 and pose.scale == 1.0
    return plain and float(pose.dx).is_integer() and float(pose.dy).is_integer()


def _frame_box(picture: NDArray[Any], pose: Pose, roi: Roi) -> Box:
    """Upright box of the region in the frame, px; raises `Uninspectable` when it leaves the frame."""
    low, high = _bounds(roi.box, pose_matrix(pose))
    rows, columns = picture.shape[:2]
    over = max(-low[0], -low[1], high[0] - columns, high[1] - rows)
    if over > OVERHANG_PX:
        raise Uninspectable(
            Reason.BAD_INPUT.value,
            f"region '{roi.name}' lies at x {low[0]:.1f} to {high[0]:.1f}, y {low[1]:.1f} to "
            f"{high[1]:.1f} px and leaves the frame of {columns} x {rows} px; "
            "move the part, the camera or the region",
        )
    return _whole_box(
        (max(low[0], 0.0), max(low[1], 0.0)), (min(high[0], columns), min(high[1], rows))
    )


def _bounds(box: Box, matrix: NDArray[np.float64]) -> tuple[_Place, _Place]:
    """Where the moved box begins and ends, x and y; a px reaches from its number to the next."""
    x, y, width, height = box
    lows, highs = [], []
    for of_x, of_y, shift in matrix.tolist():  # plain numbers: numpy takes 20 us for these few
        across = of_x * (x - 0.5), of_x * (x + width - 0.5)
        down = of_y * (y - 0.5), of_y * (y + height - 0.5)
        lows.append(min(across) + min(down) + shift + 0.5)
        highs.append(max(across) + max(down) + shift + 0.5)
    return (lows[0], lows[1]), (highs[0], highs[1])


def _whole_box(low: _Place, high: _Place) -> Box:
    x, y = math.floor(low[0] + 1e-6), math.floor(low[1] + 1e-6)
    right, bottom = math.ceil(high[0] - 1e-6), math.ceil(high[1] - 1e-6)
    return x, y, right - x, bottom - y


def _crop_to_frame(box: Box, pose: Pose, height: int, width: int) -> NDArray[np.float64]:
    """Crop px to frame px, 2 x 3; centres of pixels at whole numbers in both."""
    x, y = box[2] / width, box[3] / height
    to_reference = np.array([[x, 0, box[0] + x / 2 - 0.5], [0, y, box[1] + y / 2 - 0.5], [0, 0, 1]])
    return np.asarray(pose_matrix(pose) @ to_reference)


def to_frame(crop: Crop, box: Box, pose: Pose) -> Box:
    """Upright box in frame px around `box`, which is in px of the crop."""
    height, width = crop.pixels.shape[:2]
    matrix = _crop_to_frame(crop.roi.box, pose, height, width)
    return _whole_box(*_bounds(box, matrix))


def crop_mask(mask: Pixels, height: int, width: int) -> Pixels:
    """A region's mask at any size, for its crop or anomaly map: 255 where a masked px takes part."""
    return np.where(_shrink(mask, height, width) > 0, np.uint8(255), np.uint8(0))


def _neutral(crop: Pixels, mask: Pixels) -> Pixels:
    """
    Masked pixels replaced by the mean of the judged ones, in a copy.

    The mean adds neither brightness nor a dark or bright body that an engine could take for a
    defect, and it depends on this crop alone. The rim of the patch may still score: whoever makes
    an anomaly map clears it under `crop_mask` before it takes the worst place.
    """
    judged = np.asarray(cv2.mean(crop, cv2.bitwise_not(mask)))
    planes = 1 if crop.ndim == 2 else crop.shape[2]
    level = np.rint(judged[:planes]).astype(np.uint8)
    filled = crop.copy()
    filled[mask > 0] = level if crop.ndim == 3 else level[0]
    return filled


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
    picture = check(pixels)
    if square:
        side = min(picture.shape[:2])
        top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
        picture = picture[top : top + side, left : left + side]
    return _finish(_shrink(_reduce(picture, channels), height, width), channels)


def _shrink(picture: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    rows, columns = picture.shape[:2]
    down, across = max(rows // height, 1), max(columns // width, 1)
    if (rows % down, columns % across) == (0, 0):
        blocks = _block_means(picture, down, across)
        same = blocks.shape[:2] == (height, width)
        return blocks if same else cv2.resize(blocks, (width, height))
    # The last block hangs over the edge: cv2.resize would squeeze, this keeps centres on centres.
    x, y = columns / width, rows / height
    return _warp(picture, np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5]]), height, width)


def _warp(
    picture: NDArray[Any], matrix: NDArray[np.float64], height: int, width: int
) -> NDArray[Any]:
    """The crop whose px `matrix` maps to px of `picture`; block means first where it shrinks."""
    across, down = (max(int(np.hypot(*matrix[:, axis]) + 1e-6), 1) for axis in (0, 1))
    if abs(matrix[0, 0]) < abs(matrix[0, 1]):
        across, down = down, across
    blocks = _block_means(picture, down, across)
    matrix = matrix / [[across], [down]]
    matrix[:, 2] += 0.5 / across - 0.5, 0.5 / down - 0.5
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        blocks, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )


def _block_means(picture: NDArray[Any], down: int, across: int) -> NDArray[Any]:
    if (down, across) == (1, 1):
        return picture
    below, right = -picture.shape[0] % down, -picture.shape[1] % across
    if below or right:
        picture = cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_REPLICATE)
    size = (picture.shape[1] // across, picture.shape[0] // down)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _reduce(picture: NDArray[Any], channels: int) -> NDArray[Any]:
    """Drop channels that are not wanted, before the work of resizing."""
    if channels == 1:
        return without_colour(picture)
    return picture[:, :, :3] if picture.ndim == 3 else picture


def _finish(picture: NDArray[Any], channels: int) -> Pixels:
    crop = eight_bit(picture)
    if channels == 3 and crop.ndim == 2:
        return np.asarray(cv2.cvtColor(crop, cv2.COLOR_GRAY2BGR), dtype=np.uint8)
    return crop
