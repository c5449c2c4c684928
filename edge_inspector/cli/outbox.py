"""`edge-inspector outbox`: the verdict log, also while a daemon writes it."""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import track

from edge_inspector import clock
from edge_inspector.errors import BackendMissing, Misuse
from edge_inspector.outbox import Log
from edge_inspector.records import Committed
from edge_inspector.settings import load_settings

COLUMNS = (
    "vseq",
    "settled_utc",
    "unit_key",
    "outcome",
    "reason",
    "defect_class",
    "anomaly_score",
    "threshold",
    "recipe",
    "recipe_version",
    "engine",
    "advisory",
    "detail",
    "unit_id",
    "trigger_id",
    "serial",
    "lot",
)
TYPES = {
    "vseq": int,
    "trigger_id": int,
    "anomaly_score": float,
    "threshold": float,
    "recipe_version": int,
    "advisory": bool,
}
"""Columns that are no text."""
BATCH = 500
PARQUET_ROWS = 10_000


def add_outbox(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    verbs = parser.add_subparsers(dest="what", required=True, metavar="tail|export|verify")
    tail = verbs.add_parser("tail", help="print the newest verdicts, a line each")
    tail.add_argument("-n", "--lines", type=int, default=10)
    tail.add_argument("-f", "--follow", action="store_true", help="go on with new ones")
    tail.add_argument("--json", action="store_true", help="JSON lines")
    export = verbs.add_parser("export", help="write every verdict as a row")
    target = export.add_mutually_exclusive_group(required=True)
    target.add_argument("--csv", type=Path, metavar="OUT", help="'-' for stdout")
    target.add_argument("--parquet", type=Path, metavar="OUT", help="needs the package pyarrow")
    export.add_argument("--from-vseq", type=int, default=1)
    verify = verbs.add_parser("verify", help="check numbers, chain and bodies of the whole log")
    verify.add_argument("--json", action="store_true")
    for verb in (tail, export, verify):
        verb.add_argument("store", type=Path, help="station.toml, or the folder of its store")


def run_outbox(args: argparse.Namespace) -> int:
    """Read the log; 1 when `verify` finds something."""
    log = Log(_folder(args.store))
    try:
        if args.what == "tail":
            return _tail(log, args)
        return _export(log, args) if args.what == "export" else _verify(log, args)
    except KeyboardInterrupt:
        return 0
    finally:
        log.close()


def _folder(path: Path) -> Path:
    if path.is_dir():
        return path
    if not path.is_file():
        raise Misuse(f"{path} is not there; give a station.toml or the folder of its store")
    return load_settings(path).store


def _rows(log: Log, vseq: int) -> Iterator[Committed]:
    while rows := log.read(vseq, BATCH):
        yield from rows
        vseq = rows[-1].vseq + 1


def _tail(log: Log, args: argparse.Namespace) -> int:
    vseq = max(1, log.head() - args.lines + 1)
    while True:
        for row in _rows(log, vseq):
            vseq = row.vseq + 1
            print(_json(row) if args.json else _line(row), flush=args.follow)
        if not args.follow:
            return 0
        time.sleep(0.1)


def _line(row: Committed) -> str:
    verdict = row.verdict
    code = (verdict.reason or verdict.outcome).value
    score = "" if verdict.anomaly_score is None else f"{verdict.anomaly_score:.3f}"
    found = verdict.defect_class or verdict.detail
    settled = clock.utc_text(verdict.settled_utc_ns)
    return f"{row.vseq:>8} {settled} {code:<12} {score:>8} {verdict.unit_key} {found}".rstrip()


def _json(row: Committed) -> str:
    fields = {"vseq": row.vseq, "chain": row.chain, **msgspec.to_builtins(row.verdict)}
    return msgspec.json.encode(fields).decode()


def _cells(row: Committed) -> list[object]:
    verdict = msgspec.to_builtins(row.verdict)
    settled = clock.utc_text(row.verdict.settled_utc_ns)
    return [row.vseq, settled, *(verdict[column] for column in COLUMNS[2:])]


def _export(log: Log, args: argparse.Namespace) -> int:
    rows = _rows(log, args.from_vseq)
    if str(args.csv) == "-":
        writer = csv.writer(sys.stdout)
        writer.writerow(COLUMNS)
        writer.writerows(_cells(row) for row in rows)
        return 0
    total = max(0, log.head() - args.from_vseq + 1)
    console = Console(stderr=True)
    shown = track(rows, "exporting", total=total, console=console, disable=not console.is_terminal)
    if args.parquet is not None:
        _write_parquet(args.parquet, iter(shown))
        return 0
    with args.csv.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(_cells(row) for row in shown)
    return 0


def _write_parquet(path: Path, rows: Iterator[Committed]) -> None:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise BackendMissing(
            "Parquet needs the package 'pyarrow', which is not installed; "
            "pip install 'edge-inspector[parquet]', or export --csv"
        ) from None
    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    schema = pa.schema([(name, kinds[TYPES.get(name, str)]) for name in COLUMNS])
    with parquet.ParquetWriter(path, schema) as writer:
        while group := list(itertools.islice(rows, PARQUET_ROWS)):
            cells = [dict(zip(COLUMNS, _cells(row), strict=True)) for row in group]
            writer.write_table(pa.Table.from_pylist(cells, schema=schema))


def _verify(log: Log, args: argparse.Namespace) -> int:
    found = log.verify()
    if args.json:
        print(msgspec.json.encode(found).decode())
    else:
        print(f"{found.rows} verdicts up to vseq {found.head}, {len(found.problems)} problems")
        for problem in found.problems:
            print(f"  {problem}")
    return 1 if found.problems else 0
