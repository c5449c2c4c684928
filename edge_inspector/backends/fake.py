"""A runtime without a model: the brighter a crop, the worse. For tests and for lines without engines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_inspector.records import Pixels

CELL = 8
"""Crop px per px of the anomaly map, each way."""


class Fake:
    """Opens any bytes."""

    name = "fake"

    def __init__(self, cache: Path | None = None) -> None:
        """Nothing is kept."""

    def open(self, model: bytes, *, threads: int) -> FakeSession:
        """A session that takes crops of any size from 8x8 px on."""
        return FakeSession()


class FakeSession:
    """Score: mean brightness in 0..1; anomaly map: brightness of 8x8 px cells."""

    def run(self, batch: Pixels) -> Mapping[str, NDArray[Any]]:
        """Answer for crops, uint8 (n, h, w, c)."""
        n, rows, columns = len(batch), batch.shape[1] // CELL, batch.shape[2] // CELL
        cells = batch[:, : rows * CELL, : columns * CELL].reshape(n, rows, CELL, columns, CELL, -1)
        return {
            "score": batch.mean(axis=(1, 2, 3), dtype=np.float32) / np.float32(255),
            "anomaly_map": cells.mean(axis=(2, 4, 5)).astype(np.uint8),
        }

    def close(self) -> None:
        """Nothing is held."""
