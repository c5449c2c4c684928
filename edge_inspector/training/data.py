"""Good crops for training: read once, of one size that the data itself suggests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from edge_inspector.errors import DataError, Misuse
from edge_inspector.manifest import Input
from edge_inspector.records import Pixels
from edge_inspector.studies.dataset import Item, as_crop, is_good, read_image, read_items

FEWEST = 2
"""Good images below which there is nothing to train on and hold out."""
LOOKED_AT = 32
"""Images that are looked at to choose size and channels."""
LARGE_SIDE = 160
"""Median shorter side in px from which crops are 256 px, else 64."""
COLOURLESS = 6.0
"""Mean difference of channels in grey levels up to which an image counts as grey."""
SMALL_SET = 500
"""Crops below which a set is widened by small motions."""
DIM = 16384
"""Brightest value of a set of 16-bit images, as of 12-bit cameras, below which it is told."""


@dataclass(frozen=True, slots=True)
class GoodCrops:
    """
    Good crops, uint8 (n, h, w, c): those to learn from, and those held out.

    `digest` is the sha256 of all their pixels; `corrupt` are items whose file is broken; `names`
    are the files of `train`, in its order; `remarks` say what was done to images that differ.
    """

    shape: Input
    train: Tensor
    held_out: Tensor
    corrupt: tuple[Item, ...]
    digest: str
    names: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def read_good(
    data: Path,
    seed: int,
    *,
    size: int | None = None,
    channels: int | None = None,
    square: bool = False,
) -> GoodCrops:
    """The good images of splits train and val; a tenth of train is held out where val has none."""
    items = [item for item in read_items(data) if is_good(item.label)]
    learn = [item for item in items if item.split == "train"]
    _require(len(learn), data, "good images of split train")
    shape = choose_shape(learn, size=size, channels=channels, square=square)
    read, held = Read(shape), Read(shape)
    read.take(learn)
    broken = f"good images that can be read ({len(read.corrupt)} are broken)"
    _require(len(read.crops), data, broken)
    held.take([item for item in items if item.split == "val"])
    train, held_out, names = read.stack(), held.stack(), np.array(read.names)
    if not len(held_out):
        order = np.random.default_rng(seed).permutation(len(train))
        count = max(len(train) // 10, 1)
        chosen = np.sort(order[count:])
        train, held_out, names = train[chosen], train[np.sort(order[:count])], names[chosen]
    return GoodCrops(
        shape,
        torch.from_numpy(train),
        torch.from_numpy(held_out),
        (*read.corrupt, *held.corrupt),
        hashlib.sha256(train.tobytes() + held_out.tobytes()).hexdigest(),
        tuple(names.tolist()),
        remarks(shape, [*read.seen, *held.seen]),
    )


def choose_shape(
    items: Sequence[Item],
    *,
    size: int | None,
    channels: int | None,
    square: bool,
    multiple: int = 16,
) -> Input:
    """What fits the data, unless told: 256 px or 64 px, 3 channels only where there is colour."""
    if size is not None and (size < 32 or size % multiple):
        raise Misuse(f"--size {size}; it must be a multiple of {multiple} px, 32 or more")
    looked_at = items[:: max(len(items) // LOOKED_AT, 1)]
    sides, colour = [], []
    for item in looked_at:
        try:
            pixels = read_image(item.path)
        except DataError:
            continue
        sides.append(min(pixels.shape[:2]))
        colour.append(_colour(pixels))
    if not sides:
        raise DataError(f"none of {len(looked_at)} images can be read, as {items[0].path}")
    side = size or (256 if np.median(sides) >= LARGE_SIDE else 64)
    planes = channels or (3 if np.median(colour) > COLOURLESS else 1)
    return Input.model_validate(
        {"height": side, "width": side, "channels": planes, "square": square}
    )


def _colour(pixels: np.ndarray) -> float:
    if pixels.ndim == 2:
        return 0.0
    top = 257.0 if pixels.dtype == np.uint16 else 1.0
    return float(np.ptp(pixels[:, :, :3].astype(np.float32), axis=2).mean() / top)


class Read:
    """Images read so far, as crops of one shape; broken files are set apart."""

    def __init__(self, shape: Input) -> None:
        self.shape = shape
        self.crops: list[Pixels] = []
        self.names: list[str] = []
        self.labels: list[str] = []
        self.seen: list[Stored] = []
        self.corrupt: list[Item] = []

    def take(self, items: Sequence[Item]) -> None:
        """Read every image once."""
        for item in items:
            try:
                pixels = read_image(item.path)
                self.crops.append(as_crop(pixels, item.path, self.shape))
            except DataError:
                self.corrupt.append(item)
                continue
            self.names.append(str(item.path))
            self.labels.append(item.label)
            wide = pixels.dtype == np.uint16
            top = int(pixels.max()) if wide else None
            self.seen.append(Stored(pixels.shape[:2], _colour(pixels) > COLOURLESS, top))

    def stack(self) -> Pixels:
        """All crops, (n, h, w, c)."""
        shape = self.shape
        none = np.empty((0, shape.height, shape.width, shape.channels), np.uint8)
        return np.stack(self.crops) if self.crops else none


class Stored(NamedTuple):
    """What an image was in its file; `top` is the largest value of one of 16 bits."""

    size: tuple[int, ...]
    colour: bool
    top: int | None


def remarks(shape: Input, seen: Sequence[Stored]) -> tuple[str, ...]:
    """What was done to images that differ from each other or from 8 bits, a sentence each."""
    count, found = len(seen), []
    sizes = sorted({each.size for each in seen}, key=lambda size: size[0] * size[1])
    if len(sizes) > 1:
        (low, across), (high, wide) = sizes[0], sizes[-1]
        how = "its centre square" if shape.square else "the whole of it, whatever its aspect,"
        found.append(
            f"images have {len(sizes)} sizes, {low} x {across} to {high} x {wide} px; of each, {how} "
            f"is scaled to {shape.height} x {shape.width} px"
        )
    coloured = sum(each.colour for each in seen)
    if shape.channels == 1 and coloured:
        found.append(f"{coloured} of {count} images have colour, which is not looked at")
    if shape.channels == 3 and coloured < count:
        found.append(f"{count - coloured} of {count} images are grey, all three channels alike")
    tops = [each.top for each in seen if each.top is not None]
    if tops:
        found.append(f"{len(tops)} of {count} images have 16 bits, scaled from 0..65535 to 0..255")
    if tops and max(tops) < DIM:
        found.append(
            f"the brightest value in 16 bits is {max(tops)}: {max(tops) // 257 + 1} grey levels are "
            "left of them; scale them to 65535, and on the line too"
        )
    return tuple(found)


def _require(found: int, data: Path, what: str) -> None:
    if found < FEWEST:
        raise DataError(
            f"{data}: {found} {what}; training needs {FEWEST} or more, and 100 or more to be "
            "of use; add images of good units"
        )


def moved(crops: Tensor, generator: torch.Generator) -> Tensor:
    """
    Crops as a line might have shown them too: up to half a px of shift, 2 % of gain.

    For small sets only: in a large one the line's own motion is there already.
    """
    n = len(crops)
    shift = torch.rand(n, 2, 1, 1, 1, generator=generator) - 0.5
    x = crops.to(torch.float32)
    for axis in (1, 2):
        part = shift[:, axis - 1].abs()
        step = torch.where(shift[:, axis - 1] > 0, _rolled(x, 1, axis), _rolled(x, -1, axis))
        x = x + part * (step - x)
    gain = 1 + 0.04 * (torch.rand(n, 1, 1, 1, generator=generator) - 0.5)
    return (x * gain + 0.5).clamp(0, 255).to(torch.uint8)


def _rolled(x: Tensor, step: int, axis: int) -> Tensor:
    """Shifted by one px; the px that comes in at the edge repeats the edge."""
    index = (torch.arange(x.shape[axis]) - step).clamp(0, x.shape[axis] - 1)
    return x.index_select(axis, index)
