"""Composed images as files: `data.csv` with path, label and split, the truth, and masks."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge_inspector.errors import DataError
from edge_inspector.simulator.defects import DEFECTS, GOOD
from edge_inspector.simulator.parts import Composed

Make = Callable[[np.random.Generator, str], Composed]
Row = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """How many images of each split; validation gets half as many of each defect as the test."""

    train: int
    validation: int
    test_good: int
    per_class: int
    kinds: tuple[str, ...]

    def rows(self) -> Iterator[tuple[str, str, int]]:
        """Split, label and count, in the order they are made."""
        yield "train", GOOD, self.train
        yield "val", GOOD, self.validation
        yield "test", GOOD, self.test_good
        for kind in self.kinds:
            yield "val", kind, self.per_class // 2
            yield "test", kind, self.per_class

    @property
    def total(self) -> int:
        """All images."""
        return sum(count for _, _, count in self.rows())


def write_dataset(
    make: Make,
    out: Path,
    plan: Plan,
    seed: int,
    tick: Callable[[], object] = lambda: None,
    known: Collection[str] = DEFECTS,
) -> Path:
    """
    Write the images and return `out/data.csv`.

    Every image has a seed of its own, so that a larger plan begins with the same images.
    `known` are the kinds that `make` can draw. Raises `DataError` for a folder that is not empty
    or a kind that is not known.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is not an empty folder; give a new one with --out")
    if unknown := [kind for kind in plan.kinds if kind not in known]:
        raise DataError(f"unknown defect '{unknown[0]}'; known: {', '.join(known)}")
    rows: list[Row] = []
    truth: list[Sequence[object]] = []
    for group, (split, label, count) in enumerate(plan.rows()):
        for folder in ("images", "masks"):
            (out / folder / split / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            made = make(np.random.default_rng([seed, group, number]), label)
            name = f"{split}/{label}/{number:05d}.png"
            _save(out / "images" / name, made.pixels)
            if made.box is not None:
                _save(out / "masks" / name, made.mask)
            rows.append((f"images/{name}", label, split))
            truth.append((f"images/{name}", label, *(made.box or ("", "", "", ""))))
            tick()
    _table(out / "truth.csv", ("path", "label", "x", "y", "width", "height"), truth)
    return _table(out / "data.csv", ("path", "label", "split"), rows)


def _save(path: Path, pixels: np.ndarray) -> None:
    if not cv2.imwrite(str(path), pixels):
        raise DataError(f"{path}: cannot be written; is the disk full?")


def _table(path: Path, head: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(head)
        writer.writerows(rows)
    return path
