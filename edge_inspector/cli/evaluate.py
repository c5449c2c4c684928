"""`evaluate`: an engine's or the rules' figures on labelled images."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from edge_inspector.cli.confusion import check_picture, draw_confusion, print_classes
from edge_inspector.errors import Misuse
from edge_inspector.scorers.classifier import ClassifierScorer
from edge_inspector.studies.baselines import baselines
from edge_inspector.studies.dataset import SPLITS, Item, read_items
from edge_inspector.studies.evaluate import Target, Tick, evaluate, open_target
from edge_inspector.studies.evaluate_classes import evaluate_classes
from edge_inspector.studies.metrics import rounded
from edge_inspector.studies.ramps import RAMPS, ramps


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Arguments of `evaluate`."""
    parser.add_argument("target", type=Path, help="an engine's folder, or a TOML file of rules")
    parser.add_argument("--data", type=Path, required=True, help="CSV or folder of labelled images")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--threshold", type=float, help="raw score at or above which a unit fails")
    parser.add_argument(
        "--overkill",
        type=float,
        default=0.005,
        help="share of the validation split's good units that the threshold fails (default 0.005)",
    )
    parser.add_argument(
        "--backend",
        action="append",
        help="runner, such as openvino:int8, or auto; the default is openvino, onnxruntime",
    )
    parser.add_argument(
        "--baselines", action="store_true", help="AUROC of image size and of mean colour alone"
    )
    parser.add_argument(
        "--ramps",
        action="store_true",
        help="recall and overkill while gain, blur, shift and tint grow, the threshold held still",
    )
    parser.add_argument(
        "--ramp-images", type=int, default=1000, help="most images of each label (default 1000)"
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the report to OUT")
    parser.add_argument(
        "--scores",
        type=Path,
        metavar="OUT.csv",
        help="write the score of every image of this and of the validation split",
    )
    _add_classes(parser.add_argument_group("of classifiers"))


def _add_classes(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--unknown", metavar="LABEL", help="a class that training lacked: figures of 'unknown'"
    )
    group.add_argument(
        "--anomaly",
        type=Path,
        metavar="ENGINE_DIR",
        help="anomaly engine that looks at each image too, to tell what is unknown",
    )
    group.add_argument(
        "--picture", type=Path, metavar="OUT.svg", help="draw the confusion matrix, or OUT.png"
    )


def run_evaluate(args: argparse.Namespace) -> int:
    """Score, print, and keep the report where it was asked for."""
    if not 0 <= args.overkill < 1:
        raise Misuse(f"--overkill is {args.overkill:g}; it is a share, 0 or more and below 1")
    if args.ramp_images < 1:
        raise Misuse(f"--ramp-images is {args.ramp_images}; 1 or more are needed")
    if args.picture is not None:
        check_picture(args.picture)
    console = Console(stderr=True)
    with (
        ExitStack() as stack,
        Progress(console=console, disable=not console.is_terminal) as progress,
    ):
        target = _open(args.target, args, stack)
        task = progress.add_task("images", total=None)

        def tick(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        of_classes = isinstance(target.scorer, ClassifierScorer)
        _check_kind(args, of_classes)
        items = read_items(args.data, every_class=of_classes)
        report = (_of_classes if of_classes else _of_scores)(items, target, args, stack, tick)
    if args.baselines:
        report["baselines"] = baselines(items, args.split)
    text = json.dumps(rounded(report, 9), indent=2)
    if args.json is not None:
        args.json.write_text(text + "\n", encoding="utf-8")
    if args.picture is not None:
        draw_confusion(report, args.picture)
    (print_classes if of_classes else _print)(rounded(report, 4))
    return 0


def _open(path: Path, args: argparse.Namespace, stack: ExitStack) -> Target:
    return stack.enter_context(open_target(path, args.backend or ("openvino", "onnxruntime")))


def _check_kind(args: argparse.Namespace, of_classes: bool) -> None:
    """Raise `Misuse` for what only the other kind of engine has."""
    others = ("threshold", "ramps") if of_classes else ("unknown", "anomaly", "picture")
    for name in others:
        if getattr(args, name) not in (None, False):
            kind = "classifier" if of_classes else "scorer of anomalies"
            raise Misuse(f"--{name}: {args.target} is a {kind}, which has none; leave it away")


def _of_scores(
    items: Sequence[Item], target: Target, args: argparse.Namespace, stack: ExitStack, tick: Tick
) -> dict[str, Any]:
    report = evaluate(
        items,
        target,
        args.split,
        threshold=args.threshold,
        overkill=args.overkill,
        tick=tick,
        scores=args.scores,
    )
    if args.ramps:
        report["ramps"] = ramps(
            items, target, args.split, report["threshold"], most=args.ramp_images, tick=tick
        )
    return report


def _of_classes(
    items: Sequence[Item], target: Target, args: argparse.Namespace, stack: ExitStack, tick: Tick
) -> dict[str, Any]:
    return evaluate_classes(
        items,
        target,
        args.split,
        drift=args.unknown,
        beside=_open(args.anomaly, args, stack) if args.anomaly else None,
        tick=tick,
        scores=args.scores,
    )


def _print(report: dict[str, Any]) -> None:
    classes = report["per_class"]
    strange = report["uninspected"]
    at = report["recall_at_overkill"].get("0.005")
    print(
        f"{report['engine']} on {report['backend']}, {report['images']} images of "
        f"'{report['split']}', {report['corrupt']} corrupt, "
        f"uninspected {strange['good']} good and {strange['bad']} defective"
    )
    print(f"AUROC {report['auroc']}  average precision {report['average_precision']}")
    print(
        f"threshold {report['threshold']}: overkill {report['overkill_rate']} "
        f"{report['overkill_interval']}, recall {report['recall']} {report['recall_interval']}, "
        f"F1 {report['f1']}"
    )
    for label, figures in classes.items():
        recall = f", recall at 0.5 % overkill {at['per_class'][label]}" if at else ""
        print(f"  {label}: {figures['count']} images, AUROC {figures['auroc']}{recall}")
    _print_ramps(report.get("ramps", {}))
    for name, value in report.get("baselines", {}).items():
        print(f"{name} {value}")
    print(f"latency ms p50 {report['latency_ms']['p50']} p99 {report['latency_ms']['p99']}")


def _print_ramps(ramps: dict[str, Any]) -> None:
    for name in RAMPS if ramps else ():
        for figures in ({"step": 0, **ramps["still"]}, *ramps[name]):
            print(
                f"{name} {figures['step']:g}: recall {figures['recall']}, "
                f"overkill {figures['overkill_rate']}, uninspected {figures['uninspected']}, "
                f"gate refuses {figures['refused']['good']} of good and "
                f"{figures['refused']['bad']} of defective, escapes {figures['escape_rate']}"
            )
