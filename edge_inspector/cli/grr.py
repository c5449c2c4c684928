"""`grr`: an attribute agreement study from units that were judged repeatedly."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from edge_inspector.logs import printable
from edge_inspector.page.grr import HEADINGS, SOURCE, counts_text, grr_page, rows, sentence
from edge_inspector.settings import load_settings
from edge_inspector.studies.agreement_rates import Kappa, Rate
from edge_inspector.studies.grr import Judgement, Study, study
from edge_inspector.studies.grr_data import from_csv, from_log, read_reference
from edge_inspector.studies.metrics import rounded
from edge_inspector.studies.since import since_utc_ns


def add_grr(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "judged",
        type=Path,
        nargs="+",
        metavar="STATION|CSV",
        help="station.toml, or a CSV of unit,outcome[,appraiser][,expected]; several are compared",
    )
    parser.add_argument(
        "--reference", type=Path, metavar="CSV", help="unit,expected (pass or fail)"
    )
    parser.add_argument("--since", metavar="TIME", help="1h, 30m, 2d, or 2026-03-31T14:00")
    parser.add_argument("--html", type=Path, metavar="OUT", help="write one self-contained page")
    parser.add_argument("--json", action="store_true", help="print the report as one object")


def run_grr(args: argparse.Namespace) -> int:
    """1 where an appraiser is unacceptable against the reference."""
    since_ns = since_utc_ns(args.since)
    judgements: list[Judgement] = []
    reference = read_reference(args.reference) if args.reference else {}
    for path in args.judged:
        if path.suffix.lower() == ".csv":
            found, expected = from_csv(path)
            reference = expected | reference
        else:
            found = from_log(load_settings(path).store, since_ns)
        judgements += found
    result = study(judgements, reference)
    if args.html is not None:
        args.html.write_text(grr_page(result), encoding="utf-8")
    if args.json:
        print(json.dumps(rounded(_facts(result), 6)))
    else:
        _show(result, args.html)
    grades = {one.against.grade for one in result.appraisers if one.against is not None}
    return 1 if "unacceptable" in grades else 0


def _show(found: Study, page: Path | None) -> None:
    shown = Table(*HEADINGS)
    for row in rows(found):
        shown.add_row(*(printable(str(value)) for value in row))
    Console().print(shown)
    for appraiser in found.appraisers:
        print(printable(sentence(appraiser)))
    for unit, said in found.torn:
        print(printable(f"judged both ways: {unit}: {counts_text(said)}"))
    print(SOURCE)
    if page is not None:
        print(f"{page} shows the same")


def _facts(value: Any) -> Any:
    """Plain dictionaries, rates and kappas with their value and interval."""
    if isinstance(value, (Rate, Kappa)):
        return {**asdict(value), "value": value.value, "bounds": value.bounds}
    if hasattr(value, "__dataclass_fields__"):
        facts = {name: _facts(getattr(value, name)) for name in value.__dataclass_fields__}
        return facts | ({"grade": value.grade} if hasattr(value, "grade") else {})
    if isinstance(value, tuple):
        return [_facts(one) for one in value]
    return value
