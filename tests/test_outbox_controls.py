"""
Controls of "exactly one verdict" and "numbers without a gap": without its protection a log is caught.

The check is the one that the tests of the whole station end with.
"""

import pytest

from edge_inspector.outbox import Log, store
from edge_inspector.outbox.entries import as_stored
from edge_inspector.outbox.log import SCHEMA, stored
from edge_inspector.outbox.store import Store
from edge_inspector.records import Committed, FrameKey, Outcome, Verdict, chained
from tests.integration.line import check_log

UNIQUE = "unit_key TEXT NOT NULL UNIQUE"
NUMBER = "vseq INTEGER PRIMARY KEY"


def verdict(unit, outcome=Outcome.PASS):
    return Verdict(
        unit_key=f"t:s/0/{unit}",
        station="s",
        outcome=outcome,
        frames=(FrameKey("src", "e", unit),),
        recipe="bga",
        trigger_id=unit,
    )


OFFERED = [verdict(1), verdict(1, Outcome.FAIL), verdict(1), verdict(2)]
"""Two ignored duplicates between two units, one of them with another outcome."""


class CountedBySqlite(Store):
    """Leaves the numbers to AUTOINCREMENT; otherwise it does what the real one does."""

    def _commit(self, verdict: Verdict) -> Committed:
        db, unit_key = self._connection, verdict.unit_key
        row = "INSERT OR IGNORE INTO verdict VALUES(NULL, ?, 'pass', 0, '', 0, '')"
        db.execute(row, (unit_key,))
        if db.changes() != 1:
            known = "SELECT vseq, body, chain FROM verdict WHERE unit_key=?"
            ((number, body, chain),) = db.execute(known, (unit_key,))
            return stored(int(number), bytes(body), int(chain))
        vseq = db.last_insert_rowid()
        verdict, body = as_stored(verdict, vseq)
        chain = chained(self._chain, body)
        db.execute("UPDATE verdict SET body=?, chain=? WHERE vseq=?", (body, chain, vseq))
        self._newest, self._chain = vseq, chain
        return Committed(vseq=vseq, verdict=verdict, body=body, chain=chain)


def write(folder, *batches, kind=Store):
    """What the writer of a log answered to each verdict."""
    log = kind(folder / "state")
    log.open()
    answers = [answer for batch in batches for answer in log.write(batch).committed]
    log.close()
    return answers


def check(folder, answers):
    """The log is whole, and every answer for a unit is the one verdict that it has."""
    rows = {row.verdict.unit_key: row for row in check_log(folder)}
    assert len(rows) == 2
    for answer in answers:
        row = rows[answer.verdict.unit_key]
        assert (answer.vseq, answer.body, answer.chain) == (row.vseq, row.body, row.chain)


@pytest.fixture(params=["one batch", "a batch each"])
def batches(request):
    return [OFFERED] if request.param == "one batch" else [[one] for one in OFFERED]


def test_the_log_keeps_one_verdict_of_a_unit_and_counts_without_a_gap(tmp_path, batches):
    answers = write(tmp_path, *batches)
    check(tmp_path, answers)
    assert [answer.vseq for answer in answers] == [1, 1, 1, 2]


def test_no_number_is_told_before_its_verdict_is_on_disk(tmp_path):
    log = Store(tmp_path / "state")
    log.open()
    log.write([verdict(1)])
    log._write_rows([verdict(2), verdict(3)])
    assert log.head == 1
    log.close()


def test_where_the_unit_is_not_unique_it_gets_two_verdicts(tmp_path, batches, monkeypatch):
    assert UNIQUE in SCHEMA
    monkeypatch.setattr(store, "SCHEMA", SCHEMA.replace(UNIQUE, UNIQUE.removesuffix(" UNIQUE")))
    answers = write(tmp_path, *batches)
    assert [answer.verdict.outcome for answer in answers[:2]] == [Outcome.PASS, Outcome.FAIL]
    assert [answer.vseq for answer in answers] == [1, 2, 3, 4]
    with pytest.raises(AssertionError):
        check(tmp_path, answers)


def test_numbers_of_autoincrement_have_gaps(tmp_path, batches, monkeypatch):
    assert NUMBER in SCHEMA
    monkeypatch.setattr(store, "SCHEMA", SCHEMA.replace(NUMBER, f"{NUMBER} AUTOINCREMENT"))
    answers = write(tmp_path, *batches, kind=CountedBySqlite)
    assert [answer.vseq for answer in answers] == [1, 1, 1, 4]
    assert Log(tmp_path / "state").verify().problems == ("vseq 2 to 3 are missing",)
    with pytest.raises(AssertionError):
        check(tmp_path, answers)


def test_the_crippled_writer_is_caught_for_its_numbers_alone(tmp_path, monkeypatch):
    """Without duplicates it writes a log that nothing is wrong with."""
    monkeypatch.setattr(store, "SCHEMA", SCHEMA.replace(NUMBER, f"{NUMBER} AUTOINCREMENT"))
    check(tmp_path, write(tmp_path, [verdict(1), verdict(2)], kind=CountedBySqlite))
