"""`probe`: what comes from a URI, and a `station.toml` to start from."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import msgspec
from rich.console import Console

from edge_inspector.errors import Misuse
from edge_inspector.studies.probe import probe
from edge_inspector.studies.probe_words import found, missing, station_toml

KINDS = ("zmq-sub", "zmq-pull", "zmq-rep")


def add_probe(parser: argparse.ArgumentParser) -> None:
    """Arguments of `probe`."""
    parser.add_argument(
        "uri", metavar="URI", help="tcp://…, ipc://…, /dev/video0, rtsp://…, a folder"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to listen")
    parser.add_argument("--kind", choices=KINDS, help="ZeroMQ: default is to find it out")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a station.toml there")
    parser.add_argument("--json", action="store_true", help="one object instead of words")


def run_probe(args: argparse.Namespace) -> int:
    """0 when frames came; 3, with the reason in one line, when none did."""
    if args.out is not None and args.out.exists():
        raise Misuse(f"{args.out} exists; remove it, or give another --out")
    cv2.utils.logging.setLogLevel(0)  # OpenCV's own words about a camera that is not there
    console = Console(stderr=True, quiet=args.json or not sys.stderr.isatty())
    with console.status(f"listening to {args.uri} for {args.seconds:g} s"):
        probed = probe(args.uri, args.seconds, args.kind)
    if args.out is not None:
        args.out.write_text(station_toml(probed), encoding="utf-8")
    if args.json:
        facts = msgspec.to_builtins(probed) | {"missing": list(missing(probed))}
        print(msgspec.json.encode(facts).decode())
        return 0
    print("\n".join(found(probed)))
    print("\nWhat is missing before verdicts may move an actuator:")
    print("\n".join(f"  - {line}" for line in missing(probed)) or "  nothing")
    if args.out is not None:
        print(f"\n{args.out} is written; next: edge-inspector record {args.out} --units 300")
    return 0
