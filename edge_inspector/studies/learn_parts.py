"""What can be measured in crops that are alike: separate blobs, facing edges, parts with a look."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.records import Pixels
from edge_inspector.rules.calipers import SEARCH_PX, steps
from edge_inspector.rules.tools import MAX_PARTS, Blobs, Calipers, Patches

LEAST_AREA_PX2 = 12
LARGEST_SHARE = 0.2
"""Of the crop: what is larger is the ground of something, and no part."""
ALIKE = 1.7
"""Parts whose areas differ by less than this factor may be of one grid."""
FILLED = 0.6
"""Share of the places of a grid that hold a part."""
LEAST_CONTRAST_GREY = 20.0
LEAST_STEP_GREY = 12.0
"""Change of grey over 2 px that makes an edge."""
BANDS = 24
MAX_CALIPERS = 256
TILES = 4
PATCH_ROOM_PX = 2
Places = NDArray[np.complex128]


def find_blobs(template: Pixels) -> Blobs | None:
    """The separate parts of a template, of the polarity that has more; None where there are none."""
    found = [_blobs(template, "bright"), _blobs(template, "dark")]
    return max(filter(None, found), key=lambda one: len(one.names), default=None)


def _blobs(template: Pixels, polarity: Literal["bright", "dark"]) -> Blobs | None:
    sign = 1.0 if polarity == "bright" else -1.0
    level, _ = cv2.threshold(template, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    blob, ground, kept = 0.0, 0.0, np.zeros_like(template)
    for _ in range(3):  # the level goes to the middle between the parts and what is around them
        white = np.asarray(sign * template > sign * level, np.uint8)
        kept = _eligible(white)
        if not kept.any():
            return None
        around = np.asarray(cv2.dilate(kept, np.ones((5, 5), np.uint8)) * (1 - white))
        blob = float(np.median(template[kept > 0]))
        ground = float(np.median(template[around > 0])) if around.any() else level
        level = (blob + ground) / 2
    if sign * (blob - ground) < LEAST_CONTRAST_GREY:
        return None
    count, _, stats, middles = cv2.connectedComponentsWithStats(kept)
    if count > MAX_PARTS:
        return None
    at = middles[1:] @ np.array([1, 1j])
    areas = stats[1:, cv2.CC_STAT_AREA].astype(np.float64)
    names, order = name_parts(at, areas)
    return Blobs(
        polarity=polarity,
        blob_grey=blob,
        ground_grey=ground,
        names=tuple(names),
        x_px=tuple(at[order].real.round(2).tolist()),
        y_px=tuple(at[order].imag.round(2).tolist()),
        area_px2=tuple(areas[order].tolist()),
        slack=(1.0,) * order.size,
    )


def _eligible(white: Pixels) -> Pixels:
    """Components that are whole, not tiny and not huge: uint8, 1 in them."""
    height, width = white.shape
    _, labels, stats, _ = cv2.connectedComponentsWithStats(white)
    x, y, across, down, area = stats.T
    inside = (x > 0) & (y > 0) & (x + across < width) & (y + down < height)
    good = inside & (area >= LEAST_AREA_PX2) & (area <= LARGEST_SHARE * white.size)
    good[0] = False
    return np.asarray(good[labels], np.uint8)


def name_parts(at: Places, areas: NDArray[np.float64]) -> tuple[list[str], NDArray[np.intp]]:
    """
    Names as "row 5 col 3" where the parts form a grid, else "blob 7"; and their reading order.

    Parts of quite another size than most, as marks are, take no part in the grid: "other 1".
    """
    usual = float(np.median(areas))
    alike = np.flatnonzero((areas <= ALIKE * usual) & (areas >= usual / ALIKE))
    others = np.setdiff1d(np.arange(areas.size), alike)
    room = usual**0.5 / 2
    row, column = _lanes(at[alike].imag, room), _lanes(at[alike].real, room)
    order = np.lexsort((at[alike].real, row))
    names = [f"blob {number}" for number in range(1, alike.size + 1)]
    rows, columns = int(row.max()) + 1, int(column.max()) + 1
    unique = len(set(zip(row.tolist(), column.tolist(), strict=True))) == alike.size
    if unique and min(rows, columns) > 1 and alike.size >= FILLED * rows * columns:
        names = [f"row {row[i] + 1} col {column[i] + 1}" for i in order]
    names += [f"other {number}" for number in range(1, others.size + 1)]
    return names, np.concatenate([alike[order], others])


def _lanes(values: NDArray[np.float64], room: float) -> NDArray[np.intp]:
    """Number of the row or column of each value: a new one begins where a gap is wider than room."""
    order = np.argsort(values)
    lane = np.zeros(values.size, np.intp)
    lane[order] = np.concatenate([[0], np.cumsum(np.diff(values[order]) > room)])
    return lane


def find_calipers(template: Pixels) -> Calipers | None:
    """Neighbouring edges of opposite direction along rows and columns; None where there are none."""
    band_px = max(3, min(template.shape) // BANDS)
    pairs = [
        (axis, band, *pair)
        for axis in ("x", "y")
        for band, found in enumerate(steps(template, band_px, axis))
        for pair in _pairs(found)
    ]
    pairs = sorted(pairs, key=lambda pair: -pair[-1])[:MAX_CALIPERS]
    if not pairs:
        return None
    axis, bands, first, second, rise, step = zip(*pairs, strict=True)
    return Calipers(
        band_px=band_px,
        axis=axis,
        band=bands,
        first_px=first,
        second_px=second,
        rise=rise,
        step_grey=step,
    )


def _pairs(found: NDArray[np.float64]) -> list[tuple[float, float, int, float]]:
    """First edge, second edge, direction of the first, half the weaker height."""
    size = np.abs(found)
    least = max(LEAST_STEP_GREY, 0.25 * float(size.max()))
    top = (size[1:-1] >= least) & (size[1:-1] >= size[:-2]) & (size[1:-1] > size[2:])
    at = np.flatnonzero(top) + 1
    at = at[(at > SEARCH_PX + 1) & (at < found.size - SEARCH_PX - 2)]
    pairs = []
    for one, other in pairwise(at.tolist()):
        opposite = found[one] * found[other] < 0
        if opposite and other - one >= 3:
            rise = 1 if found[one] > 0 else -1
            weaker = float(min(size[one], size[other])) / 2
            pairs.append((_top(size, one), _top(size, other), rise, round(weaker, 1)))
    return pairs


def _top(size: NDArray[np.float64], at: int) -> float:
    before, peak, after = size[at - 1 : at + 2]
    bend = before - 2 * peak + after
    return round(float(at + (0.5 * (before - after) / bend if bend < 0 else 0.0)), 2)


def find_patches(template: Pixels, blobs: Blobs | None) -> Patches | None:
    """Boxes about the blobs, else tiles of the crop that are not flat; None where all is flat."""
    height, width = template.shape
    if blobs is not None:
        sides = np.sqrt(np.array(blobs.area_px2)) + 2 * PATCH_ROOM_PX
        boxes = [
            _inside(x - side / 2, y - side / 2, side, side, width, height)
            for x, y, side in zip(blobs.x_px, blobs.y_px, sides, strict=True)
        ]
        return Patches(names=blobs.names, boxes=tuple(boxes))
    named: dict[str, tuple[int, int, int, int]] = {}
    for row in range(TILES):
        for column in range(TILES):
            x, y = column * width // TILES, row * height // TILES
            box = (x, y, (column + 1) * width // TILES - x, (row + 1) * height // TILES - y)
            if template[y : y + box[3], x : x + box[2]].std() >= LEAST_STEP_GREY:
                named[f"tile row {row + 1} col {column + 1}"] = box
    return Patches(names=tuple(named), boxes=tuple(named.values())) if named else None


def _inside(
    x: float, y: float, across: float, down: float, width: int, height: int
) -> tuple[int, int, int, int]:
    left, top = max(0, round(x)), max(0, round(y))
    right, bottom = min(width, round(x + across)), min(height, round(y + down))
    return left, top, right - left, bottom - top


def chosen(table: Calipers | Patches | Blobs, keep: Sequence[int]) -> dict[str, object]:
    """The lists of a table with only the entries at `keep`, for `model_copy`."""
    return {
        name: tuple(values[i] for i in keep) for name, values in table if isinstance(values, tuple)
    }
