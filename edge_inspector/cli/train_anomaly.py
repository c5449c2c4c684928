"""`train anomaly`: good images to a sealed engine."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from rich.console import Console

from edge_inspector import importer
from edge_inspector.cli.train_common import (
    add_common,
    check_above_0,
    check_common,
    progress,
    tell_images,
    tell_lint,
    told_when_cut_off,
)
from edge_inspector.errors import Misuse
from edge_inspector.training.checkpoint import part_of
from edge_inspector.training.data import GoodCrops, read_good
from edge_inspector.training.export import check_folder, write_engine
from edge_inspector.training.plan import LOOPS, Plan, Trained

SCORES = (
    "cosine",
    "elbo",
    "gradcon",
    "mahalanobis",
    "nearest",
    "odds",
    "reconstruction",
    "residual",
)


def add_train_anomaly(parser: argparse.ArgumentParser) -> None:
    """Arguments of `train anomaly`."""
    parser.add_argument("--data", type=Path, required=True, help="CSV or folder of images")
    parser.add_argument("--model", required=True, help=", ".join(sorted(LOOPS)))
    add_common(parser)
    parser.add_argument("--steps", type=int, help="at most; default: what the model needs")
    parser.add_argument("--epochs", type=int, help="at most; default: the model's own, if any")
    parser.add_argument(
        "--score",
        type=_scores,
        default=(None,),
        help=f"of {', '.join(SCORES)}; default: the model's own; several, with commas between, "
        "make one engine each of one training, ENGINE_DIR/SCORE",
    )
    parser.add_argument("--beta", type=float, help="weight of the divergence; beta-vae has 3")
    parser.add_argument("--alpha", type=float, help="weight of gradcon's constraint in training")
    parser.add_argument(
        "--gamma", type=float, help="weight of gradcon's gradient term in the score"
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="a backbone's, for sure, padim and patchcore; default: an installed package's",
    )
    parser.add_argument(
        "--standardise",
        action="store_true",
        help="take each crop's own brightness and contrast out",
    )


def run_train_anomaly(args: argparse.Namespace) -> int:
    """0 when an engine was written and training ended well, 1 when its loss broke on the way."""
    check_common(args)
    check_above_0(args, "beta", "alpha", "gamma", "epochs")
    folders = {
        score: folder
        for score, folder in _folders(args).items()
        if not (args.resume and (folder / "manifest.toml").exists())
    }
    for folder in folders.values():
        check_folder(folder)
    console = Console(stderr=True)
    crops = read_good(
        args.data, args.seed, size=args.size, channels=args.channels, square=args.square
    )
    _tell_data(crops, console)
    with told_when_cut_off(args.out, console):
        sound = [_make(args, score, out, crops, console) for score, out in folders.items()]
    if not args.keep_state:
        shutil.rmtree(part_of(args.out), ignore_errors=True)
    return 0 if all(sound) else 1


def _folders(args: argparse.Namespace) -> dict[str | None, Path]:
    """Score -> the folder of its engine."""
    if len(args.score) == 1:
        return {args.score[0]: args.out}
    if "gradcon" in args.score:
        raise Misuse("--score gradcon trains under its own constraint; give it alone")
    return {score: args.out / score for score in args.score}


def _scores(text: str) -> tuple[str, ...]:
    """The scores of `--score`."""
    scores = tuple(dict.fromkeys(text.split(",")))
    if unknown := [score for score in scores if score not in SCORES]:
        raise argparse.ArgumentTypeError(f"'{unknown[0]}' is none of {', '.join(SCORES)}")
    return scores


def _make(
    args: argparse.Namespace, score: str | None, out: Path, crops: GoodCrops, console: Console
) -> bool:
    """Train, or go on from the training of the score before, and write one engine."""
    plan = Plan(
        args.model,
        seed=args.seed,
        minutes=args.minutes,
        steps=args.steps,
        score=score,
        standardise=args.standardise,
        threads=args.threads,
        weights=args.weights,
        epochs=args.epochs,
        beta=args.beta,
        alpha=args.alpha,
        gamma=args.gamma,
        part=part_of(args.out),
        resume=args.resume or score != args.score[0],
    )
    trained = _train(plan, crops, console)
    manifest = write_engine(out, trained, crops, model_name=args.model, seed=args.seed)
    console.print(
        f"{out}: {trained.steps} steps in {trained.seconds:.0f} s, {trained.ended}; "
        f"good crops score {manifest.statistics.median:.4g} "
        f"± {manifest.statistics.spread:.2g}, a blob {manifest.challenge.bad_score:.4g}"
    )
    figures = json.loads((out / "figures.json").read_text(encoding="utf-8"))
    tell_lint(figures["lint"], console)
    _tell_suspects(figures["suspects"], out, console)
    if args.json:
        print(json.dumps(figures))
    return trained.sound


def _tell_suspects(suspects: dict[str, float], out: Path, console: Console) -> None:
    """Names of training images that may show defective units."""
    if suspects:
        console.print(f"look at these, they may show defective units ({out / 'figures.json'}):")
    for name, spreads in list(suspects.items())[:5]:
        console.print(f"  {name}, {spreads:g} spreads from the median of the training crops")


def _tell_data(crops: GoodCrops, console: Console) -> None:
    shape = crops.shape
    console.print(
        f"{len(crops.train)} good crops to learn from, {len(crops.held_out)} held out, "
        f"{shape.height} x {shape.width} x {shape.channels}"
    )
    tell_images(crops.remarks, crops.corrupt, console)


def _train(plan: Plan, crops: GoodCrops, console: Console) -> Trained:
    loop = importer.choose(LOOPS, plan.model, "model")
    with progress(console, "held out, best") as tick:
        trained: Trained = loop(plan, crops, tick)
    return trained
