"""`compose`: images with known defects, from good photographs or from the renderer."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import Progress

from edge_inspector.errors import DataError, Misuse
from edge_inspector.simulator import package
from edge_inspector.simulator.compose import segment
from edge_inspector.simulator.dataset import Plan, write_dataset
from edge_inspector.simulator.defects import DEFECTS
from edge_inspector.simulator.parts import Composed, Parts, Variation, compose
from edge_inspector.studies.dataset import read_image

PAPER_KINDS = "missing,extra,pitch,size"


def add_compose(parser: argparse.ArgumentParser) -> None:
    """Arguments of `compose`."""
    parser.add_argument("photos", nargs="*", type=Path, metavar="PHOTO", help="good photographs")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--simulated", action="store_true", help="use the renderer's parts")
    parser.add_argument("--train", type=int, default=600, help="good training images")
    parser.add_argument("--validation", type=int, default=200, help="good validation images")
    parser.add_argument("--good", type=int, default=300, help="good test images")
    parser.add_argument("--per-class", type=int, default=60, help="test images of each defect")
    parser.add_argument("--kinds", default=PAPER_KINDS, help=f"of {','.join(DEFECTS)}")
    parser.add_argument("--still", action="store_true", help="pose, light and noise do not vary")
    parser.add_argument("--seed", type=int, default=1)


def run_compose(args: argparse.Namespace) -> int:
    """Write the data set and say where it is."""
    if bool(args.photos) == args.simulated:
        raise Misuse("give photographs of good units, or --simulated, and not both")
    parts = package.parts() if args.simulated else photographed(args.photos)
    normal = Variation()
    if args.still:
        normal = Variation(normal.jitter_px, normal.size, 0.0, 0.0, 0.0, 0.0)
    kinds = tuple(kind for kind in args.kinds.split(",") if kind)
    plan = Plan(args.train, args.validation, args.good, args.per_class, kinds)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("composing", total=plan.total)

        def make(rng: np.random.Generator, label: str) -> Composed:
            return compose(parts, rng, normal, label)

        table = write_dataset(make, args.out, plan, args.seed, lambda: progress.advance(task))
    print(f"{plan.total} images of {len(parts.centres)} balls: {table}")
    return 0


def photographed(paths: list[Path]) -> Parts:
    """Parts of photograph files; raises `DataError` naming the file that cannot be used."""
    photos = []
    for path in paths:
        pixels = read_image(path)
        if pixels.dtype != np.uint8:
            raise DataError(f"{path}: {pixels.dtype} samples; 8-bit photographs are taken")
        grey = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
        photos.append(np.asarray(grey, np.uint8))
    return segment(photos)
