"""`rejects`: what a station did not pass, where and why; as lines, JSON or one page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec

from edge_inspector import clock
from edge_inspector.errors import Misuse
from edge_inspector.logs import printable
from edge_inspector.outbox import Log
from edge_inspector.page.rejects import (
    class_text,
    name_of,
    outcome_of,
    place_text,
    rejects_page,
    size_text,
)
from edge_inspector.recipe import load_recipe
from edge_inspector.settings import load_settings
from edge_inspector.studies.rejects import Reject, Rejects, find_rejects
from edge_inspector.studies.since import since_utc_ns

DAY = "1d"


def add_rejects(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("station", type=Path, help="station.toml")
    parser.add_argument(
        "--since",
        metavar="TIME",
        help="1h, 30m, 2d, or 2026-03-31T14:00; default: 1d, with --unit the whole log",
    )
    parser.add_argument("--unit", metavar="ID", help="unit id, serial, trigger id or unit key")
    parser.add_argument("--limit", type=int, default=200, help="the newest so many; default: 200")
    parser.add_argument("--html", type=Path, metavar="OUT", help="write one self-contained page")
    parser.add_argument("--json", action="store_true", help="print the report as one object")


def run_rejects(args: argparse.Namespace) -> int:
    """Look through the log, also while a daemon writes it."""
    if args.limit < 1:
        raise Misuse(f"--limit {args.limit}; it must be at least 1")
    since_ns = since_utc_ns(args.since or (None if args.unit else DAY))
    settings = load_settings(args.station)
    log = Log(settings.store)
    try:
        found = find_rejects(
            log,
            load_recipe(settings.recipe),
            settings.station,
            settings.archive.path if settings.archive else None,
            since_utc_ns=since_ns,
            unit=args.unit,
            limit=args.limit,
        )
    finally:
        log.close()
    if args.unit is not None and not found.units:
        raise Misuse(f"the log has no verdict of a unit '{args.unit}' in that time")
    if args.html is not None:
        since = f"Since {clock.utc_text(since_ns)}" if since_ns else "In the whole log"
        args.html.write_text(rejects_page(found, since), encoding="utf-8")
    if args.json:
        print(msgspec.json.encode(_facts(found)).decode())
    else:
        _show(found, args.html)
    return 0


def _show(found: Rejects, page: Path | None) -> None:
    for reject in found.shown:
        when = clock.utc_text(reject.verdict.settled_utc_ns)
        detail = reject.verdict.detail
        print(printable(f"{when}  {name_of(reject)}  {outcome_of(reject)}  {detail}".rstrip()))
        for place in reject.places:
            where = f"{place_text(place)}  {size_text(place)}".strip()
            print(printable(f"    {place.region}: {class_text(place)}  {where}".rstrip()))
        for picture in reject.pictures:
            print(f"    {picture}")
    causes = ", ".join(f"{cause} {count}" for cause, count in found.causes)
    print(f"{found.rejected} of {found.units} units were not passed{causes and ': '}{causes}")
    if page is not None:
        print(f"{page} shows {len(found.shown)} of them")


def _facts(found: Rejects) -> dict[str, Any]:
    return {
        "station": found.station,
        "units": found.units,
        "rejected": found.rejected,
        "causes": dict(found.causes),
        "rejects": [_reject(reject) for reject in found.shown],
    }


def _reject(reject: Reject) -> dict[str, Any]:
    verdict = reject.verdict
    names = "vseq unit_key unit_id trigger_id serial outcome reason defect_class degraded detail"
    numbers = "anomaly_score threshold latency_us deadline_met recipe recipe_version engine"
    return {
        **{name: getattr(verdict, name) for name in (names + " " + numbers).split()},
        "settled_utc": clock.utc_text(verdict.settled_utc_ns),
        "regions": [msgspec.to_builtins(place) for place in reject.places],
        "pictures": [str(path) for path in reject.pictures],
    }
