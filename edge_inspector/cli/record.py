"""`record`: frames of a station, with ids, times and the incumbent's verdicts, into a folder."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import Progress

from edge_inspector.studies.record import PATIENCE_S, QUOTA_GIB, default_folder, record_station
from edge_inspector.studies.record_taking import Report
from edge_inspector.studies.recorded import Recording, read_recorded

EXIT_INTERRUPTED = 130
NICENESS = 10
"""The line's own processes go first."""


def add_record(parser: argparse.ArgumentParser) -> None:
    """Arguments of `record`."""
    parser.add_argument("station", type=Path, metavar="STATION", help="station.toml")
    parser.add_argument(
        "--units", type=int, required=True, help="with those that are there already"
    )
    parser.add_argument("--out", type=Path, help="default: 'recorded' beside the station's file")
    parser.add_argument("--quota-gib", type=float, default=QUOTA_GIB, metavar="GIB")
    parser.add_argument(
        "--patience", type=float, default=PATIENCE_S, metavar="S", help="without any frame"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="one object instead of words")


def run_record(args: argparse.Namespace) -> int:
    """0 when all units are there, 130 when it was interrupted; run it again to go on."""
    os.nice(NICENESS)
    out = args.out or default_folder(args.station)
    console = Console(stderr=True, quiet=args.quiet or not sys.stderr.isatty())
    with Progress(console=console, disable=console.quiet) as progress:
        task = progress.add_task("units", total=args.units)

        def tick(recording: Recording) -> None:
            progress.update(task, completed=recording.units)

        report = record_station(
            args.station,
            out,
            args.units,
            quota_gib=args.quota_gib,
            patience_s=args.patience,
            tick=tick,
        )
    if args.json:
        print(msgspec.json.encode(report, enc_hook=str).decode())
    else:
        print("\n".join(words(report)))
    return EXIT_INTERRUPTED if report.interrupted else 0


def words(report: Report) -> list[str]:
    """What came of it, a sentence a line."""
    how = "copies from the running daemon" if report.beside_daemon else "from the sources"
    said = [f"{report.units} units, {report.frames} frames in {report.folder} ({how})"]
    verdicts = Counter(
        frame.incumbent.outcome.value if frame.incumbent else "none"
        for frame in read_recorded(report.folder)
    )
    if verdicts.keys() - {"none"}:
        told = ", ".join(f"{count} {name}" for name, count in sorted(verdicts.items()))
        said.append(f"the incumbent's verdicts: {told}")
    if report.counts:
        told = ", ".join(f"{count} {name}" for name, count in sorted(report.counts.items()))
        said.append(f"not recorded: {told}")
    if report.interrupted:
        said.append("interrupted; run the same command again to go on")
    return said
