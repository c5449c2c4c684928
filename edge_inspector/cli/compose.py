"""`compose`: images with known defects, from good photographs or from the renderer."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import Progress

from edge_inspector.errors import DataError, Misuse
from edge_inspector.simulator import package, second
from edge_inspector.simulator.compose import segment
from edge_inspector.simulator.dataset import Make, Plan, write_dataset
from edge_inspector.simulator.defects import DEFECTS
from edge_inspector.simulator.parts import Parts, Variation, compose
from edge_inspector.studies.dataset import read_image

PAPER_KINDS = "missing,extra,pitch,size"
KINDS = {"first": tuple(DEFECTS), "second": tuple(second.KINDS)}
"""What each generator can draw."""


def add_compose(parser: argparse.ArgumentParser) -> None:
    """Arguments of `compose`."""
    parser.add_argument("photos", nargs="*", type=Path, metavar="PHOTO", help="good photographs")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--simulated", action="store_true", help="use the renderer's parts")
    parser.add_argument("--train", type=int, default=600, help="good training images")
    parser.add_argument("--validation", type=int, default=200, help="good validation images")
    parser.add_argument("--good", type=int, default=300, help="good test images")
    parser.add_argument("--per-class", type=int, default=60, help="test images of each defect")
    parser.add_argument(
        "--generator",
        choices=KINDS,
        default="first",
        help="'second' draws in another way and is frozen: for tests, never for training defects",
    )
    unseen = ",".join(second.UNSEEN)
    parser.add_argument(
        "--kinds",
        default=PAPER_KINDS,
        help=f"'all', or some of {','.join(DEFECTS)}; the second generator has {unseen} too",
    )
    parser.add_argument("--still", action="store_true", help="pose, light and noise do not vary")
    parser.add_argument("--seed", type=int, default=1)


def run_compose(args: argparse.Namespace) -> int:
    """Write the data set and say where it is."""
    if bool(args.photos) == args.simulated:
        raise Misuse("give photographs of good units, or --simulated, and not both")
    make, balls = _generator(args)
    known = KINDS[args.generator]
    kinds = known if args.kinds == "all" else tuple(kind for kind in args.kinds.split(",") if kind)
    plan = Plan(args.train, args.validation, args.good, args.per_class, kinds)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("composing", total=plan.total)
        table = write_dataset(
            make, args.out, plan, args.seed, lambda: progress.advance(task), known
        )
    print(f"{plan.total} images of {balls} balls: {table}")
    return 0


def _generator(args: argparse.Namespace) -> tuple[Make, int]:
    """What makes an image of a label, and the number of its balls."""
    normal = Variation()
    if args.still:
        normal = Variation(normal.jitter_px, normal.size, 0.0, 0.0, 0.0, 0.0)
    if args.generator == "first":
        parts = package.parts() if args.simulated else photographed(args.photos)
        return lambda rng, label: compose(parts, rng, normal, label), len(parts.centres)
    stage = second.rendered() if args.simulated else second.photographed(photographed(args.photos))
    return lambda rng, label: second.compose(stage, rng, normal, label), len(stage.centres)


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
