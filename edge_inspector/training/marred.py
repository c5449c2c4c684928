"""Batches of marred crops, made anew for each step, with what is wrong where."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from edge_inspector.records import Pixels
from edge_inspector.training.data import SMALL_SET, moved
from edge_inspector.training.faults import (
    KINDS,
    LOST,
    SHARES,
    Canvas,
    Floats,
    noise_of,
    places,
    warp,
)

BATCH = 16
CLEAN, STRAINED = 0.2, 0.25
"""Shares of crops without a fault, and of crops to measure on."""
MOST, STIRRED = 14, 8
"""Faults of one crop, and motions too small for one, at most."""
VISIBLE, CERTAIN = 2.0, 7.0
"""Grey levels below which a change is none, and from which it is a fault; between is left open."""
GROWTH = 5.0
"""Weight of ln(scale) beside px, so that both are learned alike."""
NODE_PX, STRAIN_PX = 13.0, 1.4
"""Of a strained crop: distance of the nodes, and how far each is moved (standard deviation)."""
SHIFT_PX, TURN = 0.7, 0.005
"""How far the whole of a strained crop is moved and turned, in px and radians."""


Signs = NDArray[np.int8]


class Batch(NamedTuple):
    """
    Crops uint8 (n, h, w, c) and what they show.

    `faults` (n, rows, columns): 1 a fault, 0 none, -1 not said. `motions` (n, 3, rows / 2,
    columns / 2): dx and dy in px of 256, and the weighted ln(scale); NaN where not known.
    """

    crops: Tensor
    faults: Tensor
    motions: Tensor


class Marred(IterableDataset[Batch]):
    """
    Batches from step `start` on; each step's batch depends on the seed and the step alone.

    A small set is widened by small motions.
    """

    def __init__(self, crops: Pixels, cell: int, seed: int, start: int) -> None:
        super().__init__()
        self.crops, self.cell, self.seed, self.start = crops, cell, seed, start
        self.unit = min(crops.shape[1:3]) / 256
        self._known: dict[int, tuple[Floats, float]] = {}

    def __iter__(self) -> Iterator[Batch]:
        if get_worker_info() is not None:
            torch.set_num_threads(1)
        step = self.start
        while True:
            rng = np.random.default_rng([self.seed, step])
            made = [self._one(int(i), rng) for i in rng.integers(len(self.crops), size=BATCH)]
            batch = Batch(*(torch.from_numpy(np.stack(part)) for part in zip(*made, strict=True)))
            if len(self.crops) < SMALL_SET:
                generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
                batch = batch._replace(crops=moved(batch.crops, generator))
            yield batch
            step += 1

    def _one(self, number: int, rng: np.random.Generator) -> tuple[Pixels, Signs, Floats]:
        crop = self.crops[number]
        flat = crop[:, :, 0] if crop.shape[2] == 1 else crop
        rows, columns = crop.shape[0] // self.cell, crop.shape[1] // self.cell
        if number not in self._known:
            self._known[number] = places(flat, self.unit), noise_of(flat)
        canvas = Canvas(
            flat.astype(np.float32), self._known[number][0], self.unit, self._known[number][1]
        )
        kind = rng.random()
        if kind < STRAINED:
            strained, motions = strain(canvas, rows // 2, columns // 2, rng)
            return strained.reshape(crop.shape), np.full((rows, columns), -1, np.int8), motions
        motions = np.full((3, rows // 2, columns // 2), np.nan, np.float32)
        if rng.random() < 0.7:
            _stir(canvas, rng)
        before = canvas.image.copy()
        if kind < 1 - CLEAN:
            _mar(canvas, rng)
        image = np.clip(canvas.image, 0, 255)
        gain = np.float32(1 + 0.02 * rng.standard_normal())
        pixels = _eight_bit(image * gain).reshape(crop.shape)
        return pixels, _faults(image, before, self.cell), motions


def _mar(canvas: Canvas, rng: np.random.Generator) -> None:
    for kind in rng.choice(len(KINDS), size=rng.integers(1, MOST + 1), p=SHARES):
        KINDS[kind](canvas, rng)


def batches(crops: Tensor, cell: int, seed: int, start: int) -> Iterator[Batch]:
    """Endless batches, made by a process of their own while the network learns."""
    # A pool of OpenCV's threads does not survive the fork: ended there, it would wait for ever.
    cv2.setNumThreads(1)
    marred = Marred(crops.numpy(), cell, seed, start)
    return iter(DataLoader(marred, batch_size=None, num_workers=1, prefetch_factor=4))


def strain(
    canvas: Canvas, rows: int, columns: int, rng: np.random.Generator
) -> tuple[Pixels, Floats]:
    """
    A crop bent by a smooth random field, to learn measuring on, and the motion of each cell.

    The whole is moved and turned as well, which is not told: how a unit lies is no fault, and what
    a cell's motion is must be known apart from it.
    """
    (width, height), unit = canvas.size, canvas.unit
    nodes = (round(height / (NODE_PX * unit)) + 2, round(width / (NODE_PX * unit)) + 2)
    bends = rng.normal(0, STRAIN_PX * unit, (*nodes, 2)).astype(np.float32)
    field = cv2.resize(bends, (width, height), interpolation=cv2.INTER_CUBIC)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    turn, (right, down) = rng.normal(0, TURN), rng.normal(0, SHIFT_PX * unit, 2)
    from_x = x - field[..., 0] - right + turn * (y - height / 2)
    from_y = y - field[..., 1] - down - turn * (x - width / 2)
    bent = cv2.remap(
        canvas.image,
        from_x.astype(np.float32),
        from_y.astype(np.float32),
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    cells = cv2.resize(field, (columns, rows), interpolation=cv2.INTER_AREA) / np.float32(unit)
    side = height / rows / unit
    growth = (np.gradient(cells[..., 0], axis=1) + np.gradient(cells[..., 1], axis=0)) / (2 * side)
    own = _without_pose(cells.reshape(-1, 2), rows, columns).reshape(rows, columns, 2)
    motions = np.stack([own[..., 0], own[..., 1], GROWTH * growth])
    lost = LOST * canvas.noise * rng.standard_normal(bent.shape, dtype=np.float32)
    return _eight_bit(bent + lost), motions.astype(np.float32)


def _without_pose(motions: Floats, rows: int, columns: int) -> Floats:
    """Motions of cells (n, 2) less what shift, turn and scale of the whole explain."""
    down, across = np.mgrid[:rows, :columns]
    basis, _ = np.linalg.qr(np.stack([np.ones(rows * columns), down.ravel(), across.ravel()], 1))
    return np.asarray(motions - basis @ (basis.T @ motions), np.float32)


def _stir(canvas: Canvas, rng: np.random.Generator) -> None:
    """Motions too small to be faults: resampling itself must not look like one."""
    for _ in range(rng.integers(1, STIRRED + 1)):
        x, y = canvas.places[rng.integers(len(canvas.places))]
        angle, far = rng.uniform(0, 2 * np.pi), canvas.unit * rng.uniform(0, 0.2)
        shift = (float(far * np.cos(angle)), float(far * np.sin(angle)))
        scale = np.eye(2) * (1 + rng.uniform(-0.01, 0.01))
        warp(canvas, rng, (float(x), float(y), canvas.unit * rng.uniform(5, 10)), scale, shift)


def _eight_bit(image: Floats) -> Pixels:
    return np.asarray(np.clip(image + np.float32(0.5), 0, 255), np.uint8)


def _faults(image: Floats, before: Floats, cell: int) -> Signs:
    changed = np.abs(image - before)
    grey = changed if changed.ndim == 2 else changed.max(axis=2)
    smooth = cv2.blur(grey, (3, 3))
    rows, columns = smooth.shape[0] // cell, smooth.shape[1] // cell
    worst = smooth.reshape(rows, cell, columns, cell).max(axis=(1, 3))
    return np.where(worst >= CERTAIN, 1, np.where(worst > VISIBLE, -1, 0)).astype(np.int8)
