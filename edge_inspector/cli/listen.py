"""
`listen`: verdicts, one a line; telemetry for whoever watches, or as the reference line controller.

With `--consumer` it speaks the ASSURED tier: nothing is missed, what this consumer held is
remembered, and each line says whether the gate may open by the consumer rule.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from edge_inspector import clock
from edge_inspector.client import Delivered, Listener, VerdictConsumer
from edge_inspector.errors import Misuse
from edge_inspector.records import UNNAMED, Outcome
from edge_inspector.wire.telemetry import VerdictNote


def add_listen(parser: argparse.ArgumentParser) -> None:
    """Arguments of `listen`."""
    parser.add_argument(
        "uri",
        help="a daemon's telemetry, tcp://127.0.0.1:5572, or with --consumer its verdicts, :5571",
    )
    parser.add_argument("--consumer", metavar="NAME", help="as line controller of this name")
    parser.add_argument(
        "--from",
        dest="start",
        default="0",
        metavar="VSEQ",
        help="0: behind the last one held; live",
    )
    parser.add_argument("--strict", action="store_true", help="in strict order, older ones first")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--count", type=int, help="leave after so many verdicts")
    parser.add_argument("--seconds", type=float, help="leave after so long")
    parser.add_argument("--station", help="only this station's verdicts")


def run_listen(args: argparse.Namespace) -> int:
    """0 when the verdicts asked for came whole, 1 when some were missed or did not come."""
    if args.count is not None and args.count < 1:
        raise Misuse(f"--count {args.count}; 1 or more")
    return _control(args) if args.consumer else _watch(args)


def _watch(args: argparse.Namespace) -> int:
    heard = dropped = 0
    with Listener(args.uri, station=args.station) as verdicts:
        for verdict in _until(verdicts, args.seconds):
            if verdicts.dropped > dropped:
                missed, dropped = verdicts.dropped - dropped, verdicts.dropped
                print(f"{missed} verdicts missed before #{verdict.vseq}", file=sys.stderr)
            print(_json(verdict) if args.json else sentence(verdict), flush=True)
            heard += 1
            if heard == args.count:
                break
    return 1 if dropped or heard < (args.count or 0) else 0


def _control(args: argparse.Namespace) -> int:
    if args.start != "live" and not args.start.isdigit():
        raise Misuse(f"--from {args.start}; a number, or 'live'")
    start: Any = "live" if args.start == "live" else int(args.start)
    heard = 0
    give_up_ns = clock.now_ns() + int((args.seconds or 1e9) * 1e9)
    with VerdictConsumer(
        args.uri,
        consumer=args.consumer,
        station=args.station,
        start=start,
        lanes=1 if args.strict else 2,
    ) as verdicts:
        while heard != args.count and clock.now_ns() < give_up_ns:
            delivered = verdicts.receive(timeout_ms=100)
            if delivered is not None:
                heard += 1
                why = verdicts.why_not(delivered, unit_key=delivered.verdict.unit_key)
                print(_told(delivered, why, as_json=args.json), flush=True)
        lost = verdicts.counts.lost
    if lost:
        print(f"{lost} verdicts were gone from the daemon's log", file=sys.stderr)
    return 1 if lost or heard < (args.count or 0) else 0


def _told(delivered: Delivered, why: str, *, as_json: bool) -> str:
    verdict = delivered.verdict
    if as_json:
        facts = {
            "acts": not why,
            "why_not": why,
            "historical": delivered.historical,
            "received_mono_ns": delivered.received_ns,
        }
        return msgspec.json.encode({**msgspec.to_builtins(verdict), **facts}).decode()
    what = verdict.outcome.value if verdict.reason is None else verdict.reason.value
    gate = "gate opens" if not why else f"gate stays shut: {why}"
    unit = verdict.unit_id or verdict.unit_key
    return f"#{verdict.vseq} {unit} {what} {verdict.latency_us / 1000:.1f} ms  {gate}"


def _until(verdicts: Listener, seconds: float | None) -> Iterator[VerdictNote]:
    if seconds is None:
        yield from verdicts
        return
    give_up_ns = clock.now_ns() + int(seconds * 1e9)
    while (left_ns := give_up_ns - clock.now_ns()) > 0:
        verdict = verdicts.receive(timeout_ms=left_ns // clock.NS_PER_MS + 1)
        if verdict is not None:
            yield verdict


def sentence(verdict: VerdictNote) -> str:
    """One verdict for a person."""
    what = verdict.outcome.value
    if verdict.outcome is Outcome.FAIL:
        what += f"({verdict.defect_class or UNNAMED})"
    elif verdict.reason is not None:
        what += f"({verdict.reason.value})"
    score = "" if verdict.anomaly_score is None else f" score {verdict.anomaly_score:.3g}"
    if score and verdict.threshold is not None:
        score += f"/{verdict.threshold:.3g}"
    late = "" if verdict.deadline_met else " late"
    advisory = " advisory" if verdict.advisory else ""
    unit = verdict.unit_id or verdict.unit_key
    return (
        f"#{verdict.vseq} {unit} {what}{score} {verdict.latency_us / 1000:.1f} ms{late}{advisory}"
        + (f"  {verdict.detail}" if verdict.detail else "")
    )


def _json(verdict: VerdictNote) -> str:
    return msgspec.json.encode(verdict).decode()
