"""The verdict log under kills, full disks, failing syncs and torn files."""

import random
import subprocess
import sys
import threading

import apsw
import pytest

from edge_inspector.errors import StoreFault
from edge_inspector.outbox import Log, Outbox
from edge_inspector.outbox.entries import Accept, Trim
from edge_inspector.outbox.log import NAME
from edge_inspector.outbox.store import FLOOR, Store
from edge_inspector.records import Committed, FrameHead, FrameKey, Outcome, Reason, Verdict

KILLS = 24

WRITER = """
import itertools, sys, time
from pathlib import Path
from edge_inspector.outbox import Outbox
from edge_inspector.records import FrameHead, FrameKey, Outcome, Verdict

def acknowledge(journaled, committed):
    lines = [f"J {key.epoch} {key.seq}" for key, _, _ in journaled]
    lines += [f"C {row.verdict.unit_key} {row.vseq} {row.verdict.outcome.value}" for row in committed]
    sys.stdout.write("".join(line + chr(10) for line in lines))
    sys.stdout.flush()

outbox, run = Outbox(Path(sys.argv[1])), sys.argv[2]
outbox.open(on_batch=acknowledge, on_fault=print)
for n in itertools.count():
    key = FrameKey("src", run, n)
    outbox.journal(FrameHead(key=key, station="s", camera="main", recipe="r", arrived_ns=n,
                             time_zero_ns=n, unit_id=f"{run}-{n}"), 9)
    if n % 3:
        outbox.commit(Verdict(unit_key=f"u:s/{run}-{n}", station="s", frames=(key,), recipe="r",
                              outcome=Outcome.PASS if n % 2 else Outcome.FAIL))
    time.sleep(0.0005)
"""


def verdict(n, size=10):
    return Verdict(
        unit_key=f"u:s/{n}",
        station="s",
        outcome=Outcome.PASS,
        frames=(FrameKey("src", "e", n),),
        recipe="bga",
        detail="x" * size,
    )


def head(n):
    return FrameHead(
        key=FrameKey("src", "e", n),
        station="s",
        camera="main",
        recipe="bga",
        arrived_ns=n,
        time_zero_ns=n,
        unit_id=str(n),
    )


def kill_a_writer(folder, run, after_s):
    """Let a writer acknowledge for a while, kill it, and give what it said until then."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), run], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    timer = threading.Timer(after_s, process.kill)
    timer.start()
    rest = process.stdout.read()
    assert process.wait() == -9
    timer.join()
    process.stdout.close()
    return [line.split() for line in (first + rest).splitlines(keepends=True) if line[-1] == "\n"]


@pytest.mark.fault
@pytest.mark.slow
def test_nothing_acknowledged_is_lost_by_a_kill(tmp_path, capsys):
    seed = 11
    rng = random.Random(seed)
    judged, accepted = {}, set()
    kills = aborted = 0
    for run in range(KILLS):
        lines = kill_a_writer(tmp_path, f"r{run}", rng.uniform(0.01, 0.15))
        kills += 1
        for kind, *words in lines:
            if kind == "C":
                judged[words[0]] = (int(words[1]), words[2])
            else:
                accepted.add(f"u:s/{words[0]}-{words[1]}")
    outbox = Outbox(tmp_path)
    outbox.open(on_batch=lambda *_: None, on_fault=lambda _: None)
    outbox.close()
    log = Log(tmp_path)
    rows = {row.verdict.unit_key: row for row in log.read(1, -1)}
    found = log.verify()
    log.close()
    for unit, (vseq, outcome) in judged.items():
        assert (rows[unit].vseq, rows[unit].verdict.outcome.value) == (vseq, outcome)
    assert accepted <= rows.keys()
    assert found.problems == ()
    assert sorted(row.vseq for row in rows.values()) == list(range(1, len(rows) + 1))
    aborted = sum(row.verdict.reason is Reason.ABORTED for row in rows.values())
    with capsys.disabled():
        sys.stdout.write(
            f"\n{kills} kills, seed {seed}: {len(accepted)} accepted and {len(judged)} verdicts "
            f"acknowledged, {len(rows)} on disk, {aborted} aborted, 0 lost\n"
        )
    assert kills == KILLS
    assert len(judged) > 10 * KILLS
    assert aborted >= KILLS


class Sick:
    """An outbox that reports its fault into a list."""

    def __init__(self, folder, **options):
        self.committed: list[Committed] = []
        self.faults: list[StoreFault] = []
        self.struck = threading.Event()
        self.outbox = Outbox(folder, **options)
        self.outbox.open(
            on_batch=lambda _, committed: self.committed.extend(committed), on_fault=self.fault
        )

    def fault(self, error):
        self.faults.append(error)
        self.struck.set()


def test_a_full_store_is_a_fault_and_keeps_all_that_was_acknowledged(tmp_path):
    sick = Sick(tmp_path, max_pages=60)
    for n in range(2000):
        sick.outbox.commit(verdict(n, size=400))
    assert sick.struck.wait(10)
    sick.outbox.close()
    (fault,) = sick.faults
    assert isinstance(fault, StoreFault)
    assert "FullError" in str(fault)
    assert "free space" in str(fault)
    assert [r.vseq for r in Log(tmp_path).read(1, -1)] == [r.vseq for r in sick.committed]
    well = Sick(tmp_path)
    well.outbox.commit(verdict(5000))
    well.outbox.close()
    assert well.committed[0].vseq == len(sick.committed) + 1
    assert Log(tmp_path).verify().problems == ()


class FailingFile(apsw.VFSFile):
    """A file whose k-th sync of all files fails with an I/O error."""

    def __init__(self, vfs, name, flags):
        self._vfs = vfs
        super().__init__("unix", name, flags)

    def xSync(self, flags):  # noqa: N802 - apsw's name
        self._vfs.syncs += 1
        if self._vfs.syncs == self._vfs.fail_at:
            self._vfs.failed += 1
            raise apsw.IOError("injected")
        super().xSync(flags)


class FailingDisk(apsw.VFS):
    """The default file system with one failing sync."""

    def __init__(self, fail_at):
        self.syncs = self.failed = 0
        self.fail_at = fail_at
        super().__init__("failing", "unix", makedefault=True)

    def xOpen(self, name, flags):  # noqa: N802 - apsw's name
        return FailingFile(self, name, flags)


@pytest.mark.fault
def test_each_sync_that_fails_is_a_fault_or_harmless_and_never_loses(tmp_path, capsys):
    struck = 0
    for k in range(1, 100):
        folder = tmp_path / str(k)
        disk = FailingDisk(k)
        sick, acknowledged = None, 0
        try:
            sick = Sick(folder)
            for n in range(6):
                sick.outbox._store.write([Accept(head(n), 9), verdict(n)])
        except (StoreFault, apsw.IOError):
            struck += 1
        finally:
            if sick is not None:
                acknowledged = sick.outbox.head()
                sick.outbox.close()
            disk.unregister()
        if sick is not None:
            log = Log(folder)
            assert log.head() >= acknowledged
            assert log.verify().problems == ()
            log.close()
        if not disk.failed:
            break
    with capsys.disabled():
        sys.stdout.write(f"\nfailing syncs: {k - 1} injected, {struck} raised, 0 lost\n")
    assert struck >= 6


def test_an_io_error_is_reported_once_and_nothing_is_acknowledged_after_it(tmp_path):
    disk = FailingDisk(0)
    try:
        sick = Sick(tmp_path)
        sick.outbox.commit(verdict(1))
        while not sick.committed:
            threading.Event().wait(0.005)
        disk.fail_at = disk.syncs + 1
        sick.outbox.commit(verdict(2))
        assert sick.struck.wait(5)
        sick.outbox.commit(verdict(3))
        sick.outbox.close()
    finally:
        disk.unregister()
    assert len(sick.faults) == 1
    assert "IOError" in str(sick.faults[0])
    assert [row.vseq for row in sick.committed] == [1]
    assert disk.failed == 1


def test_rows_that_retention_could_not_take_are_not_told_as_gone(tmp_path):
    disk = FailingDisk(0)
    try:
        store = Store(tmp_path)
        store.open()
        store.write([verdict(1), verdict(2)])
        disk.fail_at = disk.syncs + 1
        with pytest.raises(apsw.IOError):
            store.write([Trim(1)])
        told = (store.oldest, store.head)
        store.close()
    finally:
        disk.unregister()
    log = Log(tmp_path)
    assert log.bounds() == told == (1, 2)
    log.close()


@pytest.mark.parametrize("damage", ["header", "pages", "text"])
def test_a_corrupt_log_is_moved_aside_and_its_numbers_are_not_used_again(tmp_path, damage):
    sick = Sick(tmp_path)
    for n in range(300):
        sick.outbox.commit(verdict(n, size=200))
    sick.outbox.close()
    path = tmp_path / NAME
    torn = bytearray(path.read_bytes())
    if damage == "header":
        torn[:100] = bytes(100)
    elif damage == "pages":
        torn[8192:] = random.Random(3).randbytes(len(torn) - 8192)
    else:
        torn = bytearray(b"this is no database\n" * 500)
    path.write_bytes(torn)
    well = Sick(tmp_path)
    floor = well.outbox.head()
    well.outbox.commit(verdict(1))
    aside = well.outbox.moved_aside
    well.outbox.close()
    assert aside is not None
    assert aside.read_bytes() == bytes(torn)
    assert well.committed[0].vseq == floor + 1 > 300
    assert int((tmp_path / FLOOR).read_text()) > floor
    assert Log(tmp_path).verify().problems == ()


def test_a_sound_log_is_never_moved_aside(tmp_path):
    for n in range(3):
        sick = Sick(tmp_path)
        sick.outbox.commit(verdict(n))
        sick.outbox.close()
        assert sick.outbox.moved_aside is None
        assert sick.committed[0].vseq == n + 1
