"""Repeated judgements: from the verdict log of a station, or from a CSV of anybody's."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from edge_inspector.errors import DataError
from edge_inspector.ladder import by_whole
from edge_inspector.outbox import Log
from edge_inspector.records import Outcome, Verdict
from edge_inspector.studies.grr import Judgement
from edge_inspector.studies.rejects import newest_first

REPEAT = re.compile(r"#\d+$")
"""`U12#2` is unit U12 again, as folders that are played over and over name it."""
WORDS = {"pass": True, "good": True, "normal": True, "fail": False}


def from_log(store: Path, since_utc_ns: int) -> list[Judgement]:
    """
    Judgements on named units, oldest first; by serial, else by unit id without its `#N`.

    Raises `StoreFault` where there is no log.
    """
    log = Log(store)
    try:
        found = []
        for verdict in newest_first(log):
            if verdict.settled_utc_ns < since_utc_ns:
                break
            if name := verdict.serial or REPEAT.sub("", verdict.unit_id or ""):
                found.append(_judgement(verdict, name))
    finally:
        log.close()
    return found[::-1]


def _judgement(verdict: Verdict, name: str) -> Judgement:
    appraiser = f"{verdict.station}, recipe version {verdict.recipe_version}"
    score = verdict.anomaly_score if by_whole(verdict) else None
    return Judgement(name, appraiser, verdict.outcome, score)


def from_csv(path: Path) -> tuple[list[Judgement], dict[str, bool]]:
    """
    Rows of `unit,outcome[,appraiser][,expected]`: judgements, and which units are good.

    Raises `DataError`.
    """
    judgements: list[Judgement] = []
    reference: dict[str, bool] = {}
    for place, row in _rows(path, {"unit", "outcome"}):
        outcome = (row["outcome"] or "").partition(":")[0]
        if outcome not in {one.value for one in Outcome}:
            raise DataError(f"{place}: outcome '{outcome}'; give pass, fail or uninspected")
        unit = row["unit"] or ""
        judgements.append(Judgement(unit, row.get("appraiser") or path.stem, Outcome(outcome)))
        if row.get("expected"):
            _expect(reference, unit, row["expected"] or "", place)
    return judgements, reference


def read_reference(path: Path) -> dict[str, bool]:
    """Rows of `unit,expected`, where expected is pass or fail; raises `DataError`."""
    reference: dict[str, bool] = {}
    for place, row in _rows(path, {"unit", "expected"}):
        _expect(reference, row["unit"] or "", row["expected"] or "", place)
    return reference


def _expect(reference: dict[str, bool], unit: str, text: str, place: str) -> None:
    word = text.partition(":")[0]
    if word not in WORDS:
        raise DataError(f"{place}: expected '{text}'; give pass or fail")
    if reference.setdefault(unit, WORDS[word]) != WORDS[word]:
        raise DataError(f"{place}: unit '{unit}' was expected otherwise above")


def _rows(path: Path, needed: set[str]) -> Iterator[tuple[str, Mapping[str, str | None]]]:
    """Each row with its place in the file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if absent := needed - set(rows.fieldnames or ()):
                raise DataError(f"{path}: the header lacks {', '.join(sorted(absent))}")
            for row in rows:
                place = f"{path}:{rows.line_num}"
                if not row["unit"]:
                    raise DataError(f"{place}: unit must not be empty")
                yield place, row
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is no CSV file in UTF-8: {error}") from error
