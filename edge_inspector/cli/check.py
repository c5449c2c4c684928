"""`check`: what is wrong with a station, and the values it would run with."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_inspector.logs import printable
from edge_inspector.recipe import load_recipe
from edge_inspector.settings import load_settings, origins
from edge_inspector.studies.check import findings
from edge_inspector.studies.findings import Finding, Station

COLOURS = {"OK": "green", "WARN": "yellow", "FAIL": "bold red"}


def add_check(parser: argparse.ArgumentParser) -> None:
    """Arguments of `check`."""
    parser.add_argument("station", type=Path, metavar="STATION", help="station.toml")
    parser.add_argument("--json", action="store_true", help="one object instead of tables")


def run_check(args: argparse.Namespace) -> int:
    """0 when nothing fails, 1 when something does; a document that cannot be read raises."""
    settings = load_settings(args.station)
    station = Station(settings, load_recipe(settings.recipe))
    values = effective(settings.model_dump(mode="json"), origins(args.station))
    console = Console(quiet=args.json)
    with console.status("checking the station against this box"):
        found = list(findings(station))
    failed = any(finding.level == "FAIL" for finding in found)
    if args.json:
        report = {"ok": not failed, "findings": [asdict(f) for f in found], "values": values}
        print(json.dumps(report, indent=2))
    else:
        _show(console, values, found)
    return 1 if failed else 0


def effective(settings: dict[str, Any], came_from: dict[str, str]) -> list[dict[str, Any]]:
    """Each dotted key with its value and where that came from."""
    rows = []
    for key, origin in came_from.items():
        value: Any = settings
        for part in key.split("."):
            value = value[part]
        rows.append({"key": key, "value": value, "from": origin})
    return rows


def _show(console: Console, values: list[dict[str, Any]], found: list[Finding]) -> None:
    table = Table("key", "value", "from", title="Effective values", title_justify="left")
    report = Table("", "what", "found", title="Findings", title_justify="left")
    for last in (table.columns[1], report.columns[2]):
        last.overflow = "fold"
    for row in values:
        shown = json.dumps(row["value"], ensure_ascii=False)
        table.add_row(row["key"], escape(printable(shown)), row["from"])
    for finding in found:
        level = f"[{COLOURS[finding.level]}]{finding.level}[/]"
        report.add_row(level, escape(finding.subject), escape(printable(finding.detail)))
    console.print(table, report)
