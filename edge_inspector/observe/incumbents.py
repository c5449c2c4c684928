"""
What the inspection that was there before said of each unit: kept beside the verdict log.

Written by a thread, off the event loop; the queue is bounded, and what does not fit is counted. A
verdict and what the incumbent said of the same unit are put side by side when they are read.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec

from edge_inspector import clock
from edge_inspector.errors import StoreFault
from edge_inspector.records import Baseline, Outcome

NAME = "observed.db"
SCHEMA = """
CREATE TABLE IF NOT EXISTS said(
  unit_key TEXT PRIMARY KEY, outcome TEXT NOT NULL, defect_class TEXT, said_ns INTEGER NOT NULL,
  utc_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS said_when ON said(utc_ns);
CREATE TABLE IF NOT EXISTS confirmed(unit_key TEXT PRIMARY KEY, utc_ns INTEGER NOT NULL) WITHOUT ROWID;
"""
"""`confirmed` holds units that a person found defective."""
QUEUE = 4096
MAX_ROWS = 1_000_000
TRIM_EVERY = 10_000
GATHER_S = 0.05
"""Rows are written together: the disk is the verdict log's first."""
FIRST_UNITS = 100
"""After so many units without a word the incumbent counts as silent."""
_WORSE = """
INSERT INTO said VALUES(?1, ?2, ?3, ?4, ?5) ON CONFLICT(unit_key) DO UPDATE
SET outcome=?2, defect_class=?3, said_ns=?4, utc_ns=?5
WHERE ?2='fail' AND outcome<>'fail' OR ?2='uninspected' AND outcome='pass'
"""
"""Of a unit with several frames the worst counts: fail, then uninspected, then pass."""


class Said(msgspec.Struct, frozen=True):
    """What the incumbent said of a unit; `said_ns` is monotonic, 0 where that is not known."""

    outcome: Outcome
    defect_class: str | None = None
    said_ns: int = 0
    utc_ns: int = 0


class Incumbents:
    """
    The writer, one thread; `say` never blocks.

    `tell(event, detail)` is for the log, from either thread: `incumbents_lost` when rows cannot be
    written, `incumbent_silent` when nothing was said of the first units. The line goes on.
    """

    def __init__(
        self, folder: Path, tell: Callable[[str, str], object] = lambda _, __: None
    ) -> None:
        self.path = folder / NAME
        self.written = 0
        self.said = 0
        self.judged = 0
        self._full = self._lost = 0  # each counted by one thread only
        self._tell = tell
        self._closing = threading.Event()
        self._queue: queue.Queue[tuple[str, Said] | None] = queue.Queue(QUEUE)
        self._thread = threading.Thread(target=self._write_all, name="incumbents", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Verdicts that were not kept."""
        return self._full + self._lost

    def say(self, unit_key: str, said: Baseline, said_ns: int) -> None:
        """Keep what was said of a unit, at this monotonic instant."""
        self.said += 1
        row = Said(said.outcome, said.defect_class, said_ns, clock.utc_ns())
        try:
            self._queue.put_nowait((unit_key, row))
        except queue.Full:
            self._full += 1

    def count(self) -> None:
        """A unit was judged here."""
        self.judged += 1
        if self.judged == FIRST_UNITS and not self.said:
            self._tell(
                "incumbent_silent",
                f"{FIRST_UNITS} units were judged and the incumbent said nothing of any; send the "
                "metadata key `incumbent` or INCUMBENT, set [incumbent], or have `agreement` read "
                "its verdicts from a CSV",
            )

    def close(self) -> None:
        """Write what waits, then let go."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join(timeout=5)
        if self.dropped:
            self._tell(
                "incumbents_lost",
                f"{self.dropped} of {self.said} verdicts of the incumbent were not kept in "
                f"{self.path}: the disk did not follow",
            )

    def _write_all(self) -> None:
        batch = []
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _opened(self.path) as db:
                while batch := self._next():
                    with db:
                        db.executemany(_WORSE, batch)
                    self.written += len(batch)
                    batch, taken = [], len(batch)
                    if self.written % TRIM_EVERY < taken:
                        _trim(db)
        except (apsw.Error, OSError) as error:
            self._tell("incumbents_lost", f"{self.path}: {error}; agreement will miss the rest")
            self._lost += len(batch)
            while self._queue.get() is not None:
                self._lost += 1

    def _next(self) -> list[tuple[str, str, str | None, int, int]]:
        """What waits, at least one row and no more than the queue holds; empty at the end."""
        items = [self._queue.get()]
        if items[0] is not None:
            self._closing.wait(GATHER_S)
        while items[-1] is not None and not self._queue.empty() and len(items) < QUEUE:
            items.append(self._queue.get())
        if items[-1] is None and len(items) > 1:
            self._queue.put(None)
        rows = [item for item in items if item is not None]
        return [
            (key, said.outcome.value, said.defect_class, said.said_ns, said.utc_ns)
            for key, said in rows
        ]


def read_said(folder: Path) -> dict[str, Said]:
    """What the incumbent said, by unit key, also beside a running daemon; empty where it never did."""
    with _reading(folder) as db:
        rows: list[Any] = [] if db is None else db.execute("SELECT * FROM said").fetchall()
    return {key: Said(Outcome(outcome), *rest) for key, outcome, *rest in rows}


def read_confirmed(folder: Path) -> frozenset[str]:
    """Keys of the units that a person found defective."""
    with _reading(folder) as db:
        sql = "SELECT unit_key FROM confirmed"
        rows: list[Any] = [] if db is None else db.execute(sql).fetchall()
    return frozenset(key for (key,) in rows)


def confirm(folder: Path, unit_key: str) -> None:
    """Note that a person found this unit defective; raises `StoreFault`."""
    try:
        with _opened(folder / NAME) as db:
            db.execute("INSERT OR IGNORE INTO confirmed VALUES(?, ?)", (unit_key, clock.utc_ns()))
    except apsw.Error as error:
        raise _fault(folder, error) from error


@contextmanager
def _opened(path: Path) -> Iterator[apsw.Connection]:
    with closing(apsw.Connection(str(path))) as db:
        db.set_busy_timeout(2000)
        db.execute("PRAGMA journal_mode=wal").fetchall()
        db.execute("PRAGMA synchronous=normal")  # no sync of its own beside the verdict log's
        db.execute(SCHEMA)
        yield db


@contextmanager
def _reading(folder: Path) -> Iterator[apsw.Connection | None]:
    if not (folder / NAME).is_file():
        yield None
        return
    try:
        with _opened(folder / NAME) as db:
            yield db
    except apsw.Error as error:
        raise _fault(folder, error) from error


def _trim(db: apsw.Connection) -> None:
    """Keep the newest million."""
    sql = "DELETE FROM said WHERE utc_ns < (SELECT utc_ns FROM said ORDER BY utc_ns DESC LIMIT 1 OFFSET ?)"
    db.execute(sql, (MAX_ROWS,))


def _fault(folder: Path, error: Exception) -> StoreFault:
    return StoreFault(f"{folder / NAME}: {error}; check its disk, or move the file away")
