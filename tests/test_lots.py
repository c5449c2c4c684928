"""Lots: every verdict counts once, in the lot that was begun before its time zero."""

import threading
from collections import Counter
from contextlib import closing

import apsw
import pytest

from edge_inspector import clock, lots
from edge_inspector.cli.main import main
from edge_inspector.errors import StoreFault
from edge_inspector.lots import LotBook, LotSink
from edge_inspector.outbox import Log, Outbox
from edge_inspector.outbox.entries import Trim
from edge_inspector.records import FrameKey, Outcome, Reason, Verdict

GOOD, BAD = (Outcome.PASS, None, None), (Outcome.FAIL, None, "missing")
LATE = (Outcome.UNINSPECTED, Reason.TIMEOUT, None)


class Line:
    """A store and what was committed to it; `judged` are units whose time zero is now."""

    def __init__(self, folder):
        self.folder = folder
        self.written = threading.Semaphore(0)
        self.number = 0
        self.outbox = Outbox(folder)
        self.outbox.open(
            on_batch=lambda _, committed: self.written.release(max(1, len(committed))),
            on_fault=lambda fault: None,
        )
        self.book = LotBook(folder)
        self.log = Log(folder)

    def judged(self, *units, zero_ns=None, **fields):
        zero_ns = clock.now_ns() if zero_ns is None else zero_ns
        for outcome, reason, defect_class in units:
            self.number += 1
            verdict = Verdict(
                unit_key=f"u:s/{self.number}",
                station="s",
                outcome=outcome,
                reason=reason,
                defect_class=defect_class,
                frames=(FrameKey("src", "e", self.number),),
                recipe="r",
                time_zero_ns=zero_ns,
                **fields,
            )
            self.outbox.commit(verdict)
        for _ in units:
            assert self.written.acquire(timeout=10)

    def count(self):
        while self.book.count(self.log):
            pass
        return {lot.lot: lot for lot in self.book.lots()}

    def close(self):
        self.book.close()
        self.log.close()
        self.outbox.close()


@pytest.fixture
def line(tmp_path):
    line = Line(tmp_path / "state")
    yield line
    line.close()


def test_units_are_of_the_lot_begun_before_their_time_zero(line):
    line.judged(GOOD, BAD)
    line.book.begin("A", "mia")
    captured_in_a_ns = clock.now_ns()
    line.judged(GOOD, GOOD, LATE)
    line.book.begin("B", "mia")
    line.judged(GOOD, BAD, BAD)
    line.judged(GOOD, zero_ns=captured_in_a_ns)  # it was on its way when B began
    found = line.count()
    assert list(found) == ["", "A", "B"]
    assert (found[""].units, found[""].passed, found[""].failed) == (2, 1, {"missing": 1})
    assert (found["A"].units, found["A"].passed, found["A"].uninspected) == (4, 3, {"timeout": 1})
    assert (found["B"].units, found["B"].passed, found["B"].failed) == (3, 1, {"missing": 2})
    assert found["B"].by == "mia"


def test_what_the_frames_name_beats_what_was_begun(line):
    line.book.begin("A", "mia")
    line.judged(GOOD, BAD, lot="B")
    line.judged(GOOD, lot="A")
    line.judged(GOOD)
    found = line.count()
    assert {name: (lot.units, bool(lot.began_utc_ns)) for name, lot in found.items()} == {
        "A": (2, True),
        "B": (2, False),
    }


def test_a_lot_that_is_begun_again_goes_on(line):
    for lot in ("A", "B", "A"):
        line.book.begin(lot, "mia")
        line.judged(GOOD, BAD)
    found = line.count()
    assert (found["A"].units, found["B"].units) == (4, 2)


def test_a_verdict_counts_once_however_often_and_from_wherever_it_is_counted(line, monkeypatch):
    monkeypatch.setattr(lots, "PAGE", 7)
    line.book.begin("A", "mia")
    line.judged(*[GOOD, BAD, LATE] * 50)

    def count():
        with closing(LotBook(line.folder, durable=False)) as book, closing(Log(line.folder)) as log:
            while book.count(log):
                pass

    counters = [threading.Thread(target=count) for _ in range(4)]
    for one in counters:
        one.start()
    for one in counters:
        one.join()
    found = line.count()["A"]
    assert (found.units, found.passed) == (150, 50)
    assert Counter(found.failed) + Counter(found.uninspected) == {"missing": 50, "timeout": 50}


def test_counts_outlive_what_retention_takes(line):
    line.judged(GOOD, BAD)
    line.count()
    line.outbox._entries.put(Trim(2))
    line.judged(GOOD)
    assert line.count()[""].units == 3


def test_a_log_that_begins_anew_is_counted_too(tmp_path, line):
    line.judged(GOOD, BAD, BAD)
    line.count()
    other = Line(tmp_path / "other")
    other.judged(GOOD)
    assert line.book.count(other.log) == 1
    other.close()
    assert sum(lot.units for lot in line.book.lots()) == 4


def test_a_defect_without_a_class_is_unnamed_which_is_not_unknown(line):
    line.judged((Outcome.FAIL, None, None), (Outcome.FAIL, None, "unknown"))
    assert line.count()[""].failed == {"unnamed": 1, "unknown": 1}


def test_a_running_station_counts_by_itself_and_the_rest_when_it_stops(line):
    sink = LotSink(line.folder)
    sink.open()
    line.judged(GOOD, BAD)
    give_up_ns = clock.now_ns() + 5e9
    while line.book.seen() < 2 and clock.now_ns() < give_up_ns:
        threading.Event().wait(0.05)
    assert line.book.seen() == 2
    line.judged(GOOD)
    sink.close()
    assert line.book.seen() == 3


def test_a_file_that_is_no_database_is_told(tmp_path):
    (tmp_path / lots.NAME).write_bytes(b"not a database, and long enough to be looked at" * 20)
    with pytest.raises(StoreFault, match=r"lots\.db"):
        LotBook(tmp_path)


def test_one_that_writes_meanwhile_is_waited_for(line):
    line.judged(GOOD)
    with closing(apsw.Connection(str(line.folder / lots.NAME))) as other:
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.3, other.execute, ["ROLLBACK"])
        timer.start()
        assert line.count()[""].units == 1
        timer.join()


@pytest.fixture
def station(tmp_path, line):
    path = tmp_path / "station.toml"
    path.write_text(
        'station = "s"\nrecipe = "recipe.toml"\nstore = "state"\n'
        '[[sources]]\ntype = "zmq-pull"\nname = "a"\nendpoint = "tcp://127.0.0.1:5599"\n'
    )
    return str(path)


def test_the_verb_begins_a_lot_and_shows_what_became_of_it(station, line, capsys):
    assert main(["lots", station, "--begin", "2026-47", "--by", "mia"]) == 0
    line.judged(GOOD, GOOD, GOOD, BAD)
    assert main(["lots", station]) == 0
    assert "4 verdicts are not counted yet" in capsys.readouterr().out
    line.count()
    assert main(["lots", station]) == 0
    told = capsys.readouterr().out
    assert "2026-47: 4 units, 3 passed (75.00%), 1 failed, 0 uninspected [1 missing]" in told
    assert "by mia" in told
    assert main(["lots", station, "--json"]) == 0
    assert '"failed":{"missing":1}' in capsys.readouterr().out


@pytest.mark.parametrize("lot", ["", "a b", "x" * 65, "a\n"])
def test_a_lot_needs_a_name(station, lot, capsys):
    assert main(["lots", station, "--begin", lot]) == 2
    assert "A-Z a-z 0-9" in capsys.readouterr().err
