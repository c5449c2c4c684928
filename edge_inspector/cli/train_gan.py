"""`train gan`: labelled images to a folder of more images of each defect."""

from __future__ import annotations

import argparse
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from edge_inspector.cli.train_common import (
    add_common,
    check_above_0,
    check_common,
    progress,
    tell_images,
    told_when_cut_off,
)
from edge_inspector.errors import Breakage, DataError, Misuse
from edge_inspector.models.dcgan import Generator
from edge_inspector.training.checkpoint import part_of
from edge_inspector.training.device import check_device, knows_half
from edge_inspector.training.export import check_folder
from edge_inspector.training.gan import GanPlan, draw_each, train
from edge_inspector.training.gan_quality import judge
from edge_inspector.training.gan_sheet import png, sample_sheet
from edge_inspector.training.generated import CARD, Card, check_names, write_gan
from edge_inspector.training.labelled import LabelledCrops, read_labelled, with_digest


def add_train_gan(parser: argparse.ArgumentParser) -> None:
    """Arguments of `train gan`."""
    add_common(parser)
    parser.add_argument(
        "--data", type=Path, required=True, action="append", help="CSV or folder of labelled images"
    )
    parser.add_argument("--steps", type=int, default=100_000, help="at most; the paper's 100000")
    parser.add_argument(
        "--matching", type=float, default=0.1, help="weight of feature matching; default 0.1"
    )
    parser.add_argument(
        "--rate", type=float, default=2e-4, help="learning rate; the default is the paper's 0.0002"
    )
    parser.add_argument(
        "--count", type=int, default=400, help="images to draw of each class; the default is 400"
    )
    parser.add_argument(
        "--sheet-steps", type=int, default=500, help="steps between sample sheets; default 500"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda; the default is cpu")
    parser.add_argument(
        "--half",
        action=argparse.BooleanOptionalAction,
        help="learn in bfloat16; default: where the device knows it",
    )


def run_train_gan(args: argparse.Namespace) -> int:
    """0 when the GAN passed its quality check, 1 when it did not or its loss broke on the way."""
    _check(args)
    if args.resume and (args.out / CARD).exists():
        return 0
    check_folder(args.out)
    console = Console(stderr=True)
    crops = _defects(
        read_labelled(
            args.data, args.seed, size=args.size, channels=args.channels, square=args.square
        )
    )
    check_names(crops.classes)
    tell_images(crops.remarks, crops.corrupt, console)
    console.print(f"{len(crops.train)} defects of {len(crops.classes)} classes to learn from")
    plan = _plan(args)
    with told_when_cut_off(args.out, console):
        with progress(console, "distance") as tick:
            trained = train(plan, crops, tick, lambda step, net: _keep_sheet(plan, step, net))
        images, labels = draw_each(trained.generator, args.count, args.seed + 1)
        quality = judge(crops, images, labels, seed=args.seed, threads=args.threads)
        card = write_gan(args.out, trained, images, crops, quality, plan=plan)
    _tell(card, args, console)
    if not args.keep_state:
        shutil.rmtree(part_of(args.out), ignore_errors=True)
    return 0 if quality.sound and trained.sound else 1


def _check(args: argparse.Namespace) -> None:
    """Raise `Misuse` for what no training can be made of, before any work."""
    check_common(args)
    for name in ("steps", "count", "sheet_steps"):
        if getattr(args, name) < 1:
            raise Misuse(f"--{name.replace('_', '-')} {getattr(args, name)}; it must be 1 or more")
    if not (math.isfinite(args.matching) and args.matching >= 0):
        raise Misuse(f"--matching {args.matching:g}; it must be a number, 0 or more")
    check_above_0(args, "rate")
    if args.size is not None and (args.size < 32 or args.size % 16):
        raise Misuse(f"--size {args.size}; it must be a multiple of 16 px, 32 or more")
    check_device(args.device)


def _defects(crops: LabelledCrops) -> LabelledCrops:
    """Without the good class: good units are not what a line lacks."""
    if crops.good is None:
        return crops
    train, val = crops.train_labels > 0, crops.val_labels > 0
    if len(crops.classes) < 3:
        raise DataError(
            f"only one defect class, '{crops.classes[1]}'; the quality check tells classes from "
            "each other, two or more are needed"
        )
    return with_digest(
        replace(
            crops,
            classes=crops.classes[1:],
            train=crops.train[train],
            train_labels=crops.train_labels[train] - 1,
            val=crops.val[val],
            val_labels=crops.val_labels[val] - 1,
        )
    )


def _plan(args: argparse.Namespace) -> GanPlan:
    return GanPlan(
        seed=args.seed,
        minutes=args.minutes,
        steps=args.steps,
        rate=args.rate,
        matching=args.matching,
        sheet_steps=args.sheet_steps,
        threads=args.threads,
        device=args.device,
        half=knows_half(args.device) if args.half is None else args.half,
        part=part_of(args.out),
        resume=args.resume,
    )


def _keep_sheet(plan: GanPlan, step: int, generator: Generator) -> None:
    """A sample sheet beside the checkpoint."""
    assert plan.part is not None
    path = plan.part / f"sheet-{step:06d}.png"
    try:
        plan.part.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(sample_sheet(generator)))
    except OSError as error:
        raise Breakage(f"{path} cannot be written: {error.strerror}; make room") from error


def _tell(card: Card, args: argparse.Namespace, console: Console) -> None:
    quality = card.quality
    console.print(
        f"{args.out}: {card.steps} steps in {card.seconds:.0f} s, {card.ended}; distance "
        f"{card.distance:.3g}; a classifier of real images is right on {quality.accuracy:.2f} of "
        f"the generated ones and on {quality.real_accuracy:.2f} of real ones"
    )
    for fault in quality.faults:
        console.print(f"not sound, classifiers will not learn from it: {fault}")
    if args.json:
        print(json.dumps(card.model_dump()))
