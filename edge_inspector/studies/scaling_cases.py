"""Products of a bench: frames and recipe by size and number of regions, their threshold out of reach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tomlkit

from edge_inspector.bundle import open_engine
from edge_inspector.crops import expand_region
from edge_inspector.recipe import Region
from edge_inspector.records import Pixels
from edge_inspector.simulator.line import LinePlayer

PICTURES = 8
CELL_PX = 256
MARK_PX, ROOM_PX = 128, 16


@dataclass(frozen=True, slots=True)
class Case:
    """Frames of `grid` x `grid` cells of `cell_px` each, a region each; `aligned` by a template."""

    grid: int = 1
    cell_px: int = CELL_PX
    channels: int = 1
    aligned: bool = False
    budget_ms: float = 100.0

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in px."""
        side = self.grid * self.cell_px
        return (side + 2 * ROOM_PX, side + 4 * MARK_PX) if self.aligned else (side, side)

    @property
    def corner(self) -> int:
        """Where the first cell begins, in both directions, px."""
        return ROOM_PX if self.aligned else 0


CASES = {
    "256x256, 1 region": Case(),
    "512x512, 4 regions": Case(2),
    "640x640x3, 16 regions": Case(4, 160, channels=3, budget_ms=250.0),
    "1024x1024, 16 regions": Case(4, budget_ms=250.0),
    "2560x2080, 64 regions, aligned": Case(8, aligned=True, budget_ms=1000.0),
}


def write_case(folder: Path, case: Case, engine: Path, runner: str) -> Path:
    """Recipe, alignment mark and frames of a case; the recipe's path."""
    opened = open_engine(engine)
    height, width = case.size
    side = case.grid * case.cell_px
    region = {
        "name": "cells",
        "rect": [case.corner, case.corner, side, side],
        "grid": {"rows": case.grid, "columns": case.grid},
        "engine": "engine",
    }
    statistics = opened.manifest.statistics
    scale = {"center": statistics.median, "spread": statistics.spread}
    recipe: dict[str, Any] = {
        "product": "bench",
        "version": 1,
        "latency_budget_ms": case.budget_ms,
        "engines": {"engine": str(engine.resolve())},
        "regions": [region],
        "calibration": {
            "threshold": 1e6,
            "overkill": 0.001,
            "promised_overkill": 1.0,
            "units": 1,
            "provisional": True,
            "backend": runner,
            "engines": {"engine": opened.digest},
            "regions": {roi.name: scale for roi in expand_region(Region.model_validate(region))},
        },
    }
    if case.aligned:
        at = [width - 2 * MARK_PX, height // 2]
        cv2.imwrite(str(folder / "mark.png"), _mark())
        method = {"method": "template", "image": "mark.png", "position": at, "search_px": ROOM_PX}
        recipe["alignment"] = {"main": method}
    np.save(folder / "frames.npy", np.stack(list(_frames(case))))
    (folder / "recipe.toml").write_text(tomlkit.dumps(recipe), encoding="utf-8")
    return folder / "recipe.toml"


def _frames(case: Case) -> Iterator[Pixels]:
    """Different frames of simulated units, an aligned one moved by some px."""
    rng = np.random.default_rng(1)
    units = iter(LinePlayer(seed=1, defect_rate=0.0, pool=32))
    height, width = case.size
    for _ in range(PICTURES):
        frame = np.full((height, width), 90, np.uint8)
        for row, column in product(range(case.grid), repeat=2):
            cell = cv2.resize(next(units).pixels, (case.cell_px, case.cell_px))
            top, left = case.corner + row * case.cell_px, case.corner + column * case.cell_px
            frame[top : top + case.cell_px, left : left + case.cell_px] = cell
        if case.aligned:
            left, top = width - 2 * MARK_PX, height // 2
            frame[top : top + MARK_PX, left : left + MARK_PX] = _mark()
            frame = np.roll(frame, rng.integers(-8, 9, 2), (0, 1))
        yield frame if case.channels == 1 else np.repeat(frame[..., None], 3, axis=2)


def _mark() -> Pixels:
    """A patch like no other."""
    noise = np.random.default_rng(7).integers(0, 256, (MARK_PX // 8, MARK_PX // 8), np.uint8)
    return np.asarray(cv2.resize(noise, (MARK_PX, MARK_PX)), np.uint8)
