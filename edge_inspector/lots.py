"""
Lots: which units were made and traced together, and how their verdicts came out.

`lots.db` in the store's folder is counted beside the log, each verdict once: the number up to which
it was counted is written with the counts. A unit is of the lot that its frames name, else of the one
that was begun last before its time zero, by UTC. Counts outlive the verdicts that retention takes.
"""

from __future__ import annotations

import bisect
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import apsw
import msgspec
import structlog

from edge_inspector import clock
from edge_inspector.errors import StoreFault
from edge_inspector.outbox import Log
from edge_inspector.outbox.log import connect, fault
from edge_inspector.records import UNNAMED, Committed, Outcome, Reason

NAME = "lots.db"
SCHEMA = """
CREATE TABLE IF NOT EXISTS began(utc_ns INTEGER NOT NULL, lot TEXT NOT NULL, by TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tally(
  lot TEXT, outcome TEXT, kind TEXT, units INTEGER NOT NULL, PRIMARY KEY(lot, outcome, kind)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen(vseq INTEGER NOT NULL);
INSERT INTO seen SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM seen);
"""
PAGE = 500
TURN_S = 0.5
PAUSE_S = 0.005
"""Between pages, so that a long log which was never counted does not hold up core."""


class _Facts(msgspec.Struct, frozen=True):
    outcome: Outcome
    reason: Reason | None = None
    defect_class: str | None = None
    settled_utc_ns: int = 0
    latency_us: int = 0
    lot: str = ""


class Lot(msgspec.Struct, frozen=True, kw_only=True):
    """
    One lot: units by outcome, rejects by defect class or by reason, `unknown` where none is named.

    Units of no lot are of the one without a name. One that was only named by frames began at 0.
    """

    lot: str
    began_utc_ns: int
    by: str = ""
    units: int = 0
    passed: int = 0
    failed: dict[str, int] = msgspec.field(default_factory=dict)
    uninspected: dict[str, int] = msgspec.field(default_factory=dict)


_FACTS = msgspec.msgpack.Decoder(_Facts)
_DAMAGED = _Facts(outcome=Outcome.UNINSPECTED, reason=Reason.STORE_FAULT)


class LotBook:
    """
    The counts of one store; raises `StoreFault` where they cannot be read or written.

    Counts that a power cut takes are counted again, so who only counts need not be `durable`.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self._path = folder / NAME
        with self._mended():
            self._db = connect(self._path, writable=True)
            self._db.execute(SCHEMA if durable else SCHEMA + "PRAGMA synchronous=1;")

    def begin(self, lot: str, by: str) -> None:
        """Units whose time zero is from now on are of this lot."""
        with self._writing():
            self._db.execute("INSERT INTO began VALUES(?,?,?)", (clock.utc_ns(), lot, by))

    def count(self, log: Log) -> int:
        """Count the next page of the log; how many verdicts that were, 0 at its end."""
        seen, head = self.seen(), log.head()
        rows = log.rows(seen + 1 if seen <= head else 1, PAGE)  # or the log began anew
        if not rows:
            return 0
        with self._writing():
            if self.seen() != seen:
                return PAGE  # another process counted these
            began = self._began()
            tally = Counter(_key(_facts(body), began) for _, body, _ in rows)
            self._db.executemany(
                "INSERT INTO tally VALUES(?,?,?,?) "
                "ON CONFLICT DO UPDATE SET units=units+excluded.units",
                [(*key, units) for key, units in tally.items()],
            )
            self._db.execute("UPDATE seen SET vseq=?", (rows[-1][0],))
            return len(rows)

    def seen(self) -> int:
        """The verdict up to which was counted."""
        with self._mended():
            return int(self._db.execute("SELECT vseq FROM seen").get)

    def lots(self) -> list[Lot]:
        """Every lot, in the order in which they were begun first, those that were not by name."""
        with self._mended():
            firsts: dict[str, tuple[int, str]] = {"": (0, "")}
            for utc_ns, lot, by in self._db.execute("SELECT * FROM began ORDER BY utc_ns"):
                firsts.setdefault(lot, (utc_ns, by))
            cells = list(self._db.execute("SELECT lot, outcome, kind, units FROM tally"))
            firsts = {**dict.fromkeys((cell[0] for cell in cells), (0, "")), **firsts}
        in_order = sorted(firsts.items(), key=lambda one: (one[1][0], one[0]))
        found = [_lot(lot, *first, cells) for lot, first in in_order]
        return [lot for lot in found if lot.lot or lot.units]

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _began(self) -> list[tuple[int, str]]:
        return list(self._db.execute("SELECT utc_ns, lot FROM began ORDER BY utc_ns"))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction, so that a lot and what is counted never cross."""
        with self._mended():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    @contextmanager
    def _mended(self) -> Iterator[None]:
        try:
            yield
        except apsw.Error as error:
            raise fault(self._path, error) from error


class LotSink:
    """Counts the lots of a running station, as a sink among others that needs no verdict told."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="lots", daemon=True)
        self._mute = False
        self._open = ExitStack()
        self._counts: Callable[[], int] | None = None
        self._log = structlog.get_logger("edge_inspector")

    def open(self) -> None:
        """Begin; the log is there by now."""
        self._thread.start()

    def publish(self, row: Committed) -> None:
        """Nothing: it is read from the log."""

    def publish_state(self, head_vseq: int, state: str) -> None:
        """Nothing follows from it."""

    def close(self) -> None:
        """Count what is left, for a while; the next start counts the rest."""
        self._stop.set()
        self._thread.join(2.0)

    def _serve(self) -> None:
        while not self._stop.wait(TURN_S):
            self._turn()
        self._turn()
        self._open.close()

    def _opened(self) -> Callable[[], int]:
        book = self._open.enter_context(closing(LotBook(self._folder, durable=False)))
        log = self._open.enter_context(closing(Log(self._folder)))
        return lambda: book.count(log)

    def _turn(self) -> None:
        """Count to the end of the log; a store that cannot be read is told once."""
        try:
            count = self._counts = self._counts or self._opened()
            while count() == PAGE:
                self._stop.wait(PAUSE_S)
            self._mute = False
        except StoreFault as error:
            self._counts = None
            self._open.close()
            if not self._mute:
                self._log.error("lots_not_counted", error=str(error))
            self._mute = True


def _facts(body: bytes) -> _Facts:
    try:
        return _FACTS.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _DAMAGED


def _key(facts: _Facts, began: list[tuple[int, str]]) -> tuple[str, str, str]:
    """Lot, outcome, and class or reason of one verdict."""
    zero_ns = facts.settled_utc_ns - facts.latency_us * clock.NS_PER_US
    place = bisect.bisect_right(began, zero_ns, key=lambda one: one[0])
    lot = facts.lot or (began[place - 1][1] if place else "")
    kind = facts.reason.value if facts.reason else facts.defect_class or UNNAMED
    return lot, facts.outcome.value, "" if facts.outcome is Outcome.PASS else kind


def _lot(lot: str, began_utc_ns: int, by: str, cells: list[tuple[str, str, str, int]]) -> Lot:
    mine = [cell[1:] for cell in cells if cell[0] == lot]
    return Lot(
        lot=lot,
        began_utc_ns=began_utc_ns,
        by=by,
        units=sum(units for _, _, units in mine),
        passed=sum(units for outcome, _, units in mine if outcome == Outcome.PASS.value),
        failed={kind: units for outcome, kind, units in mine if outcome == Outcome.FAIL.value},
        uninspected={
            kind: units for outcome, kind, units in mine if outcome == Outcome.UNINSPECTED.value
        },
    )
