"""The one writer of the verdict log: opening, recovery, batches, retention; used by one thread."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import apsw
import msgspec

from edge_inspector import clock
from edge_inspector.errors import StoreFault
from edge_inspector.outbox.accepted import Accepted
from edge_inspector.outbox.entries import (
    Accept,
    Answer,
    Cursor,
    Entry,
    Keep,
    NewRun,
    Trim,
    Written,
    aborted_verdict,
    as_stored,
    passed,
)
from edge_inspector.outbox.log import (
    DIGESTS,
    NAME,
    SCHEMA,
    Lock,
    check_schema,
    connect,
    fault,
    is_sound,
    preallocate,
    stored,
    sync_folder,
)
from edge_inspector.records import Committed, FrameHead, Verdict, chained

FLOOR = "vseq.floor"
FLOOR_STEP = 1_000_000
"""Numbers reserved ahead in the floor file, so that it is written once in a million verdicts."""
TRIM_ROWS = 500
_HEAD = msgspec.msgpack.Decoder(FrameHead)
_ENCODER = msgspec.msgpack.Encoder()
_OF_UNIT = "SELECT vseq, body, chain, digests FROM verdict WHERE unit_key=?"


class Store:
    """The log's file and its newest number; state moves only when a batch is on disk."""

    def __init__(self, folder: Path, *, max_pages: int | None = None) -> None:
        self.folder = folder
        self.path = folder / NAME
        self.moved_aside: Path | None = None
        self.head = self._newest = 0
        self.oldest = 1
        self.runs: list[tuple[int, int]] = []
        self._base = self._chain = self._floor = 0
        self._max_pages = max_pages
        self._lock: Lock | None = None
        self._db: apsw.Connection | None = None
        self._accepted: Accepted | None = None

    def open(self) -> list[Committed]:
        """Lock, check, recover; the verdicts `uninspected(aborted)` that recovery wrote."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = Lock(self.folder)
            self._db = self._database()
            if self._max_pages is None:
                preallocate(self._db)
            self._read_head()
            self._accepted = Accepted(self._db)
            recovered = self._recover()
            sync_folder(self.folder)
        except (apsw.Error, OSError) as error:
            self.close()
            raise fault(self.path, error) from error
        except StoreFault:
            self.close()
            raise
        return recovered

    def close(self) -> None:
        """Close the file and let the next process in."""
        if self._db is not None:
            db, self._db = self._db, None
            with contextlib.suppress(apsw.Error):  # all rows are in the write-ahead log already
                db.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def write(self, batch: Sequence[Entry]) -> Written:
        """Write a batch in one durable transaction; raises `apsw.Error` and keeps nothing of it."""
        db, before = self._connection, (self._newest, self._chain, self._base)
        accepted = self._open_frames.saved()
        kinds = {type(entry) for entry in batch}
        passed("before", kinds)
        try:
            db.execute("BEGIN IMMEDIATE")
            written = self._write_rows(batch)
            db.execute("COMMIT")
        except apsw.Error:
            self._newest, self._chain, self._base = before
            self._open_frames.restore(accepted)
            if db.in_transaction:  # a full disk has rolled it back already
                db.execute("ROLLBACK")
            raise
        self.head, self.oldest = self._newest, self._base + 1
        passed("after", kinds)
        self._raise_floor()
        now_ns = clock.now_ns()
        return written._replace(committed=[_at(row, now_ns) for row in written.committed])

    def _write_rows(self, batch: Sequence[Entry]) -> Written:
        written = Written([], [])
        for entry in batch:
            match entry:
                case Verdict():
                    written.committed.append(self._commit(entry))
                case Accept():
                    written.journaled.append(self._journal(entry))
                case Cursor():
                    self._move_cursor(entry)
                case Trim():
                    self._trim(entry.upto)
                case NewRun():
                    written = written._replace(run=self._raise_run(entry.began_ns))
        self._open_frames.write()
        return written

    def outdated(self, connection: apsw.Connection, keep: Keep) -> int | None:
        """The `vseq` up to which verdicts are too old or too many, None when there is none."""
        pages = connection.pragma("page_count") - connection.pragma("freelist_count")
        too_large = pages * connection.pragma("page_size") > keep.max_bytes
        acked = dict(_rows(connection, "SELECT consumer, acked FROM cursor"))
        held = min((acked.get(name, 0) for name in keep.required), default=None)
        oldest = "SELECT vseq, settled_utc_ns FROM verdict ORDER BY vseq LIMIT ?"
        upto: int | None = None
        for vseq, settled_utc_ns in _rows(connection, oldest, (TRIM_ROWS,)):
            if not too_large and settled_utc_ns >= keep.oldest_utc_ns:
                break
            if held is not None and vseq > held and settled_utc_ns >= keep.held_utc_ns:
                break
            upto = vseq
        return upto

    @property
    def _connection(self) -> apsw.Connection:
        if self._db is None:
            raise StoreFault(f"{self.path} is closed; open the outbox before writing to it")
        return self._db

    @property
    def _open_frames(self) -> Accepted:
        assert self._accepted is not None
        return self._accepted

    def _database(self) -> apsw.Connection:
        """The log, a new one where there was none or it is corrupt."""
        db = self._opened()
        if db is None:
            self._move_aside()
            db = connect(self.path, writable=True)
        if self._max_pages is not None:
            db.pragma("max_page_count", self._max_pages)
        if not check_schema(self.path, db):
            with db:
                db.execute(SCHEMA)
                db.execute("INSERT INTO base VALUES(?, 0)", (self._read_floor(),))
        return db

    def _opened(self) -> apsw.Connection | None:
        """The file that is there, None when it is corrupt."""
        try:
            db = connect(self.path, writable=True)
        except (apsw.CorruptError, apsw.NotADBError):
            return None
        if is_sound(db):
            return db
        db.close()
        return None

    def _move_aside(self) -> None:
        """Keep a corrupt log under another name, with its write-ahead log."""
        stamp = clock.utc_text(clock.utc_ns()).replace(":", "")
        self.moved_aside = self.path.with_name(f"{NAME}.corrupt-{stamp}")
        for suffix in ("", "-wal", "-shm"):
            old = self.path.with_name(NAME + suffix)
            if old.exists():
                old.rename(self.moved_aside.with_name(self.moved_aside.name + suffix))

    def _read_head(self) -> None:
        newest = "SELECT vseq, chain FROM verdict ORDER BY vseq DESC LIMIT 1"
        base = _rows(self._connection, "SELECT vseq, chain FROM base")
        self._newest, self._chain = (_rows(self._connection, newest) or base)[0]
        self._base = base[0][0]
        self.head, self.oldest = self._newest, self._base + 1
        self.runs = self._read_runs()
        self._floor = self._read_floor()
        self._raise_floor()

    def _read_floor(self) -> int:
        path = self.folder / FLOOR
        try:
            return int(path.read_text("ascii")) if path.exists() else 0
        except ValueError as error:
            raise StoreFault(f"{path} holds no number; write one above every vseq seen") from error

    def _raise_floor(self) -> None:
        """Reserve numbers ahead, so that a new log after a corrupt one repeats none."""
        if self.head < self._floor - FLOOR_STEP // 2:
            return
        self._floor = self.head + FLOOR_STEP
        new = self.folder / (FLOOR + ".new")
        with new.open("w", encoding="ascii") as file:
            file.write(str(self._floor))
            file.flush()
            os.fsync(file.fileno())
        new.rename(self.folder / FLOOR)
        sync_folder(self.folder)

    def _recover(self) -> list[Committed]:
        """Settle every accepted frame without a verdict, in one transaction."""
        open_frames = "SELECT unit_key, head, deadline_ns FROM accepted ORDER BY unit_key"
        rows = _rows(self._connection, open_frames)
        aborted: list[Entry] = []
        for unit_key, group in groupby(rows, key=lambda row: row[0]):
            frames = list(group)
            heads = [_HEAD.decode(head) for _, head, _ in frames]
            aborted.append(aborted_verdict(unit_key, heads, min(row[2] for row in frames)))
        return self.write(aborted).committed if aborted else []

    def _journal(self, accept: Accept) -> Answer:
        head = accept.head
        for *row, digests in _rows(self._connection, _OF_UNIT, (head.unit_key,)):
            known = DIGESTS.decode(digests).get(head.camera, head.digest)
            return head.key, stored(*row), head.contradicts(known)
        return head.key, None, self._open_frames.take(accept)

    def _commit(self, verdict: Verdict) -> Committed:
        db, unit_key = self._connection, verdict.unit_key
        digests = self._open_frames.judged(unit_key)
        vseq = self._newest + 1
        verdict, body = as_stored(verdict, vseq)
        chain = chained(self._chain, body)
        code = (verdict.reason or verdict.outcome).value
        row = (vseq, unit_key, code, verdict.settled_utc_ns, body, chain, _ENCODER.encode(digests))
        db.execute("INSERT OR IGNORE INTO verdict VALUES(?,?,?,?,?,?,?)", row)
        if db.changes() != 1:
            return stored(*_rows(db, _OF_UNIT, (unit_key,))[0][:3])
        self._newest, self._chain = vseq, chain
        return Committed(vseq=vseq, verdict=verdict, body=body, chain=chain)

    def _move_cursor(self, cursor: Cursor) -> None:
        """Cursors only go up."""
        sql = (
            "INSERT INTO cursor VALUES(?1, ?2, ?3) ON CONFLICT(consumer) "
            "DO UPDATE SET acked=?2, utc_ns=?3 WHERE acked<?2"
        )
        self._connection.execute(sql, (*cursor, clock.utc_ns()))

    def _raise_run(self, began_ns: int) -> int:
        sql = "INSERT INTO run SELECT max(run)+1, ? FROM run RETURNING run"
        return int(self._connection.execute(sql, (began_ns,)).get)

    def _read_runs(self) -> list[tuple[int, int]]:
        """When each began and its number; an instant in the future is of the box's start before."""
        sql = "SELECT began_ns, run FROM run ORDER BY run DESC LIMIT 8"
        now_ns, found = clock.now_ns(), _rows(self._connection, sql)
        return [(ns if ns <= now_ns else 0, run) for ns, run in reversed(found)]

    def _trim(self, upto: int) -> None:
        """Remove the oldest verdicts; the chain value before the oldest kept one stays known."""
        db = self._connection
        for last in _rows(db, "SELECT vseq, chain FROM verdict WHERE vseq=?", (upto,)):
            db.execute("UPDATE base SET vseq=?, chain=?", last)
            db.execute("DELETE FROM verdict WHERE vseq<=?", (upto,))
            self._base = upto


def _rows(db: apsw.Connection, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    return db.execute(sql, values).fetchall()


def _at(row: Committed, now_ns: int) -> Committed:
    return msgspec.structs.replace(row, committed_ns=now_ns)
