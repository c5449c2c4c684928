"""`simulate`: a line that publishes frames, as a process of its own."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from edge_inspector import clock, importer
from edge_inspector.cli.offering import AssuredLine, Line, PlainLine
from edge_inspector.errors import DataError, Misuse
from edge_inspector.sources.folder import images_in, read_image
from edge_inspector.sources.pace import Pace

SCENES = {"bga": "edge_inspector.simulator.line:LinePlayer"}


class Shot(NamedTuple):
    """One picture to send: what it shows, and a label where that is known."""

    name: str
    pixels: NDArray[Any] | bytes
    label: str | None


def add_simulate(parser: argparse.ArgumentParser) -> None:
    """Arguments of `simulate`."""
    parser.add_argument("scene", help=f"{', '.join(SCENES)}, or a folder of images")
    parser.add_argument("--to", required=True, metavar="URI", help="tcp://127.0.0.1:5574")
    parser.add_argument(
        "--rate", type=float, default=10.0, metavar="HZ", help="0: as fast as it goes"
    )
    parser.add_argument("--units", type=int, help="default: a folder once, a scene without end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--defect-rate", type=float, default=0.1)
    parser.add_argument(
        "--kind",
        choices=("push", "pub", "req", "assured"),
        default="push",
        help="assured: every unit gets a recorded verdict, also across restarts of the daemon",
    )
    parser.add_argument("--name", default="line", help="assured: name of this source")
    parser.add_argument("--budget-ms", type=float, default=500.0, help="assured: time a unit has")
    parser.add_argument(
        "--records", type=Path, help="assured: JSON lines of what the daemon settled"
    )
    parser.add_argument("--camera", help="camera named in each frame; default: the source's")
    parser.add_argument("--pool", type=int, help="draw this many units and show them in turn")
    parser.add_argument("--first", type=int, help="trigger id of the first unit; default: the time")
    parser.add_argument(
        "--truth", type=Path, help="JSON lines: unit_id, trigger_id, label, scene, offered_mono_ns"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="what was sent, as one object")


def run_simulate(args: argparse.Namespace) -> int:
    """Publish at a steady rate; 0 when all was sent and, where that is known, settled."""
    if args.rate < 0 or not 0 <= args.defect_rate <= 1:
        raise Misuse(f"--rate {args.rate}, --defect-rate {args.defect_rate}: 0 or more, 0 to 1")
    if any(number is not None and number < 1 for number in (args.units, args.pool, args.first)):
        raise Misuse("--units, --pool and --first are 1 or more")
    shots = _shots(args)
    console = Console(file=sys.stderr, quiet=args.quiet or not sys.stderr.isatty())
    begun_ns = clock.now_ns()
    with ExitStack() as stack:
        line: Line
        if args.kind == "assured":
            line = stack.enter_context(
                AssuredLine(args.to, args.name, args.camera, args.budget_ms, args.records)
            )
        else:
            line = stack.enter_context(PlainLine(args.to, args.kind, args.camera))
        truth = stack.enter_context(args.truth.open("w", buffering=1)) if args.truth else None
        watched = track(shots, "sent", total=args.units, console=console, disable=console.quiet)
        sent = _play(args, line, truth, watched)
        told = line.finish()
    seconds = (clock.now_ns() - begun_ns) / 1e9
    if args.json:
        print(json.dumps({"sent": sent, "seconds": round(seconds, 3), **told}))
    return 1 if told.get("unsettled") else 0


def _play(args: argparse.Namespace, line: Line, truth: TextIO | None, shots: Iterable[Shot]) -> int:
    """Send each when it is due, its truth first; how many there were."""
    pace = Pace(args.rate or None, threading.Event())
    first = args.first or clock.utc_ns() // clock.NS_PER_MS
    sent = 0
    for trigger_id, shot in enumerate(shots, start=first):
        unit_id = f"{Path(args.scene).name}-{trigger_id}"[-64:]
        pace.wait()
        if truth is not None:
            row = {"unit_id": unit_id, "trigger_id": trigger_id, "label": shot.label}
            row |= {"scene": shot.name, "offered_mono_ns": clock.now_ns()}
            truth.write(json.dumps(row) + "\n")
        line.send(shot.pixels, unit_id, trigger_id, paced=args.rate > 0)
        sent += 1
    return sent


def _shots(args: argparse.Namespace) -> Iterator[Shot]:
    if args.scene in SCENES:
        player = importer.load(SCENES[args.scene])(seed=args.seed, defect_rate=args.defect_rate)
        shots = (Shot(str(unit.unit_id), unit.pixels, unit.label) for unit in player)
        if args.pool is None:
            return itertools.islice(shots, args.units)
        drawn: list[Shot] = list(itertools.islice(shots, args.pool))
        return itertools.islice(itertools.cycle(drawn), args.units)
    folder = Path(args.scene)
    if not folder.is_dir():
        raise Misuse(f"'{args.scene}' is neither a folder nor one of {', '.join(SCENES)}")
    paths = images_in(folder)
    chosen = itertools.islice(itertools.cycle(paths), args.units or len(paths))
    return (_picture(path) for path in chosen)


def _picture(path: Path) -> Shot:
    pixels = read_image(path)
    if pixels is None:
        raise DataError(f"'{path}' cannot be read as an image; remove it from the folder")
    return Shot(
        path.name, pixels if isinstance(pixels, bytes) else np.ascontiguousarray(pixels), None
    )
