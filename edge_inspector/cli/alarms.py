"""`edge-inspector alarms`: which alarms hold, what was before, and the reset."""

from __future__ import annotations

import argparse
import getpass
from pathlib import Path

import msgspec

from edge_inspector import clock
from edge_inspector.alarms import NAME, Raised, Reset, append, holding, read_from
from edge_inspector.errors import Misuse
from edge_inspector.outbox import Log
from edge_inspector.settings import load_settings

MAX_NAME = 64


def add_alarms(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("station", type=Path, metavar="STATION", help="station.toml")
    parser.add_argument("--reset", action="store_true", help="end the alarms that hold now")
    parser.add_argument("--by", metavar="NAME", help="who resets, for the audit; default: the user")
    parser.add_argument("--json", action="store_true", help="JSON lines, what holds flagged")


def run_alarms(args: argparse.Namespace) -> int:
    """0 where nothing holds, or what held was reset; 1 where an alarm holds."""
    folder = load_settings(args.station).store
    lines, _ = read_from(folder / NAME, 0)
    held, _ = holding(lines)
    for line in lines:
        _tell(line, line in held, as_json=args.json)
    if not args.reset:
        if not args.json:
            print(f"{len(held)} alarms hold" if held else "no alarm holds")
        return 1 if held else 0
    if not held:
        raise Misuse(f"no alarm of {args.station} holds; there is nothing to reset")
    by = args.by or getpass.getuser()
    if not by.isprintable() or len(by) > MAX_NAME:
        raise Misuse(f"--by of {len(by)} characters; 1 to {MAX_NAME} printable ones are taken")
    reset = Reset(by, max(_head(folder), *(alarm.vseq for alarm in held)), clock.utc_ns())
    append(folder / NAME, reset)
    _tell(reset, False, as_json=args.json)
    return 0


def _head(folder: Path) -> int:
    log = Log(folder)
    try:
        return log.head()
    finally:
        log.close()


def _tell(line: Raised | Reset, holds: bool, *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode({**msgspec.to_builtins(line), "holds": holds}).decode())
    elif isinstance(line, Reset):
        print(f"{clock.utc_text(line.utc_ns)} reset by {line.by}, up to vseq {line.vseq}")
    else:
        mark = "HOLDS" if holds else "over"
        when = clock.utc_text(line.utc_ns)
        print(f"{when} {line.action:<5} {mark:<5} {line.text} (vseq {line.vseq})")
