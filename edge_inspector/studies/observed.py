"""What a station observed, read: its verdicts, what the other side said of the same units, pictures."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Literal

from edge_inspector import clock
from edge_inspector.errors import DataError, WireError
from edge_inspector.ladder import by_whole
from edge_inspector.observe.incumbents import Said, read_confirmed, read_said
from edge_inspector.outbox import Log
from edge_inspector.outbox.log import NAME
from edge_inspector.recipe import Calibration, Recipe
from edge_inspector.records import RegionVerdict, Verdict
from edge_inspector.settings import Settings
from edge_inspector.studies import audit
from edge_inspector.studies.agreement import JUDGED, Pair
from edge_inspector.studies.rejects import newest_first
from edge_inspector.verdict import scale_key
from edge_inspector.wire.incumbent import read_incumbent
from edge_inspector.wiring import evidence

Other = Literal["incumbent", "rules", "shadow"]
LONGEST_NS = 3600 * 10**9
"""Beyond an hour behind time zero it is another start of the box, whose clock began anew."""
ID_COLUMNS = ("unit_key", "trigger_id", "unit_id")


@dataclass(frozen=True, slots=True)
class Observed:
    """Units judged with the recipe as it is now, and how many were judged with others."""

    pairs: tuple[Pair, ...]
    elsewhere: int


def observe(
    settings: Settings,
    recipe: Recipe,
    *,
    other: Other = "incumbent",
    since_utc_ns: int = 0,
    incumbent: Path | None = None,
) -> Observed:
    """
    Every unit since then with both verdicts, the newest first.

    The incumbent's come from the store, and where a CSV has them, from there.

    Raises `DataError` for a CSV that cannot be read, `StoreFault` for a store that cannot.
    """
    log = audit.rows(settings.store)
    same = audit.family(evidence(settings.recipe, recipe), log)
    said = _Incumbent(read_said(settings.store), read_csv(incumbent) if incumbent else {})
    confirmed = read_confirmed(settings.store)
    pairs: list[Pair] = []
    elsewhere = 0
    for verdict in _newest_first(settings.store, since_utc_ns):
        if verdict.evidence not in same:
            elsewhere += 1
            continue
        theirs = said.of(verdict) if other == "incumbent" else _watched(verdict, other)
        pairs.append(_pair(verdict, theirs, recipe.calibration, confirmed))
    return Observed(tuple(pairs), elsewhere)


def unit_score(verdict: Verdict, calibration: Calibration | None) -> float | None:
    """The unit's score that compares with the recipe's threshold, None where none does."""
    if not by_whole(verdict):
        return None
    scales = calibration.regions if calibration is not None else {}
    scores = (_region_score(region, scales) for region in verdict.regions)
    return max((score for score in scores if score is not None), default=None)


def read_csv(path: Path) -> dict[str, Said]:
    """
    Verdicts by id from a CSV: `unit_key`, `trigger_id` or `unit_id`, and `incumbent` or `outcome`.

    `latency_ms` may stand beside them. Keys are `key:…`, `trigger:…` and `unit:…`.
    """
    found: dict[str, Said] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = set(reader.fieldnames or ())
            _check_columns(path, columns)
            for row in reader:
                for key, said in _row(path, reader.line_num, row):
                    if found.setdefault(key, said).outcome is not said.outcome:
                        raise DataError(
                            f"{path}:{reader.line_num}: {key} is there twice, as "
                            f"{found[key].outcome.value} and {said.outcome.value}; keep one"
                        )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: {error}; give a CSV file in UTF-8") from error
    return found


def find_unit(observed: Observed, wanted: str) -> str:
    """The key of the unit with this key, unit id or trigger id; raises `DataError`."""
    keys = [
        pair.unit_key
        for pair in observed.pairs
        if wanted == pair.unit_key or pair.unit_key.endswith(f"/{wanted}")
    ]
    if len(keys) != 1:
        known = f"is that of {len(keys)} units: {', '.join(keys[:3])}" if keys else "is unknown"
        raise DataError(f"id '{wanted}' {known}; give a unit key as `outbox tail` shows it")
    return keys[0]


def _newest_first(store: Path, since_utc_ns: int) -> Iterator[Verdict]:
    """Back to this instant; nothing where no log is."""
    if not (store / NAME).is_file():
        return
    log = Log(store)
    try:
        yield from takewhile(lambda v: v.settled_utc_ns >= since_utc_ns, newest_first(log))
    finally:
        log.close()


class _Incumbent:
    """What the incumbent said: a CSV beats what came live."""

    def __init__(self, live: Mapping[str, Said], told: Mapping[str, Said]) -> None:
        self._live = live
        self._told = told
        self._used: dict[str, str] = {}

    def of(self, verdict: Verdict) -> Said | None:
        keys = [f"key:{verdict.unit_key}"]
        keys += [f"trigger:{verdict.trigger_id}"] if verdict.trigger_id is not None else []
        keys += [f"unit:{verdict.unit_id}"] if verdict.unit_id is not None else []
        key = next((key for key in keys if key in self._told), None)
        if key is None:
            return self._live.get(verdict.unit_key)
        if self._used.setdefault(key, verdict.unit_key) != verdict.unit_key:
            raise DataError(
                f"the CSV's {key} is that of two units, {self._used[key]} and {verdict.unit_key}; "
                "give a column unit_key, or --since"
            )
        return self._told[key]


def _pair(
    verdict: Verdict, said: Said | None, calibration: Calibration | None, confirmed: Collection[str]
) -> Pair:
    since_ns = said.said_ns - verdict.time_zero_ns if said is not None and said.said_ns else -1
    return Pair(
        unit_key=verdict.unit_key,
        vseq=verdict.vseq,
        settled_utc_ns=verdict.settled_utc_ns,
        ours=verdict.outcome,
        our_class=verdict.defect_class,
        detail=verdict.detail,
        our_ms=verdict.latency_us / 1000,
        score=unit_score(verdict, calibration) if verdict.outcome in JUDGED else None,
        theirs=said.outcome if said is not None else None,
        their_class=said.defect_class if said is not None else None,
        their_ms=since_ns / clock.NS_PER_MS if 0 <= since_ns < LONGEST_NS else None,
        confirmed=verdict.unit_key in confirmed,
    )


def _watched(verdict: Verdict, other: Other) -> Said | None:
    seen = verdict.shadow if other == "shadow" else verdict.baseline
    return None if seen is None else Said(seen.outcome, seen.defect_class)


def _region_score(region: RegionVerdict, scales: Mapping[str, object]) -> float | None:
    by_engine, by_rules = region.name in scales, scale_key(region.name, "rules") in scales
    if by_engine and not by_rules and region.engine_score is not None:
        return region.engine_score
    return region.score if by_engine or by_rules else None


def _check_columns(path: Path, columns: set[str]) -> None:
    if not columns & set(ID_COLUMNS) or not columns & {"incumbent", "outcome"}:
        raise DataError(
            f"{path}: columns {', '.join(sorted(columns)) or 'none'}; it needs one of "
            f"{', '.join(ID_COLUMNS)} and 'incumbent' or 'outcome' (pass, fail, fail:CLASS)"
        )


def _row(path: Path, line: int, row: Mapping[str, str | None]) -> Iterator[tuple[str, Said]]:
    text = (row.get("incumbent") or row.get("outcome") or "").strip()
    if not text:
        return
    try:
        said = read_incumbent(text)
    except WireError as error:
        raise DataError(f"{path}:{line}: {error}") from error
    for column, kind in zip(ID_COLUMNS, ("key", "trigger", "unit"), strict=True):
        if value := (row.get(column) or "").strip():
            yield f"{kind}:{value}", Said(said.outcome, said.defect_class)
