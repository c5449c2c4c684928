"""
The durable log of verdicts: what is acknowledged here survives a kill and a power cut.

SQLite in WAL mode with synchronous FULL, one writer thread, group commit: what queued while one
sync ran is the next batch. `INSERT OR IGNORE` on the unit key decides "exactly one verdict".
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue

import apsw

from edge_inspector import clock
from edge_inspector.errors import StoreFault
from edge_inspector.failpoints import passing
from edge_inspector.outbox.entries import Accept, Answer, Cursor, Entry, Keep, NewRun, Trim
from edge_inspector.outbox.log import Log, connect, fault, preallocate
from edge_inspector.outbox.store import Store
from edge_inspector.records import Committed, FrameHead, Verdict

Batch = Callable[[Sequence[Answer], Sequence[Committed]], None]
MAX_BATCH = 1024
TIDY_S = 0.5
"""How often old verdicts are looked for and the write-ahead log is folded into the file."""
RING = 4096
QUICK_NS, SLOW_NS = 4 * clock.NS_PER_MS, 20 * clock.NS_PER_MS
"""
A unit that is judged within the time of a sync is accepted and judged by the same one: within the
first where syncs are quicker than that, and never later than within the second.
"""
LAZY_NS = 80 * clock.NS_PER_MS
"""How long a cursor waits for a batch that it can go with."""
IDLE_S = 0.04
"""How often a writer with nothing to do shows that it still could."""


class Outbox:
    """
    The verdict log of one station, in `folder`.

    Verdicts older than `days`, or beyond `max_bytes`, go, the oldest first, but for `hold_days` not
    before each of the `required` consumers said that it holds them; `max_pages` limits the file. `journal` and `commit` return at once; `on_batch(journaled, committed)` is called from the
    writer thread when rows are on disk, `on_fault` once when they cannot be: nothing is written
    after that, and nothing was acknowledged that is not on disk.
    """

    def __init__(
        self,
        folder: Path,
        *,
        days: float = 30.0,
        max_bytes: int = 20 * 1024**3,
        hold_days: float = 30.0,
        required: tuple[str, ...] = (),
        max_pages: int | None = None,
    ) -> None:
        self.folder = folder
        self.recovered: tuple[Committed, ...] = ()
        self.moved_ns = 0
        """When the writer last finished a batch or found nothing to do."""
        self._store = Store(folder, max_pages=max_pages)
        self._keep_ns = int(days * 86_400e9)
        self._hold_ns = int(hold_days * 86_400e9)
        self._required = required
        self._max_bytes = max_bytes
        self._entries: SimpleQueue[Entry | None] = SimpleQueue()
        self._quick_ns = 0
        """How long the next unit may take, as far as the last one tells; 0 where that is long."""
        self._took_ns = 0
        self._stop = threading.Event()
        self._sync_ms: deque[float] = deque(maxlen=RING)
        self._threads: list[threading.Thread] = []

    @property
    def moved_aside(self) -> Path | None:
        """Where a corrupt log was moved when this one was opened, None when there was none."""
        return self._store.moved_aside

    def open(
        self,
        *,
        on_batch: Batch,
        on_fault: Callable[[StoreFault], None],
        on_run: Callable[[int], None] = lambda _: None,
    ) -> int:
        """
        Take the store, settle what a crash left open, start writing; how many units were aborted.

        They are in `recovered`, not yet published. Raises `StoreFault` when another process has
        the store, its schema is of another version, or the disk does not do what is asked of it.
        """
        self.recovered = tuple(self._store.open())
        self._on_batch, self._on_fault, self._on_run = on_batch, on_fault, on_run
        self._threads = [
            threading.Thread(target=self._write, name="outbox", daemon=True),
            threading.Thread(target=self._tidy, name="outbox-tidy", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        return len(self.recovered)

    def journal(self, head: FrameHead, deadline_ns: int) -> None:
        """Write the accept row of a frame; answered by `(key, stored verdict or None, conflict)`."""
        self._entries.put(Accept(head, deadline_ns))

    def commit(self, verdict: Verdict) -> None:
        """Write a verdict; answered by it, or by the one that its unit already has."""
        arrival_us = verdict.stages_us.get("arrival", 0)
        took_ns = verdict.decided_ns - verdict.time_zero_ns - arrival_us * clock.NS_PER_US
        quick = 0 < took_ns <= min(max(QUICK_NS, self._took_ns), SLOW_NS)
        self._quick_ns = took_ns + took_ns // 2 if quick else 0
        self._entries.put(verdict)

    def acked(self, consumer: str, upto: int) -> None:
        """Write how far a consumer holds the log; lazily, since a lost one costs a replay only."""
        self._entries.put(Cursor(consumer, upto))

    def new_run(self, began_ns: int | None = None) -> None:
        """Write that trigger ids start again, now or then; `on_run` follows with the run's number."""
        self._entries.put(NewRun(clock.now_ns() if began_ns is None else began_ns))

    def head(self) -> int:
        """The newest `vseq` on disk."""
        return self._store.head

    def oldest(self) -> int:
        """The oldest `vseq` that is kept."""
        return self._store.oldest

    def runs(self) -> list[tuple[int, int]]:
        """When each of the last runs began, monotonic, and its number; of the time of opening."""
        return self._store.runs

    def read(self, from_vseq: int, limit: int) -> list[Committed]:
        """Up to `limit` verdicts in order, starting with `from_vseq`; from any thread."""
        log = Log(self.folder)
        try:
            return log.read(from_vseq, limit)
        finally:
            log.close()

    def pictures(self, limit: int) -> list[tuple[Verdict, dict[str, int]]]:
        """The newest verdicts, the oldest first, each with its pixels' digests by camera."""
        log = Log(self.folder)
        try:
            return log.pictures(limit)
        finally:
            log.close()

    def sync_percentiles_ms(self) -> tuple[float, float]:
        """Median and 99th percentile of the last commits, 0 before the first."""
        return percentiles(list(self._sync_ms))

    def close(self) -> None:
        """Write what is queued, then let go of the store; harmless when it is closed already."""
        self._stop.set()
        self._entries.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []
        self._store.close()

    def _write(self) -> None:
        problem: StoreFault | None = StoreFault("the writer of the verdict log ended unexpectedly")
        try:
            while batch := self._next_batch():
                started_ns = clock.now_ns()
                written = self._store.write(batch)
                self._took_ns = clock.now_ns() - started_ns
                self._sync_ms.append(self._took_ns / clock.NS_PER_MS)
                if written.journaled or written.committed:
                    self._on_batch(written.journaled, written.committed)
                if written.run is not None:
                    self._on_run(written.run)
            problem = None
        except (apsw.Error, OSError) as error:
            problem = fault(self._store.path, error)
        finally:
            if problem is not None:
                self._on_fault(problem)

    def _next_batch(self) -> list[Entry]:
        """All that waits, and what may well share its sync; empty when it is time to stop."""
        batch: list[Entry] = []
        entry = self._wait()
        until_ns = clock.now_ns() + LAZY_NS
        while entry is not None:
            batch.append(entry)
            if len(batch) == MAX_BATCH:
                return batch
            now_ns = clock.now_ns()
            until_ns = min(until_ns, now_ns + self._patience_ns(entry))
            try:
                entry = self._entries.get(timeout=max(0, until_ns - now_ns) / 1e9)
            except Empty:
                return batch
        if batch:
            self._entries.put(None)
        return batch

    def _patience_ns(self, entry: Entry) -> int:
        """How long this may wait for what comes next: an accept row for its unit's verdict."""
        if isinstance(entry, Cursor):
            return LAZY_NS
        return self._quick_ns if isinstance(entry, Accept) else 0

    def _wait(self) -> Entry | None:
        while True:
            self.moved_ns = clock.now_ns()
            with contextlib.suppress(Empty):
                return self._entries.get(timeout=IDLE_S)

    def _keep(self) -> Keep:
        now_ns = clock.utc_ns()
        return Keep(now_ns - self._keep_ns, self._max_bytes, self._required, now_ns - self._hold_ns)

    def _tidy(self) -> None:
        """Fold the write-ahead log in beside the writer, and have the oldest verdicts removed."""
        connection: apsw.Connection | None = None
        try:
            connection = connect(self._store.path, writable=True)
            while not self._stop.wait(TIDY_S):
                passing("store.checkpoint")
                with contextlib.suppress(apsw.BusyError):
                    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                passing("store.checkpointed")
                upto = self._store.outdated(connection, self._keep())
                if upto is not None:
                    self._entries.put(Trim(upto))
        except (apsw.Error, OSError) as error:
            self._on_fault(fault(self._store.path, error))
        finally:
            if connection is not None:
                connection.close()


def percentiles(values_ms: list[float]) -> tuple[float, float]:
    """Median and 99th percentile, (0, 0) of nothing."""
    ordered = sorted(values_ms) or [0.0]
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


def measure_sync(folder: Path, commits: int = 200) -> tuple[float, float]:
    """Median and 99th percentile, in ms, of durable one-row commits on the disk of `folder`."""
    path = folder / "sync-probe.db"
    times_ms: list[float] = []
    try:
        connection = connect(path, writable=True)
        try:
            connection.execute("CREATE TABLE IF NOT EXISTS probe(body BLOB)")
            preallocate(connection)
            for _ in range(commits):
                started_ns = clock.now_ns()
                connection.execute("INSERT INTO probe VALUES(zeroblob(600))")
                times_ms.append((clock.now_ns() - started_ns) / clock.NS_PER_MS)
        finally:
            connection.close()
    except apsw.Error as error:
        raise fault(path, error) from error
    finally:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    return percentiles(times_ms)
