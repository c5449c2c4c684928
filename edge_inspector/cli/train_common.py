"""What every kind of `train` has: arguments, what it says of its data, progress, an interruption."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from edge_inspector.errors import Misuse
from edge_inspector.studies.dataset import Item
from edge_inspector.training.checkpoint import FILE, part_of
from edge_inspector.training.graph_rules import Finding
from edge_inspector.training.plan import Tick


def add_common(parser: argparse.ArgumentParser) -> None:
    """Arguments of every kind."""
    parser.add_argument("--out", type=Path, required=True, metavar="ENGINE_DIR")
    parser.add_argument("--minutes", type=float, default=60.0, help="at most; the default is 60")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, help="side of the crops in px; default: by the data")
    parser.add_argument("--channels", type=int, choices=(1, 3), help="default: by the data")
    parser.add_argument("--square", action="store_true", help="cut to the centre square first")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint of a run that was cut off"
    )
    parser.add_argument(
        "--keep-state", action="store_true", help="leave the last checkpoint in ENGINE_DIR.part"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as one object")


def check_common(args: argparse.Namespace) -> None:
    """Raise `Misuse` for bounds that allow nothing."""
    if not args.minutes > 0 or args.threads < 1:
        raise Misuse(f"--minutes {args.minutes:g}, --threads {args.threads}; both must be above 0")


def check_above_0(args: argparse.Namespace, *names: str) -> None:
    """Raise `Misuse` where one of these was given and is no number above 0."""
    for name in names:
        value = getattr(args, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise Misuse(f"--{name} {value:g}; it must be a number above 0")


def tell_images(remarks: Sequence[str], corrupt: Sequence[Item], console: Console) -> None:
    """What was done to the images, and which could not be read."""
    for remark in remarks:
        console.print(remark)
    for item in corrupt[:5]:
        console.print(f"left out, cannot be read: {item.path}")
    if len(corrupt) > 5:
        console.print(f"left out in all: {len(corrupt)} broken files")


def tell_lint(findings: Sequence[dict[str, Any]], console: Console) -> None:
    """What the engine's graph loses time with, as `engine lint` says it; notes are left to that."""
    for finding in findings:
        if finding["level"] != "note":
            console.print(Finding(**finding).told(), markup=False)


@contextmanager
def progress(console: Console, what: str) -> Iterator[Tick]:
    """A line on a terminal that tells of each step; `what` names the figure of the best state."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:
        task = shown.add_task("first steps", total=None)
        yield lambda step, loss, best: shown.update(
            task, description=f"step {step}  loss {loss:.4f}  {what} {best:.4f}"
        )


@contextmanager
def told_when_cut_off(out: Path, console: Console) -> Iterator[None]:
    """Say after Ctrl-C what goes on from there."""
    try:
        yield
    except KeyboardInterrupt:
        part = part_of(out)
        kept = f"{part} keeps the state; --resume with the same words goes on"
        console.print(kept if (part / FILE).exists() else "nothing was kept, it was too early")
        raise
