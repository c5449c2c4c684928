"""The verdict log: one verdict per unit, numbered without a gap, the same after a restart."""

import os
import subprocess
import sys
import threading

import apsw
import msgspec
import pytest

from edge_inspector import clock
from edge_inspector.errors import StoreFault
from edge_inspector.outbox import Log, Outbox, measure_sync
from edge_inspector.outbox.entries import Accept
from edge_inspector.outbox.log import NAME, PRAGMAS, connect
from edge_inspector.records import FrameHead, FrameKey, Outcome, Reason, Verdict, chained


class Desk:
    """An open outbox, and what it has acknowledged."""

    def __init__(self, folder, **options):
        self.outbox = Outbox(folder, **options)
        self.journaled, self.committed, self.faults = [], [], []
        self._changed = threading.Condition()
        self.aborted = self.outbox.open(on_batch=self._on_batch, on_fault=self._on_fault)

    def _on_batch(self, journaled, committed):
        with self._changed:
            self.journaled += journaled
            self.committed += committed
            self._changed.notify_all()

    def _on_fault(self, fault):
        with self._changed:
            self.faults.append(fault)
            self._changed.notify_all()

    def wait(self, journaled=0, committed=0):
        with self._changed:
            done = self._changed.wait_for(
                lambda: (
                    self.faults
                    or (len(self.journaled) >= journaled and len(self.committed) >= committed)
                ),
                20,
            )
        assert done, f"{len(self.journaled)} and {len(self.committed)} acknowledged after 20 s"

    def commit(self, *verdicts):
        known = len(self.committed)
        for verdict in verdicts:
            self.outbox.commit(verdict)
        self.wait(committed=known + len(verdicts))
        return self.committed[known:]

    def journal(self, *heads):
        known = len(self.journaled)
        for head in heads:
            self.outbox.journal(head, head.time_zero_ns + 50)
        self.wait(journaled=known + len(heads))
        return self.journaled[known:]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.outbox.close()


def head(n, **fields):
    defaults = {"camera": "main", "unit_id": str(n), "digest": n}
    return FrameHead(
        key=FrameKey("src", "e", n),
        station="s",
        recipe="bga",
        arrived_ns=n,
        time_zero_ns=n,
        **{**defaults, **fields},
    )


def verdict(n, **fields):
    defaults = {"outcome": Outcome.PASS, "detail": ""}
    return Verdict(
        unit_key=f"u:s/{n}",
        station="s",
        frames=(FrameKey("src", "e", n),),
        recipe="bga",
        **{**defaults, **fields},
    )


def test_verdicts_are_numbered_from_one_and_stored_as_published(tmp_path):
    with Desk(tmp_path) as desk:
        rows = desk.commit(*(verdict(n) for n in range(5)))
        assert [row.vseq for row in rows] == [1, 2, 3, 4, 5]
        assert all(row.fresh and row.committed_ns for row in rows)
        for row, again in zip(rows, desk.outbox.read(1, 10), strict=True):
            assert (again.vseq, again.body, again.chain) == (row.vseq, row.body, row.chain)
            assert msgspec.msgpack.decode(row.body, type=Verdict) == row.verdict == again.verdict
            assert abs(row.verdict.settled_utc_ns - clock.utc_ns()) < 60e9
        assert desk.outbox.head() == 5
        assert [row.vseq for row in desk.outbox.read(3, 2)] == [3, 4]


def test_a_unit_has_one_verdict_and_a_second_one_uses_no_number_up(tmp_path):
    with Desk(tmp_path) as desk:
        desk.commit(verdict(1))
        again, other = desk.commit(verdict(1, outcome=Outcome.FAIL), verdict(2))
        assert (again.fresh, again.vseq, again.verdict.outcome) == (False, 1, Outcome.PASS)
        assert (other.fresh, other.vseq) == (True, 2)


def test_two_verdicts_of_one_unit_in_one_batch_are_decided_by_the_first(tmp_path):
    with Desk(tmp_path) as desk:
        rows = desk.outbox._store.write([verdict(1), verdict(1, outcome=Outcome.FAIL), verdict(2)])
        assert [(r.vseq, r.fresh) for r in rows[1]] == [(1, True), (1, False), (2, True)]


def test_a_journaled_frame_names_the_verdict_that_its_unit_has(tmp_path):
    with Desk(tmp_path) as desk:
        assert desk.journal(head(1)) == [(head(1).key, None, False)]
        (row,) = desk.commit(verdict(1))
        again = head(1, digest=1)
        changed = head(1, digest=2)
        (_, stored, conflict), (_, stored_too, conflict_too) = desk.journal(again, changed)
        assert (stored.vseq, stored.body, conflict) == (row.vseq, row.body, False)
        assert (stored_too.vseq, conflict_too) == (row.vseq, True)


def test_another_camera_of_a_judged_unit_is_no_conflict(tmp_path):
    with Desk(tmp_path) as desk:
        desk.journal(head(1))
        desk.commit(verdict(1))
        ((_, stored, conflict),) = desk.journal(head(1, camera="side", digest=77))
        assert (stored.vseq, conflict) == (1, False)


def test_other_pixels_of_an_open_unit_are_a_conflict(tmp_path):
    with Desk(tmp_path) as desk:
        desk.journal(head(1))
        later = msgspec.structs.replace(head(1, digest=9), key=FrameKey("src", "e2", 1))
        assert desk.journal(later) == [(later.key, None, True)]


def test_a_frame_and_its_verdict_in_one_batch_are_known_as_from_two(tmp_path):
    with Desk(tmp_path) as desk:
        store = desk.outbox._store
        side = msgspec.structs.replace(
            head(1, camera="side", digest=7), key=FrameKey("src", "e", 9)
        )
        written = store.write(
            [Accept(head(1), 50), Accept(side, 50), verdict(1), Accept(head(2), 50)]
        )
        assert [answer[1:] for answer in written.journaled] == [(None, False)] * 3
        (_, row, _), (_, _, conflict) = desk.journal(head(1), head(1, camera="side", digest=8))
        assert (row.vseq, conflict) == (1, True)
        assert list(Log(tmp_path)._connection.execute("SELECT unit_key FROM accepted")) == [
            ("u:s/2",)
        ]
        (again,) = store.write([Accept(head(2, digest=9), 50)]).journaled
        assert again[2]


def quick(n):
    """A verdict that was decided 2 ms after the unit's frame came."""
    return verdict(n, time_zero_ns=10, decided_ns=10 + 2_000_000)


def test_where_units_are_quick_an_accept_row_waits_for_its_verdict_and_not_for_long(tmp_path):
    with Desk(tmp_path) as desk:
        desk.commit(quick(1))
        asked_ns = clock.now_ns()
        desk.journal(head(2))
        assert clock.now_ns() - asked_ns > 2_900_000
        kept = desk.outbox._store._connection.execute("SELECT count(*) FROM accepted")
        assert kept.get == 1
        desk.commit(verdict(3, time_zero_ns=10, decided_ns=10 + 900_000_000))
        assert desk.outbox._quick_ns == 0


def test_a_pass_that_waited_for_the_disk_beyond_its_deadline_is_none(tmp_path):
    now_ns = clock.now_ns()
    with Desk(tmp_path) as desk:
        late, failed, passed = desk.commit(
            verdict(1, deadline_ns=now_ns - 1),
            verdict(2, deadline_ns=now_ns - 1, outcome=Outcome.FAIL),
            verdict(3, deadline_ns=now_ns + 60_000_000_000),
        )
    told = [(row.verdict.outcome, row.verdict.reason) for row in (late, failed, passed)]
    assert told[0] == (Outcome.UNINSPECTED, Reason.TIMEOUT)
    assert told[1:] == [(Outcome.FAIL, None), (Outcome.PASS, None)]
    assert [row.verdict.deadline_met for row in (late, failed, passed)] == [False, False, True]


def test_cursors_go_with_the_next_batch_and_alone_after_a_while(tmp_path):
    with Desk(tmp_path) as desk:
        desk.outbox.acked("plc", 3)
        threading.Event().wait(0.02)
        assert Log(tmp_path).cursor("plc") == 0
        desk.commit(verdict(1))
        assert Log(tmp_path).cursor("plc") == 3
        desk.outbox.acked("plc", 4)
        give_up_ns = clock.now_ns() + 2_000_000_000
        while Log(tmp_path).cursor("plc") < 4:
            assert clock.now_ns() < give_up_ns


def test_a_batch_that_fails_forgets_which_frames_it_took(tmp_path):
    with Desk(tmp_path) as desk:
        store = desk.outbox._store
        store.write([Accept(head(1), 50)])
        store._connection.execute(
            "CREATE TEMP TRIGGER full BEFORE INSERT ON main.verdict BEGIN SELECT RAISE(FAIL, 'full'); END"
        )
        with pytest.raises(apsw.Error):
            store.write([Accept(head(2), 50), verdict(1)])
        store._connection.execute("DROP TRIGGER full")
        written = store.write([Accept(head(2, digest=5), 50), verdict(1)])
        assert [answer[1:] for answer in written.journaled] == [(None, False)]
        assert desk.outbox.pictures(1)[0][1] == {"main": 1}


def test_numbers_that_need_all_64_bits_are_taken(tmp_path):
    top = 2**64 - 1
    with Desk(tmp_path) as desk:
        desk.journal(head(1, digest=top, trigger_id=top, unit_id=None))
        key = msgspec.structs.replace(head(2), key=FrameKey("src", "e", top))
        desk.journal(key)
    with Desk(tmp_path) as desk:
        assert desk.aborted == 2
        assert {row.verdict.trigger_id for row in desk.outbox.recovered} == {top, None}


def test_what_was_accepted_and_not_judged_is_aborted_at_the_next_start(tmp_path):
    with Desk(tmp_path) as desk:
        desk.journal(*(head(n) for n in range(1, 5)), head(4, camera="side"))
        desk.commit(verdict(1))
    with Desk(tmp_path) as desk:
        assert desk.aborted == 3
        rows = desk.outbox.recovered
        assert [row.vseq for row in rows] == [2, 3, 4]
        assert {(row.verdict.reason, row.verdict.outcome) for row in rows} == {
            (Reason.ABORTED, Outcome.UNINSPECTED)
        }
        assert {row.verdict.unit_id for row in rows} == {"2", "3", "4"}
        assert desk.outbox.head() == 4
    with Desk(tmp_path) as desk:
        assert desk.aborted == 0


def test_the_pictures_of_the_newest_verdicts_are_known_after_a_restart(tmp_path):
    with Desk(tmp_path) as desk:
        desk.journal(head(1, digest=11), head(2, digest=2**64 - 1), head(3, digest=13))
        desk.commit(verdict(1), verdict(2))
    with Desk(tmp_path) as desk:
        pictures = desk.outbox.pictures(2)
        assert [verdict.unit_key for verdict, _ in pictures] == [head(n).unit_key for n in (2, 3)]
        assert [digests for _, digests in pictures] == [
            {head(2).camera: 2**64 - 1},
            {head(3).camera: 13},
        ]
        assert pictures[-1][0].reason is Reason.ABORTED
        assert pictures[-1][0].frames == (head(3).key,)


def test_the_chain_goes_on_over_a_restart(tmp_path):
    for start in range(3):
        with Desk(tmp_path) as desk:
            desk.commit(*(verdict(10 * start + n) for n in range(4)))
    log = Log(tmp_path)
    found = log.verify()
    assert (found.rows, found.head, found.problems) == (12, 12, ())
    chain = 0
    for row in log.read(1, 100):
        chain = chained(chain, row.body)
        assert row.chain == chain
    log.close()


@pytest.mark.parametrize("at", [0, 10, -1])
def test_one_flipped_byte_is_found(tmp_path, at):
    with Desk(tmp_path) as desk:
        desk.commit(*(verdict(n, detail="x" * 40) for n in range(20)))
    db = apsw.Connection(str(tmp_path / NAME))
    body = bytearray(db.execute("SELECT body FROM verdict WHERE vseq=7").get)
    body[at] ^= 1
    db.execute("UPDATE verdict SET body=? WHERE vseq=7", (bytes(body),))
    db.close()
    log = Log(tmp_path)
    problems = log.verify().problems
    log.close()
    assert problems
    assert all("7" in problem for problem in problems)


def test_a_removed_row_is_found(tmp_path):
    with Desk(tmp_path) as desk:
        desk.commit(*(verdict(n) for n in range(20)))
    db = apsw.Connection(str(tmp_path / NAME))
    db.execute("DELETE FROM verdict WHERE vseq IN (5, 6)")
    db.close()
    log = Log(tmp_path)
    problems = log.verify().problems
    log.close()
    assert problems[0] == "vseq 5 to 6 are missing"


def test_the_settings_that_durability_rests_on_are_in_force(tmp_path):
    connection = connect(tmp_path / "x.db", writable=True)
    assert {name: connection.pragma(name) for name in PRAGMAS} == PRAGMAS
    assert (PRAGMAS["journal_mode"], PRAGMAS["synchronous"]) == ("wal", 2)
    connection.close()


def test_a_second_daemon_is_told_who_has_the_store(tmp_path):
    code = (
        "import sys; from pathlib import Path; from edge_inspector.outbox import Outbox\n"
        "Outbox(Path(sys.argv[1])).open(on_batch=print, on_fault=print)"
    )
    with Desk(tmp_path):
        second = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
        )
    assert second.returncode != 0
    assert f"in use by process {os.getpid()}" in second.stderr


def test_a_log_of_a_newer_version_is_left_alone(tmp_path):
    with Desk(tmp_path) as desk:
        desk.commit(verdict(1))
    db = apsw.Connection(str(tmp_path / NAME))
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreFault, match="schema 99"):
        Desk(tmp_path)
    assert not list(tmp_path.glob("*.corrupt-*"))


def test_old_verdicts_go_and_the_rest_still_verifies(tmp_path):
    with Desk(tmp_path, days=0.4 / 86_400) as desk:
        desk.commit(*(verdict(n) for n in range(30)))
        for _ in range(200):
            if Log(tmp_path).verify().rows == 0:
                break
            threading.Event().wait(0.02)
        (row,) = desk.commit(verdict(99))
        assert row.vseq == 31
        assert Log(tmp_path).verify().problems == ()
        assert [r.vseq for r in desk.outbox.read(1, 100)] == [31]
    with Desk(tmp_path) as desk:
        assert desk.outbox.head() == 31


def test_too_many_verdicts_go_the_oldest_first(tmp_path):
    with Desk(tmp_path, max_bytes=400_000) as desk:
        for start in range(0, 1200, 200):
            desk.commit(*(verdict(start + n, detail="x" * 500) for n in range(200)))
        for _ in range(200):
            if desk.outbox.read(1, 1)[0].vseq > 1:
                break
            threading.Event().wait(0.02)
        oldest = desk.outbox.read(1, 1)[0].vseq
        assert 1 < oldest <= 1200
        assert Log(tmp_path).verify().problems == ()


def test_closing_writes_what_is_queued(tmp_path):
    desk = Desk(tmp_path)
    for n in range(500):
        desk.outbox.commit(verdict(n))
    desk.outbox.close()
    desk.outbox.close()
    assert len(desk.committed) == 500
    assert Log(tmp_path).head() == 500


def test_there_is_no_log_to_read_in_an_empty_folder(tmp_path):
    with pytest.raises(StoreFault, match="is not there"):
        Log(tmp_path)


def test_group_commit_writes_far_more_than_one_verdict_per_sync(tmp_path, capsys):
    count = 10_000
    with Desk(tmp_path) as desk:
        started = clock.now_ns()
        for n in range(count):
            desk.outbox.journal(head(n), 1)
            desk.outbox.commit(verdict(n))
        desk.wait(committed=count)
        seconds = (clock.now_ns() - started) / 1e9
        single = []
        for n in range(count, count + 100):
            started = clock.now_ns()
            desk.commit(verdict(n))
            single.append((clock.now_ns() - started) / 1e6)
    single.sort()
    sync = measure_sync(tmp_path, 100)
    with capsys.disabled():
        sys.stdout.write(
            f"\noutbox: {count / seconds:.0f} verdicts/s with their accept rows; one at a time "
            f"p50 {single[50]:.2f} p99 {single[98]:.2f} ms; bare commit of this disk "
            f"p50 {sync[0]:.2f} p99 {sync[1]:.2f} ms\n"
        )
    assert [row.vseq for row in desk.committed] == list(range(1, count + 101))
    assert count / seconds > 5 * 1000 / max(sync[0], 1.0)
