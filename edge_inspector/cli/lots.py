"""`edge-inspector lots`: how the units of each lot came out, and where the next one begins."""

from __future__ import annotations

import argparse
import getpass
import re
from contextlib import closing
from pathlib import Path

import msgspec

from edge_inspector import clock
from edge_inspector.errors import Misuse
from edge_inspector.lots import Lot, LotBook
from edge_inspector.outbox import Log
from edge_inspector.settings import load_settings

NAME = r"[A-Za-z0-9_.\-]{1,64}"


def add_lots(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("station", type=Path, metavar="STATION", help="station.toml")
    parser.add_argument(
        "--begin", metavar="LOT", help="units triggered from now on are of this lot"
    )
    parser.add_argument("--by", metavar="NAME", help="who begins it; default: the user")
    parser.add_argument("--json", action="store_true", help="JSON lines, a lot each")


def run_lots(args: argparse.Namespace) -> int:
    """Begin a lot, or show them all."""
    store = load_settings(args.station).store
    with closing(Log(store)) as log, closing(LotBook(store)) as book:
        if args.begin is not None:
            if not re.fullmatch(NAME, args.begin):
                raise Misuse(f"lot '{args.begin}'; 1 to 64 of A-Z a-z 0-9 _ . - name one")
            book.begin(args.begin, args.by or getpass.getuser())
            return 0
        lots, waiting = book.lots(), log.head() - book.seen()
    for lot in lots:
        print(msgspec.json.encode(lot).decode() if args.json else _line(lot))
    if waiting > 0 and not args.json:
        print(f"{waiting} verdicts are not counted yet; a running daemon does it within a second")
    return 0


def _line(lot: Lot) -> str:
    named = "named by its frames" if lot.lot else "of no lot"
    began = f"begun {clock.utc_text(lot.began_utc_ns)} by {lot.by}" if lot.began_utc_ns else named
    kinds = ", ".join(
        f"{units} {kind}" for kind, units in sorted({**lot.failed, **lot.uninspected}.items())
    )
    share = f"{lot.passed / lot.units:.2%}" if lot.units else "-"
    return (
        f"{lot.lot or '(none)'}: {lot.units} units, {lot.passed} passed ({share}), "
        f"{sum(lot.failed.values())} failed, {sum(lot.uninspected.values())} uninspected"
        f"{f' [{kinds}]' if kinds else ''}; {began}"
    )
