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

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from edge_inspector import clock, importer
from edge_inspector.cli.offering import AssuredLine, Line, Offered, PlainLine
from edge_inspector.errors import Misuse
from edge_inspector.sources.pace import Pace
from edge_inspector.studies.played import Exposure, Picture, drawn, incumbent_said, pictures

SCENES = {
    "bga": "edge_inspector.simulator.line:LinePlayer",
    "connector": "edge_inspector.simulator.connector:ConnectorLine",
}
DEFECT_RATE = 0.1


class Shot(NamedTuple):
    """One picture to send: what it shows, and a label where that is known."""

    name: str
    pixels: NDArray[Any] | bytes
    label: str | None


def add_simulate(parser: argparse.ArgumentParser) -> None:
    """Arguments of `simulate`."""
    parser.add_argument("scene", help=f"{', '.join(SCENES)}, a folder, or a CSV")
    parser.add_argument("--to", required=True, metavar="URI", help="tcp://127.0.0.1:5574")
    parser.add_argument(
        "--rate", type=float, default=10.0, metavar="HZ", help="0: as fast as it goes"
    )
    parser.add_argument("--units", type=int, help="default: a folder once, a scene without end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--defect-rate", type=float, help=f"scenes: {DEFECT_RATE}; labelled pictures: as they come"
    )
    parser.add_argument(
        "--incumbent-errors", type=float, metavar="RATE", help="another inspector speaks, and errs"
    )
    parser.add_argument("--good", metavar="GLOB", help="a folder's good pictures, as '*_temp.jpg'")
    parser.add_argument("--split", help="a CSV's pictures of this split only")
    parser.add_argument("--size", type=_size, metavar="WxH", help="pictures are scaled to this")
    parser.add_argument("--jitter", type=float, default=0, metavar="PX", help="pictures are moved")
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
        "--truth", type=Path, help="JSON lines: unit_id, trigger_id, label, scene, incumbent, …"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="what was sent, as one object")


def run_simulate(args: argparse.Namespace) -> int:
    """Publish at a steady rate; 0 when all was sent and, where that is known, settled."""
    if args.rate < 0 or args.jitter < 0:
        raise Misuse(f"--rate {args.rate}, --jitter {args.jitter}: 0 or more")
    for share in (args.defect_rate, args.incumbent_errors):
        if share is not None and not 0 <= share <= 1:
            raise Misuse(f"--defect-rate and --incumbent-errors are 0 to 1, not {share:g}")
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
    # A trigger id that a PLC can hold: 32 bit.
    first = args.first or max(clock.utc_ns() // clock.NS_PER_MS % 2**32, 1)
    sent, scene = 0, Path(args.scene).name
    for number, shot in enumerate(shots):
        trigger_id, said = first + number, None
        if args.incumbent_errors is not None:
            said = incumbent_said(shot.label, args.incumbent_errors, args.seed, number)
        unit_id = f"{scene}-{trigger_id}"[-64:]
        pace.wait()
        if truth is not None:
            row = {"unit_id": unit_id, "trigger_id": trigger_id, "label": shot.label}
            row |= {"scene": shot.name, "incumbent": said, "offered_mono_ns": clock.now_ns()}
            truth.write(msgspec.json.encode(row).decode() + "\n")
        line.send(Offered(shot.pixels, unit_id, trigger_id, said), paced=args.rate > 0)
        sent += 1
    return sent


def _shots(args: argparse.Namespace) -> Iterator[Shot]:
    if args.scene in SCENES:
        rate = DEFECT_RATE if args.defect_rate is None else args.defect_rate
        player = importer.load(SCENES[args.scene])(seed=args.seed, defect_rate=rate)
        shots = (Shot(str(unit.unit_id), unit.pixels, unit.label) for unit in player)
        if args.pool is None:
            return itertools.islice(shots, args.units)
        pool: list[Shot] = list(itertools.islice(shots, args.pool))
        return itertools.islice(itertools.cycle(pool), args.units)
    scene = Path(args.scene)
    if not scene.exists():
        raise Misuse(f"'{args.scene}' is neither a folder nor a CSV nor one of {', '.join(SCENES)}")
    found = pictures(scene, split=args.split, good=args.good)
    endless: Iterator[Picture] = itertools.cycle(found)
    if args.defect_rate is not None:
        endless = drawn(found, args.seed, args.defect_rate)
    exposure = Exposure(args.size, args.jitter)
    chosen = itertools.islice(endless, args.units or len(found))
    return (
        Shot(
            one.path.name, exposure.take(one.path, np.random.default_rng([args.seed, n])), one.label
        )
        for n, one in enumerate(chosen)
    )


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"'{text}'; write width and height in px, as 320x256")
    return int(width), int(height)
