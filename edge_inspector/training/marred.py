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
from edge_inspector.training.faults import KINDS, SHARES, Canvas, Floats, places, warp

BATCH = 16
CLEAN, STRAINED = 0.2, 0.25
"""Shares of crops without a fault, and of crops to measure on."""
MOST = 14
"""Faults of one crop, at most."""
VISIBLE, CERTAIN = 2.0, 7.0
"""Grey levels below which a change is none, and from which it is a fault; between is left open."""
GROWTH = 5.0
"""Weight of ln(scale) beside px, so that both are learned alike."""
NODE_PX, STRAIN_PX = 20.0, 1.2
"""Of a strained crop: distance of the nodes, and how far each is moved (standard deviation)."""
SHIFT_PX, TURN = 0.7, 0.005
"""How far the whole of a strained crop is moved and turned, in px and radians."""


Signs = NDArray[np.int8]


class Batch(NamedTuple):
    """
    Crops uint8 (n, h, w, c) and what they show.

    `faults` (n, rows, columns): 1 a fault, 0 none, -1 not said. `motions` (n, 3, rows / 2,
    columns / 2): dx and dy in px of 256, and the weighted ln(scale).
    """

    crops: Tensor
    faults: Tensor
    motions: Tensor


class Marred(IterableDataset[Batch]):
    """Batches from step `start` on; each step's batch depends on the seed and the step alone."""

    def __init__(self, crops: Pixels, cell: int, seed: int, start: int) -> None:
        super().__init__()
        self.crops, self.cell, self.seed, self.start = crops, cell, seed, start
        self.unit = min(crops.shape[1:3]) / 256
        self._places: dict[int, Floats] = {}

    def __iter__(self) -> Iterator[Batch]:
        cv2.setNumThreads(1)
        if get_worker_info() is not None:
            torch.set_num_threads(1)
        step = self.start
        while True:
            rng = np.random.default_rng([self.seed, step])
            made = [self._one(int(i), rng) for i in rng.integers(len(self.crops), size=BATCH)]
            yield Batch(*(torch.from_numpy(np.stack(part)) for part in zip(*made, strict=True)))
            step += 1

    def _one(self, number: int, rng: np.random.Generator) -> tuple[Pixels, Signs, Floats]:
        crop = self.crops[number]
        rows, columns = crop.shape[0] // self.cell, crop.shape[1] // self.cell
        motions = np.zeros((3, rows // 2, columns // 2), np.float32)
        kind = rng.random()
        if kind < CLEAN:
            return crop, np.zeros((rows, columns), np.int8), motions
        flat = crop[:, :, 0] if crop.shape[2] == 1 else crop
        if kind < CLEAN + STRAINED:
            strained, motions = strain(flat, self.unit, rows // 2, columns // 2, rng)
            return strained.reshape(crop.shape), np.full((rows, columns), -1, np.int8), motions
        if number not in self._places:
            self._places[number] = places(flat, self.unit)
        canvas = Canvas(flat.astype(np.float32), self._places[number], self.unit)
        _stir(canvas, rng)
        before = canvas.image.copy()
        self._mar(canvas, motions, rng)
        image = np.clip(canvas.image, 0, 255)
        gain = np.float32(1 + 0.02 * rng.standard_normal())
        pixels = np.clip(image * gain + np.float32(0.5), 0, 255).astype(np.uint8)
        return pixels.reshape(crop.shape), _faults(image, before, self.cell), motions

    def _mar(self, canvas: Canvas, motions: Floats, rng: np.random.Generator) -> None:
        side = 2 * self.cell
        for kind in rng.choice(len(KINDS), size=rng.integers(1, MOST + 1), p=SHARES):
            moved = KINDS[kind](canvas, rng)
            if moved is None:
                continue
            row = min(max(int(moved.y) // side, 0), motions.shape[1] - 1)
            column = min(max(int(moved.x) // side, 0), motions.shape[2] - 1)
            motions[:, row, column] = moved.dx, moved.dy, GROWTH * moved.growth


def batches(crops: Tensor, cell: int, seed: int, start: int) -> Iterator[Batch]:
    """Endless batches, made by a process of their own while the network learns."""
    marred = Marred(crops.numpy(), cell, seed, start)
    return iter(DataLoader(marred, batch_size=None, num_workers=1, prefetch_factor=4))


def strain(
    crop: Pixels, unit: float, rows: int, columns: int, rng: np.random.Generator
) -> tuple[Pixels, Floats]:
    """
    A crop bent by a smooth random field, to learn measuring on, and the motion of each cell.

    The whole is moved and turned as well, which is not told: how a unit lies is no fault, and what
    a cell's motion is must be known apart from it.
    """
    height, width = crop.shape[:2]
    nodes = (round(height / (NODE_PX * unit)) + 2, round(width / (NODE_PX * unit)) + 2)
    bends = rng.normal(0, STRAIN_PX * unit, (*nodes, 2)).astype(np.float32)
    field = cv2.resize(bends, (width, height), interpolation=cv2.INTER_CUBIC)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    turn, (right, down) = rng.normal(0, TURN), rng.normal(0, SHIFT_PX * unit, 2)
    from_x = x - field[..., 0] - right + turn * (y - height / 2)
    from_y = y - field[..., 1] - down - turn * (x - width / 2)
    bent = cv2.remap(
        crop,
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
    return np.asarray(bent, np.uint8), motions.astype(np.float32)


def _without_pose(motions: Floats, rows: int, columns: int) -> Floats:
    """Motions of cells (n, 2) less what shift, turn and scale of the whole explain."""
    down, across = np.mgrid[:rows, :columns]
    basis, _ = np.linalg.qr(np.stack([np.ones(rows * columns), down.ravel(), across.ravel()], 1))
    return np.asarray(motions - basis @ (basis.T @ motions), np.float32)


def _stir(canvas: Canvas, rng: np.random.Generator) -> None:
    """Motions too small to be faults: resampling itself must not look like one."""
    for _ in range(rng.integers(0, 5)):
        x, y = canvas.places[rng.integers(len(canvas.places))]
        angle, far = rng.uniform(0, 2 * np.pi), canvas.unit * rng.uniform(0, 0.2)
        shift = (float(far * np.cos(angle)), float(far * np.sin(angle)))
        scale = np.eye(2) * (1 + rng.uniform(-0.01, 0.01))
        warp(canvas, (float(x), float(y)), canvas.unit * rng.uniform(5, 10), scale, shift)


def _faults(image: Floats, before: Floats, cell: int) -> Signs:
    changed = np.abs(image - before)
    grey = changed if changed.ndim == 2 else changed.max(axis=2)
    smooth = cv2.blur(grey, (3, 3))
    rows, columns = smooth.shape[0] // cell, smooth.shape[1] // cell
    worst = smooth.reshape(rows, cell, columns, cell).max(axis=(1, 3))
    return np.where(worst >= CERTAIN, 1, np.where(worst > VISIBLE, -1, 0)).astype(np.int8)
