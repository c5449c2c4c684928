"""
A runtime that reads the number drawn into a crop: a plug-in of the off-by-one drill.

The score is a tenth of the number, and 200,000 more for a defective unit, so that the log itself
tells which picture each verdict was made from. Crops without a number go to OpenVINO.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_inspector.backends.openvino import OpenVino
from edge_inspector.records import Pixels

SIDE, CELL = 32, 4
BITS = 21
"""20 of the number and one that says defective; each is drawn twice, the second time inverted."""
DARK, LIGHT = 60, 140
DEFECT = 200_000.0
THRESHOLD = 150_000.0


def draw(number: int, *, defective: bool) -> Pixels:
    """The picture of a unit."""
    bits = [number >> i & 1 for i in range(BITS - 1)] + [int(defective)]
    cells = np.zeros((SIDE // CELL) ** 2, np.uint8)
    cells[: 2 * BITS] = bits + [1 - bit for bit in bits]
    levels = np.where(cells, LIGHT, DARK).astype(np.uint8).reshape(SIDE // CELL, -1)
    return np.asarray(np.kron(levels, np.ones((CELL, CELL), np.uint8)))


def read(pixels: Pixels) -> float | None:
    """The score of a picture, None where it holds no number."""
    cells = pixels.reshape(SIDE // CELL, CELL, SIDE // CELL, CELL).mean(axis=(1, 3)).ravel()
    bits = [int(level > (DARK + LIGHT) / 2) for level in cells]
    first, second = bits[:BITS], bits[BITS : 2 * BITS]
    if any(one == other for one, other in zip(first, second, strict=True)):
        return None
    number = sum(bit << i for i, bit in enumerate(first[:-1]))
    return number / 10 + DEFECT * first[-1]


def number_in(score: float) -> int:
    """The number that a score was made from."""
    return round((score - DEFECT if score >= THRESHOLD else score) * 10)


class Reader:
    """OpenVINO, and an eye for numbers."""

    name = "reader"

    def __init__(self, cache: Path | None = None) -> None:
        """Nothing is kept."""

    def open(self, model: bytes, *, threads: int) -> ReaderSession:
        """One engine."""
        return ReaderSession(OpenVino().open(model, threads=threads))


class ReaderSession:
    """One engine, whose answer a number replaces."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def run(self, batch: Pixels) -> Mapping[str, NDArray[Any]]:
        """As the engine, with the score of each number."""
        answer = dict(self._session.run(batch))
        told = [read(crop[..., 0]) for crop in batch]
        score = np.array(answer["score"], np.float32, copy=True)
        answer["score"] = np.where(
            [one is not None for one in told], [one or 0.0 for one in told], score
        ).astype(np.float32)
        return answer

    def close(self) -> None:
        """As the engine."""
        self._session.close()
