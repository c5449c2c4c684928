"""`run`: the daemon."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_inspector import logs, wiring
from edge_inspector.daemon import EXIT_STORE_FAULT
from edge_inspector.errors import Misuse, StoreFault
from edge_inspector.settings import load_settings

EXIT_REFUSED = 78
"""A supervisor must not start it again before somebody mended its documents."""


def add_run(parser: argparse.ArgumentParser) -> None:
    """Arguments of `run`."""
    parser.add_argument("station", type=Path, help="station.toml")
    parser.add_argument("--observe", action="store_true", help="judge everything and drive nothing")


def run_run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C; 78 when the documents are refused, 74 on a store fault."""
    try:
        logs.configure(load_settings(args.station).log_level, json=True)
        return wiring.run_station(args.station, {"observe": True} if args.observe else None)
    except Misuse as error:
        print(f"edge-inspector: {error}", file=sys.stderr)
        return EXIT_REFUSED
    except StoreFault as error:
        print(f"edge-inspector: {error}", file=sys.stderr)
        return EXIT_STORE_FAULT
