"""
Which alignment a product wants: each kind is tried on its frames and the most repeatable taken.

Repeatability is how far an alignment puts the product's distinct places from where they are seen.
"""

from __future__ import annotations

import math
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from edge_inspector.align import Aligner, open_alignment
from edge_inspector.errors import EdgeInspectorError, Uninspectable
from edge_inspector.pixels import pose_matrix
from edge_inspector.recipe_alignment import Fiducials, Outline, Template
from edge_inspector.records import Box, Pixels, Pose
from edge_inspector.studies.round_marks import round_marks
from edge_inspector.studies.tracks import FEWEST, Floats, Tracks, follow

Spec = Outline | Template | Fiducials

MARGIN_PX = 4
"""Background kept around an outline, so that a region at its side still lies in the frame."""
BETTER = 0.7
"""An alignment must leave less than this share of the motion, or none is proposed."""
FOUND_SHARE = 0.9
"""Share of the frames in which an alignment must find the product; one in ten may be defective."""
NOTHING_SHARED = "the frames have nothing distinct in common to tell whether the product moves"
AS_GOOD, AS_GOOD_PX = 1.25, 0.1
"""Of alignments that leave nearly the same, the sturdiest is taken."""
SLACK = 2.0
"""Search ranges are this many times what was seen."""


@dataclass(frozen=True, slots=True)
class Measured:
    """An alignment with what it leaves: px at 9 of 10 frames, and the share of frames it found."""

    spec: Outline | Template | Fiducials | None
    residual_px: float
    found: float
    base: Floats
    """3 x 3, px of the recipe's reference to px of the frame that was shown as the reference."""
    moves: tuple[Floats | None, ...]
    """Of each frame, 3 x 3, px of the frame shown as the reference to px of it; none where lost."""

    def upright(self, frames: Sequence[Pixels], size: tuple[int, int]) -> list[Pixels]:
        """The frames it found, as the recipe's reference, `size` (width, height), has the product."""
        return warped(
            frames, [move if move is None else move @ self.base for move in self.moves], size
        )


@dataclass(frozen=True, slots=True)
class Chosen:
    """The alignment to propose, why, and the motion it answers."""

    measured: Measured
    motion_px: float
    why: str
    shared: bool = True
    """Whether the frames show the same thing at the same place; those of a texture do not."""


def choose_alignment(frames: Sequence[Pixels], reference: Pixels, picture: Path) -> Chosen:
    """
    The most repeatable alignment of grey frames of one size; a patch it needs goes to `picture`.

    None where the product does not move, or where nothing was found that all frames show.
    """
    tracks = follow(frames, reference)
    product = tracks.moving()
    still = _measure(None, frames, reference, tracks)
    if len(tracks.places) < FEWEST:
        return _by_outline(frames, reference, tracks) or Chosen(still, 0.0, NOTHING_SHARED, False)
    if not len(product.places):
        motion = float(np.median(tracks.motion_px))
        return Chosen(still, motion, f"the product stays within {motion:.2f} px")
    motion = float(np.median(product.motion_px))
    still = _measure(None, frames, reference, product)
    with tempfile.TemporaryDirectory() as folder:
        specs = list(_candidates(reference, product, Path(folder)))
        tried = [_measure(spec, frames, reference, product) for spec in specs]
        sure = [measured for measured in tried if measured.found >= FOUND_SHARE]
        enough = AS_GOOD * min((one.residual_px for one in sure), default=math.inf) + AS_GOOD_PX
        best = next((one for one in sure if one.residual_px <= enough), still)
        if best.residual_px > BETTER * still.residual_px:
            why = f"the product moves by {motion:.1f} px, but no alignment finds it more surely"
            return Chosen(still, motion, why)
        return Chosen(_kept(best, picture), motion, _why(best, tried, motion))


def _by_outline(frames: Sequence[Pixels], reference: Pixels, tracks: Tracks) -> Chosen | None:
    """
    An outline that makes the frames alike, where nothing else could be followed through them.

    What it leaves is then what the places of the aligned frames still move.
    """
    for spec in _outlines(reference):
        measured = _measure(spec, frames, reference, tracks)
        if measured.found < FOUND_SHARE:
            continue
        upright = measured.upright(frames, spec.size)
        left = follow(upright, upright[0]).motion_px
        middle = (reference.shape[1] / 2, reference.shape[0] / 2, 1.0)
        shifts = np.array([move @ middle for move in measured.moves if move is not None])[:, :2]
        strays = np.linalg.norm(shifts - np.median(shifts, axis=0), axis=1)
        motion = float(np.percentile(strays, 90))
        if len(left) >= FEWEST and np.median(left) < BETTER * motion:
            best = replace(measured, residual_px=float(np.median(left)))
            return Chosen(best, motion, _why(best, [], motion))
    return None


def warped(
    frames: Sequence[Pixels], matrices: Sequence[Floats | None], size: tuple[int, int]
) -> list[Pixels]:
    """The frames seen through 3 x 3 matrices, each from px of the result; without those that have none."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    rim = cv2.BORDER_REPLICATE
    return [
        np.asarray(cv2.warpAffine(frame, matrix[:2], size, flags=flags, borderMode=rim), np.uint8)
        for frame, matrix in zip(frames, matrices, strict=True)
        if matrix is not None
    ]


def _candidates(reference: Pixels, product: Tracks, folder: Path) -> Iterator[Spec]:
    """What could be tried, the sturdiest first: a defect hides a patch more easily than an outline."""
    yield from _outlines(reference)
    yield from _fiducials(reference, product, folder)
    yield from _templates(reference, product, folder)


def _outlines(reference: Pixels) -> Iterator[Outline]:
    """Both polarities, sized as the reference frame shows the body."""
    blurred = cv2.GaussianBlur(reference, (5, 5), 0)
    level, _ = cv2.threshold(blurred, 0, 255, cv2.THRESH_OTSU)
    polarities: tuple[tuple[Literal["dark", "bright"], int], ...] = (
        ("dark", cv2.THRESH_BINARY_INV),
        ("bright", cv2.THRESH_BINARY),
    )
    for polarity, kind in polarities:
        _, mask = cv2.threshold(blurred, level, 255, kind)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        body = max(contours, key=cv2.contourArea, default=None)
        if body is None:
            continue
        _, (width, height), turned = cv2.minAreaRect(body)
        if round(turned / 90) % 2:
            width, height = height, width
        share = 0.5 * width * height / reference.size
        if 0.02 < share < 1:
            yield Outline(
                method="outline",
                polarity=polarity,
                size=(round(width) + 1 + 2 * MARGIN_PX, round(height) + 1 + 2 * MARGIN_PX),
                margin_px=MARGIN_PX,
                min_area_fraction=round(share, 3),
            )


def _fiducials(reference: Pixels, product: Tracks, folder: Path) -> Iterator[Fiducials]:
    marks, side = round_marks(reference)
    if len(marks) >= 2:
        path = folder / "mark.png"
        middle = (float(marks[0][0]), float(marks[0][1]))
        cv2.imwrite(str(path), cv2.getRectSubPix(reference, (side, side), middle))
        yield Fiducials(
            method="fiducials",
            image=path,
            positions=tuple((float(x), float(y)) for x, y in marks),
            search_px=_search_px(product),
            max_residual_px=2.0,
        )


def _templates(reference: Pixels, product: Tracks, folder: Path) -> Iterator[Template]:
    """The product as a whole, and its steadiest patches, at twice their size and at it."""
    height, width = reference.shape
    half = product.side_px / 2
    boxes = [
        (x - reach, y - reach, x + reach, y + reach)
        for reach in (2 * half, half)
        for x, y in product.places[product.steadiest()[:2]].tolist()
    ]
    boxes.insert(0, (*(product.places.min(axis=0) - half), *(product.places.max(axis=0) + half)))
    moves = math.ceil(SLACK * float(product.motion_px.max()))
    for number, (left, top, right, bottom) in enumerate(boxes):
        x, y = max(math.floor(left), moves), max(math.floor(top), moves)
        across, down = (
            min(math.ceil(right), width - moves) - x,
            min(math.ceil(bottom), height - moves) - y,
        )
        if min(across, down) >= product.side_px // 2:
            yield Template(
                method="template",
                image=_cut(reference, (x, y, across, down), folder / f"{number}.png"),
                position=(x, y),
                search_px=_search_px(product),
                max_angle_deg=round(max(SLACK * product.largest_angle_deg(), 1.0), 1),
            )


def _search_px(product: Tracks) -> int:
    """How far to look for what has been seen to stray by so much from the reference frame."""
    strays = np.linalg.norm(product.seen - product.places, axis=2)
    return math.ceil(SLACK * float(np.nanpercentile(strays, 98))) + 8


def _cut(reference: Pixels, box: Box, path: Path) -> Path:
    x, y, width, height = box
    cv2.imwrite(str(path), reference[y : y + height, x : x + width])
    return path


def _kept(best: Measured, picture: Path) -> Measured:
    """With its patch at `picture` instead of the folder of trials."""
    if not isinstance(best.spec, (Template, Fiducials)):
        return best
    pixels = best.spec.image.read_bytes()
    # Named by its content, so that a later proposal leaves the mark of an older recipe alone.
    picture = picture.with_name(f"{picture.stem}-{zlib.crc32(pixels):08x}{picture.suffix}")
    picture.write_bytes(pixels)
    return replace(best, spec=best.spec.model_copy(update={"image": picture}))


def _measure(
    spec: Spec | None, frames: Sequence[Pixels], reference: Pixels, tracks: Tracks
) -> Measured:
    """How far from where they are seen the alignment puts the places of the product."""
    try:
        aligner = open_alignment(spec)
        base = _square(aligner.find(reference))
    except (EdgeInspectorError, np.linalg.LinAlgError):  # singular: a patch without structure
        return Measured(spec, math.inf, 0.0, np.eye(3), (None,) * len(frames))
    moves = tuple(_move(aligner, frame, base) for frame in frames)
    misses = []
    for move, seen in zip(moves, tracks.seen, strict=True):
        kept = np.isfinite(seen[:, 0])
        if move is not None and kept.any():
            put = tracks.places[kept] @ move[:2, :2].T + move[:2, 2]
            misses.append(np.percentile(np.linalg.norm(put - seen[kept], axis=1), 75))
    residual = float(np.percentile(misses, 90)) if misses else math.inf
    found = float(np.mean([move is not None for move in moves]))
    return Measured(spec, residual, found, base, moves)


def _move(aligner: Aligner, frame: Pixels, base: Floats) -> Floats | None:
    try:
        return _square(aligner.find(frame)) @ np.linalg.inv(base)
    except Uninspectable:
        return None


def _square(pose: Pose) -> Floats:
    return np.vstack([pose_matrix(pose), (0.0, 0.0, 1.0)])


def _why(best: Measured, tried: Sequence[Measured], motion_px: float) -> str:
    others = ", ".join(
        f"{_name(other)} {other.residual_px:.2f} px"
        for other in tried
        if other is not best and other.found >= FOUND_SHARE
    )
    return (
        f"the product moves by {motion_px:.1f} px; its {_name(best)} leaves {best.residual_px:.2f} px "
        f"and is found in {best.found:.0%} of the frames" + (f" (others: {others})" * bool(others))
    )


def _name(measured: Measured) -> str:
    spec = measured.spec
    if spec is None:
        return "no alignment"
    return f"{spec.polarity} outline" if isinstance(spec, Outline) else spec.method
