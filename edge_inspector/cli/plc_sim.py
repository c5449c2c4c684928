"""
`plc-sim`: a simulated line controller on a station's Modbus gateway, with belt, gate and counters.

With `--frames` and `--to` it also moves parts past the camera: each gets the next number, and the
next picture of the folder is offered under it. Without, it shows what comes and acknowledges it.
"""

from __future__ import annotations

import argparse
import json
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from edge_inspector import clock
from edge_inspector.client import FrameSource
from edge_inspector.errors import Breakage, Misuse
from edge_inspector.studies.plc_line import Gated, PlcLine

SUFFIXES = (".png", ".jpg", ".jpeg")


def add_plc_sim(parser: argparse.ArgumentParser) -> None:
    """Arguments of `plc-sim`."""
    parser.add_argument("gateway", nargs="?", default="127.0.0.1:1502", metavar="HOST:PORT")
    parser.add_argument("--frames", type=Path, metavar="FOLDER", help="pictures of the parts")
    parser.add_argument("--to", metavar="URI", help="where they are offered, an assured source")
    parser.add_argument("--name", default="line", help="name of that source")
    parser.add_argument(
        "--rate", type=float, default=10.0, help="places that the belt moves a second"
    )
    parser.add_argument("--slots", type=int, default=16, help="places from the camera to the gate")
    parser.add_argument("--units", type=int, help="leave after so many parts at the gate")
    parser.add_argument("--seconds", type=float, help="leave after so long")
    parser.add_argument("--json", action="store_true", help="one JSON object a part")


def run_plc_sim(args: argparse.Namespace) -> int:
    """0 where all parts asked for came to the gate, 1 where none or not all did."""
    host, _, port = args.gateway.rpartition(":")
    if not host or not port.isdigit():
        raise Misuse(f"gateway '{args.gateway}'; write HOST:PORT, such as 127.0.0.1:1502")
    if (args.frames is None) != (args.to is None):
        raise Misuse("--frames and --to belong together: what is shown, and where it is offered")
    if args.rate <= 0 or args.slots < 1:
        raise Misuse(f"--rate {args.rate:g} and --slots {args.slots}; both are above 0")
    gated: SimpleQueue[Gated] = SimpleQueue()
    with ExitStack() as stack:
        belt = _belt(args, stack) if args.frames is not None else {"follow": True}
        line = PlcLine(host, int(port), rate_hz=args.rate, gated=gated.put, **belt)
        stack.enter_context(line)
        count = _show(gated, args)
    counts = {**line.logic.counts, "reads": line.reads, "faults": line.faults}
    print(json.dumps(counts) if args.json else _sentence(counts))
    return 0 if count and count >= (args.units or 0) else 1


def _belt(args: argparse.Namespace, stack: ExitStack) -> dict[str, Any]:
    """Parts that enter, each with its number, and their pictures in turn."""
    pictures = sorted(p for p in args.frames.glob("*") if p.suffix.lower() in SUFFIXES)
    if not pictures:
        raise Misuse(f"--frames {args.frames}: no picture there; PNG and JPEG files are shown")
    source = stack.enter_context(FrameSource(args.to, name=args.name))
    left = threading.Semaphore(args.units) if args.units else None

    def feed(trigger_id: int) -> None:
        picture = pictures[(trigger_id - 1) % len(pictures)]
        with suppress(
            Breakage
        ):  # nobody takes frames: the part comes to the gate without a verdict
            source.offer(picture.read_bytes(), trigger_id=trigger_id)

    return {
        "slots": args.slots,
        "wants_part": lambda: left is None or left.acquire(blocking=False),
        "feed": feed,
    }


def _show(gated: SimpleQueue[Gated], args: argparse.Namespace) -> int:
    """Say each part; how many there were."""
    give_up_ns = clock.now_ns() + int((args.seconds or 1e9) * 1e9)
    count = 0
    while count != args.units and (left_ns := give_up_ns - clock.now_ns()) > 0:
        try:
            part = gated.get(timeout=min(left_ns / 1e9, 0.2))
        except Empty:
            continue
        count += 1
        facts = {"trigger_id": part.trigger_id, "opened": part.opened, "seen": part.seen}
        what = "gate opens" if part.opened else "rejected" if part.seen else "rejected, no verdict"
        print(json.dumps(facts) if args.json else f"part {part.trigger_id}: {what}", flush=True)
    return count


def _sentence(counts: dict[str, int]) -> str:
    told = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    return f"at the gate: {told}"
