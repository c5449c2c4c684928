"""`teach`: from recorded or live good units to an engine that observes, in one command."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edge_inspector.cli.own_session import own_session
from edge_inspector.errors import Breakage, Misuse

if TYPE_CHECKING:
    from rich.console import Console

    from edge_inspector.cli.teach_progress import Stages
    from edge_inspector.training.teach import Taught

UNITS = 400
"""Enough for a promise of 1 % overkill beside a hundred units to learn from."""


def add_teach(parser: argparse.ArgumentParser) -> None:
    """Arguments of `teach`."""
    parser.add_argument("station", type=Path, metavar="STATION", help="station.toml")
    parser.add_argument("--product", required=True, metavar="NAME", help="what is taught")
    parser.add_argument("--overkill", type=float, default=0.01, help="unit overkill rate to keep")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="that 'record' made; default: 'recorded' beside the station's file",
    )
    parser.add_argument(
        "--units",
        type=int,
        metavar="N",
        help=f"record the line until the folder has so many; default: {UNITS} where there is none",
    )
    parser.add_argument(
        "--drop",
        action="append",
        default=[],
        metavar="ID",
        help="a unit that is not good after all; may be repeated, and is remembered",
    )
    parser.add_argument("--minutes", type=float, default=12.0, help="of training; default: 12")
    parser.add_argument("--steps", type=int, help="of training at most; default: what it needs")
    parser.add_argument("--threads", type=int, default=1, help="of training; default: 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--brisk", action="store_true", help="take a full share of the box: no line runs on it"
    )
    parser.add_argument("--json", action="store_true", help="print the report as one object")


def run_teach(args: argparse.Namespace) -> int:
    """0 when the recipe is in force and observes; nothing is changed otherwise."""
    _check(args)
    status = None if args.brisk else own_session()
    return _teach(args) if status is None else status


def _check(args: argparse.Namespace) -> None:
    if not 0 < args.overkill < 1:
        raise Misuse(f"--overkill {args.overkill:g}; it must lie between 0 and 1")
    for name in ("minutes", "threads", "units", "steps"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise Misuse(f"--{name} {value:g}; it must be above 0")


def _teach(args: argparse.Namespace) -> int:
    from rich.console import Console

    from edge_inspector.training.teach_words import words

    console = Console(stderr=True)
    try:
        taught = _taught(args, console)
    except KeyboardInterrupt:
        console.print("interrupted; run the same again and it goes on where it was")
        raise
    except (MemoryError, RuntimeError) as error:  # torch raises the latter
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        raise Breakage(
            "teaching may use half of the memory that was available, and it does not do; free "
            "some, record fewer units, or give --brisk where no line runs"
        ) from error
    print(json.dumps(taught.document()) if args.json else "\n".join(words(taught)))
    return 0


def _taught(args: argparse.Namespace, console: Console) -> Taught:
    """Record first, with the line's own priority, then teach with what the line leaves."""
    from edge_inspector.cli.teach_progress import Stages
    from edge_inspector.settings import load_settings
    from edge_inspector.studies.record import default_folder
    from edge_inspector.training.teach import Wish, teach
    from edge_inspector.training.teach_gentle import cap_memory, give_way

    settings = load_settings(args.station)
    folder = args.data or default_folder(args.station)
    wish = Wish(
        product=args.product,
        overkill=args.overkill,
        minutes=args.minutes,
        seed=args.seed,
        drop=tuple(args.drop),
        steps=args.steps,
        threads=args.threads,
        line_threads=settings.workers.threads,
        backends=settings.workers.backends,
    )
    with Stages(console) as stages:
        if not _record(args, folder, stages):
            raise KeyboardInterrupt
        if not args.brisk:
            give_way()
            cap_memory()
        return teach(settings.recipe, folder, wish, stages.tell, stages.show)


def _record(args: argparse.Namespace, folder: Path, stages: Stages) -> bool:
    """Record the line until the folder has the units that are asked for; False when stopped."""
    from edge_inspector.studies.record import record_station
    from edge_inspector.studies.recorded import TABLE

    if args.units is None and (args.data is not None or (folder / TABLE).exists()):
        return True
    units = args.units or UNITS
    report = record_station(
        args.station,
        folder,
        units,
        tick=lambda recording: stages.show("recording units", recording.units, units),
    )
    return not report.interrupted
