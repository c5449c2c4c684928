"""`train classifier`: labelled images to a sealed engine that names defects."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from rich.console import Console

from edge_inspector.cli.train_common import (
    add_common,
    check_above_0,
    check_common,
    progress,
    tell_images,
    tell_lint,
    told_when_cut_off,
)
from edge_inspector.models.classifier import CLASSIFIERS
from edge_inspector.training.checkpoint import part_of
from edge_inspector.training.classifier import train
from edge_inspector.training.classifier_export import write_classifier
from edge_inspector.training.classifier_plan import ClassifierPlan, TrainedClassifier
from edge_inspector.training.device import check_device, knows_half
from edge_inspector.training.export import check_folder
from edge_inspector.training.generated import read_generated
from edge_inspector.training.labelled import LabelledCrops, read_labelled, with_generated


def add_train_classifier(parser: argparse.ArgumentParser) -> None:
    """Arguments of `train classifier`."""
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        help="CSV or folder of images; repeat it to learn from images reviewed on the line too",
    )
    parser.add_argument(
        "--model", required=True, help=f"{', '.join(CLASSIFIERS)}; +cbam may follow each"
    )
    add_common(parser)
    parser.add_argument("--epochs", type=int, default=30, help="at most; the default is 30")
    parser.add_argument("--loss", choices=("cross-entropy", "focal"), default="cross-entropy")
    parser.add_argument(
        "--balance",
        choices=("weights", "sampling", "none"),
        default="weights",
        help="for classes of unlike numbers: weights in the loss, drawing each as often, or none",
    )
    parser.add_argument(
        "--stop",
        choices=("loss", "macro-f1"),
        default="macro-f1",
        help="which figure of the val images must get better; default: macro-f1",
    )
    parser.add_argument(
        "--patience", type=int, default=8, help="epochs without a better one; the default is 8"
    )
    origin = parser.add_mutually_exclusive_group()
    origin.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="a backbone's, safetensors or a state dict; default: what is at hand",
    )
    origin.add_argument("--scratch", action="store_true", help="a backbone without any weights")
    parser.add_argument(
        "--augment", type=Path, metavar="GAN_DIR", help="learn from images that a GAN drew too"
    )
    parser.add_argument(
        "--plain",
        action="store_true",
        help="do not vary crops; for sharp ones, as maps, few epochs",
    )
    parser.add_argument("--flips", action="store_true", help="mirror crops too")
    parser.add_argument("--rate", type=float, help="first learning rate; the default is 0.001")
    parser.add_argument("--batch", type=int, help="crops per step; default: 8 to 64, by the data")
    parser.add_argument("--device", default="cpu", help="cpu or cuda; the default is cpu")
    parser.add_argument(
        "--half",
        action=argparse.BooleanOptionalAction,
        help="learn in bfloat16, twice as fast; default: where the device knows it",
    )
    parser.add_argument(
        "--anomaly",
        type=Path,
        metavar="ENGINE_DIR",
        help="anomaly engine that stands beside it; its score has a part in what is unknown",
    )


def run_train_classifier(args: argparse.Namespace) -> int:
    """0 when an engine was written and training ended well, 1 when its loss broke on the way."""
    _check(args)
    if args.resume and (args.out / "manifest.toml").exists():
        return 0
    check_folder(args.out)
    console = Console(stderr=True)
    crops = read_labelled(
        args.data, args.seed, size=args.size, channels=args.channels, square=args.square
    )
    if args.augment is not None:
        images, labels = read_generated(args.augment, crops.classes, crops.shape)
        crops = with_generated(crops, images, labels)
    _tell_data(crops, console)
    plan = _plan(args)
    with told_when_cut_off(args.out, console):
        with progress(console, "best macro-F1 of val") as tick:
            trained = train(plan, crops, tick)
        write_classifier(args.out, trained, crops, plan=plan, anomaly=args.anomaly)
    _tell(trained, args.out, console)
    figures = json.loads((args.out / "figures.json").read_text(encoding="utf-8"))
    tell_lint(figures["lint"], console)
    if args.json:
        print(json.dumps(figures))
    if not args.keep_state:
        shutil.rmtree(part_of(args.out), ignore_errors=True)
    return 0 if trained.sound else 1


def _check(args: argparse.Namespace) -> None:
    """Raise `Misuse` for what no training can be made of, before any work."""
    check_common(args)
    check_above_0(args, "epochs", "patience", "batch", "rate")
    check_device(args.device)


def _plan(args: argparse.Namespace) -> ClassifierPlan:
    return ClassifierPlan(
        args.model,
        seed=args.seed,
        minutes=args.minutes,
        epochs=args.epochs,
        threads=args.threads,
        loss=args.loss,
        balance=args.balance,
        stop=args.stop,
        patience=args.patience,
        weights=args.weights,
        pretrained=not args.scratch,
        augment=args.augment,
        vary=not args.plain,
        flips=args.flips,
        rate=args.rate,
        batch=args.batch,
        device=args.device,
        half=knows_half(args.device) if args.half is None else args.half,
        part=part_of(args.out),
        resume=args.resume,
    )


def _tell_data(crops: LabelledCrops, console: Console) -> None:
    shape = crops.shape
    console.print(
        f"{len(crops.train)} crops to learn from, {len(crops.val)} held out, "
        f"{shape.height} x {shape.width} x {shape.channels}; classes: {', '.join(crops.classes)}"
    )
    tell_images(crops.remarks, crops.corrupt, console)


def _tell(trained: TrainedClassifier, out: Path, console: Console) -> None:
    best = trained.history[trained.best]
    console.print(
        f"{out}: {trained.epochs} epochs in {trained.seconds:.0f} s, weights: "
        f"{trained.network.origin}; {trained.ended}; macro-F1 of val {best.val_macro_f1:.3f}, "
        f"loss {best.val_loss:.3f}, of epoch {trained.best + 1}"
    )
