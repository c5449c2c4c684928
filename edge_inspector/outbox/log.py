"""The verdict log on disk: its schema, its lock, and all that may be read while a daemon writes it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw
import msgspec

from edge_inspector import clock
from edge_inspector.errors import StoreFault
from edge_inspector.records import Committed, Verdict, chained

NAME = "verdicts.db"
SCHEMA_VERSION = 2
SCHEMA = f"""
CREATE TABLE accepted(
  unit_key TEXT, source TEXT, epoch TEXT, seq TEXT, camera TEXT, digest TEXT,
  deadline_ns INTEGER, head BLOB, PRIMARY KEY(unit_key, source, epoch, seq)) WITHOUT ROWID;
CREATE TABLE verdict(
  vseq INTEGER PRIMARY KEY, unit_key TEXT NOT NULL UNIQUE, code TEXT NOT NULL,
  settled_utc_ns INTEGER NOT NULL, body BLOB NOT NULL, chain INTEGER NOT NULL, digests BLOB NOT NULL);
CREATE TABLE base(vseq INTEGER NOT NULL, chain INTEGER NOT NULL);
CREATE TABLE cursor(consumer TEXT PRIMARY KEY, acked INTEGER NOT NULL, utc_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE run(run INTEGER PRIMARY KEY, began_ns INTEGER NOT NULL);
INSERT INTO run VALUES(0, 0);
PRAGMA user_version={SCHEMA_VERSION};
"""
"""`accepted` holds frames whose unit has no verdict yet; `base` is the row before the oldest kept."""

PRAGMAS = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 0, "wal_autocheckpoint": 4000}
CHECK_LIMIT_NS = 1_000_000_000
"""quick_check of a large log is cut off here: READY is due in 3 s."""
PREALLOCATED_BYTES = 8 * 1024 * 1024
_VERDICT = msgspec.msgpack.Decoder(Verdict)
DIGESTS = msgspec.msgpack.Decoder(dict[str, int])


def stored(vseq: int, body: bytes, chain: int) -> Committed:
    """A row of the log as it was published."""
    return Committed(vseq=vseq, verdict=_VERDICT.decode(body), body=body, chain=chain, fresh=False)


def fault(path: Path, error: Exception) -> StoreFault:
    """What an operator can do about an error of the store."""
    remedy = "free space on its disk" if isinstance(error, apsw.FullError) else "check its disk"
    return StoreFault(
        f"verdict log {path}: {type(error).__name__}: {error}; {remedy}, then restart"
    )


def connect(path: Path, *, writable: bool) -> apsw.Connection:
    """Open the log; a writer's settings are read back, since SQLite ignores what it cannot set."""
    if not writable:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(1000)
        return connection
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(1000)
        for name, wanted in PRAGMAS.items():
            connection.execute(f"PRAGMA {name}={wanted}").fetchall()
            found = connection.pragma(name)
            if found != wanted:
                raise StoreFault(
                    f"{path}: PRAGMA {name} is {found}, not {wanted}; use a local disk"
                )
    except (apsw.Error, StoreFault):
        connection.close()
        raise
    return connection


def preallocate(connection: apsw.Connection) -> None:
    """Grow the files once, now: a sync that also has to record a new length takes several times as long."""
    connection.execute(f"CREATE TABLE fill AS SELECT zeroblob({PREALLOCATED_BYTES}) AS x")
    connection.execute("DROP TABLE fill")
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)


def is_sound(connection: apsw.Connection) -> bool:
    """False when quick_check finds damage within its time."""
    give_up_ns = clock.now_ns() + CHECK_LIMIT_NS
    connection.set_progress_handler(lambda: clock.now_ns() > give_up_ns, 10_000)
    try:
        return bool(connection.execute("PRAGMA quick_check(1)").get == "ok")
    except apsw.InterruptError:
        return True
    finally:
        connection.set_progress_handler(None)


def check_schema(path: Path, connection: apsw.Connection) -> bool:
    """False for an empty file; raises `StoreFault` for a log of another version."""
    version = connection.pragma("user_version")
    if version not in (0, SCHEMA_VERSION):
        raise StoreFault(
            f"{path} has schema {version}, this version reads {SCHEMA_VERSION}; "
            "run the version that wrote it, or move the folder away"
        )
    return bool(version)


def sync_folder(folder: Path) -> None:
    """Make names durable; SQLite does not report a failed directory sync, this raises."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Lock:
    """One daemon per store: an advisory lock that ends with its process."""

    def __init__(self, folder: Path) -> None:
        self._fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o640)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise StoreFault(
                f"store {folder} is in use by process {pid}; stop it or give this one another store"
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let the next one in."""
        os.close(self._fd)


@dataclass(frozen=True, slots=True)
class Verified:
    """What a walk over the whole log found."""

    rows: int
    head: int
    problems: tuple[str, ...]


class Log:
    """
    The log as a reader sees it, also beside a running daemon.

    Raises `StoreFault` when there is none or it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        if not self.path.is_file():
            raise StoreFault(f"{self.path} is not there; give the store of a station that has run")
        try:
            self._connection = connect(self.path, writable=False)
            check_schema(self.path, self._connection)
        except apsw.Error as error:
            raise fault(self.path, error) from error

    def head(self) -> int:
        """The newest `vseq`."""
        return self._base_and_head()[1]

    def read(self, from_vseq: int, limit: int) -> list[Committed]:
        """Up to `limit` verdicts in order, starting with `from_vseq`."""
        return [stored(*row) for row in self._rows(from_vseq, limit)]

    def rows(self, from_vseq: int, limit: int) -> list[tuple[int, bytes, int]]:
        """Number, body and chain value of up to `limit` verdicts, the bodies as they travel."""
        return list(self._rows(from_vseq, limit))

    def pictures(self, limit: int) -> list[tuple[Verdict, dict[str, int]]]:
        """The newest verdicts, the oldest first, each with its pixels' digests by camera."""
        sql = "SELECT body, digests FROM verdict ORDER BY vseq DESC LIMIT ?"
        try:
            rows = self._connection.execute(sql, (limit,)).fetchall()
        except apsw.Error as error:
            raise fault(self.path, error) from error
        return [(_VERDICT.decode(body), DIGESTS.decode(held)) for body, held in reversed(rows)]

    def bounds(self) -> tuple[int, int]:
        """The oldest `vseq` that is kept, and the newest; the oldest is one higher when empty."""
        base, head = self._base_and_head()
        return base[0] + 1, head

    def chain_before(self, vseq: int) -> int:
        """The chain value that `vseq` builds on; raises `StoreFault` when it is not kept."""
        sql = "SELECT chain FROM verdict WHERE vseq=?1 UNION SELECT chain FROM base WHERE vseq=?1"
        try:
            chain: int | None = self._connection.execute(sql, (vseq - 1,)).get
        except apsw.Error as error:
            raise fault(self.path, error) from error
        if chain is None:
            raise StoreFault(f"{self.path}: verdict {vseq - 1} is not kept")
        return chain

    def cursor(self, consumer: str) -> int:
        """The last verdict that a consumer said it holds, 0 for one that never said so."""
        sql = "SELECT acked FROM cursor WHERE consumer=?"
        try:
            acked: int | None = self._connection.execute(sql, (consumer,)).get
        except apsw.Error as error:
            raise fault(self.path, error) from error
        return acked or 0

    def run(self) -> int:
        """The run in which trigger ids count."""
        try:
            return int(self._connection.execute("SELECT max(run) FROM run").get)
        except apsw.Error as error:
            raise fault(self.path, error) from error

    def verify(self) -> Verified:
        """Walk the log: numbers without a gap, every body in its chain, every row readable."""
        (vseq, chain), head = self._base_and_head()
        problems: list[str] = []
        rows = 0
        for found, body, stored_chain in self._rows(vseq + 1, -1):
            rows += 1
            if found != vseq + 1:
                problems.append(f"vseq {vseq + 1} to {found - 1} are missing")
            if stored_chain != chained(chain, body):
                problems.append(f"vseq {found} is not what was written: its chain value differs")
            problems += _unreadable(found, body)
            vseq, chain = found, stored_chain
        return Verified(rows, head, tuple(problems))

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _rows(self, from_vseq: int, limit: int) -> Iterator[tuple[int, bytes, int]]:
        sql = "SELECT vseq, body, chain FROM verdict WHERE vseq>=? ORDER BY vseq LIMIT ?"
        try:
            yield from self._connection.execute(sql, (from_vseq, limit))
        except apsw.Error as error:
            raise fault(self.path, error) from error

    def _base_and_head(self) -> tuple[tuple[int, int], int]:
        try:
            base: tuple[int, int] = self._connection.execute("SELECT vseq, chain FROM base").get
            head: int | None = self._connection.execute("SELECT max(vseq) FROM verdict").get
        except apsw.Error as error:
            raise fault(self.path, error) from error
        return base, base[0] if head is None else head


def _unreadable(vseq: int, body: bytes) -> list[str]:
    try:
        _VERDICT.decode(body)
    except msgspec.MsgspecError as error:
        return [f"vseq {vseq} cannot be read: {error}"]
    return []
