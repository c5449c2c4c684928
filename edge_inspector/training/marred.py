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
CLEAN = 0.25
"""Share of crops without a fault."""
MOST = 14
"""Faults of one crop, at most."""
VISIBLE, CERTAIN = 2.0, 7.0
"""Grey levels below which a change is none, and from which it is a fault; between is left open."""
GROWTH = 5.0
"""Weight of ln(scale) beside px, so that both are learned alike."""


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

    def _one(self, number: int, rng: np.random.Generator) -> tuple[Pixels, Pixels, Floats]:
        crop = self.crops[number]
        rows, columns = crop.shape[0] // self.cell, crop.shape[1] // self.cell
        motions = np.zeros((3, rows // 2, columns // 2), np.float32)
        if rng.random() < CLEAN:
            return crop, np.zeros((rows, columns), np.int8), motions
        flat = crop[:, :, 0] if crop.shape[2] == 1 else crop
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


def _stir(canvas: Canvas, rng: np.random.Generator) -> None:
    """Motions too small to be faults: resampling itself must not look like one."""
    for _ in range(rng.integers(0, 5)):
        x, y = canvas.places[rng.integers(len(canvas.places))]
        angle, far = rng.uniform(0, 2 * np.pi), canvas.unit * rng.uniform(0, 0.2)
        shift = (float(far * np.cos(angle)), float(far * np.sin(angle)))
        scale = np.eye(2) * (1 + rng.uniform(-0.01, 0.01))
        warp(canvas, (float(x), float(y)), canvas.unit * rng.uniform(5, 10), scale, shift)


def _faults(image: Floats, before: Floats, cell: int) -> NDArray[np.int8]:
    changed = np.abs(image - before)
    grey = changed if changed.ndim == 2 else changed.max(axis=2)
    smooth = cv2.blur(grey, (3, 3))
    rows, columns = smooth.shape[0] // cell, smooth.shape[1] // cell
    worst = smooth.reshape(rows, cell, columns, cell).max(axis=(1, 3))
    return np.where(worst >= CERTAIN, 1, np.where(worst > VISIBLE, -1, 0)).astype(np.int8)
