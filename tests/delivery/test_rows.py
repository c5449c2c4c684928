"""Letters: what the header of a VERDICT says, and where its body comes from."""

import msgspec
import pytest

from edge_inspector import clock
from edge_inspector.channel import Row
from edge_inspector.delivery.rows import PAGE, Rows
from edge_inspector.outbox import Log
from edge_inspector.records import Outcome, Reason, RegionVerdict
from edge_inspector.wire.assured import split, verify_verdict
from edge_inspector.wire.codes import CODES, NO_CLASS, Flag, outcome_of
from edge_inspector.wire.header import Header


@pytest.fixture
def rows(store):
    log = Log(store.folder)
    yield Rows(log, ("bridge", "void"))
    log.close()


def received(letter, flags=0):
    return split(letter.parts(flags, clock.now_ns()))


def test_the_header_tells_each_outcome(store, rows):
    for judged in (Outcome.PASS, Outcome.FAIL, *Reason):
        reason = judged if isinstance(judged, Reason) else None
        outcome = Outcome.UNINSPECTED if reason else judged
        (row,) = store.commit(outcome=outcome, reason=reason)
        header = received(*rows.take(row.vseq, 1)).header
        assert header.code == CODES[judged]
        assert outcome_of(header.code, header.complement) == (outcome, reason)


def test_the_header_sums_up_the_body_which_stays_as_it_was_stored(store, rows):
    regions = tuple(RegionVerdict(f"r{n}", Outcome.PASS, 0.5) for n in range(3))
    store.commit(regions=regions, trigger_id=2**64 - 1)
    (row,) = store.commit(defect_class="void", outcome=Outcome.FAIL, degraded=("baseline",))
    first, second = rows.take(1, 10)
    one, two = received(first).header, received(second, Flag.HISTORICAL)
    assert (one.roi_count, one.defect_class, one.trigger_id) == (3, NO_CLASS, 2**64 - 1)
    assert (one.station, one.recipe, one.flags) == (1, 1, 0)
    assert (two.header.seq, two.header.defect_class, two.header.trigger_id) == (2, 2, 2)
    assert two.header.flags == Flag.HISTORICAL | Flag.DEGRADED
    assert two.header.t_utc_ns == row.verdict.settled_utc_ns
    assert two.header.latency_us == row.verdict.latency_us
    assert bytes(two.metadata) == row.body
    assert verify_verdict(two, store.rows[0].chain) == row.verdict


def test_a_defect_class_that_is_not_listed_is_number_0(store, rows):
    store.commit(defect_class="scratch", outcome=Outcome.FAIL)
    assert received(*rows.take(1, 1)).header.defect_class == 0


def test_what_core_says_is_not_read_again(store, rows):
    (row,) = store.commit()
    rows.add(Row(1, row.body + b"\x00", row.chain))
    assert [letter.body for letter in rows.take(1, 5)] == [row.body + b"\x00"]


def test_a_row_that_core_did_not_say_is_read_from_the_log(store, rows):
    committed = store.commit(3)
    rows.add(Row(1, committed[0].body, committed[0].chain))
    rows.add(Row(3, committed[2].body, committed[2].chain))
    taken = [rows.take(number, 1)[0] for number in (1, 2, 3)]
    assert [letter.body for letter in taken] == [row.body for row in committed]


def test_rows_are_the_same_whatever_they_are_taken_in(store, rows):
    store.commit(3 * PAGE)
    taken, first = [], 1
    for count in (1, PAGE, 7, PAGE - 1, 2 * PAGE):
        taken += rows.take(first, count)
        first = taken[-1].vseq + 1
    assert [letter.body for letter in taken] == [row.body for row in store.rows[: len(taken)]]
    assert [letter.vseq for letter in rows.take(2, 3)] == [2, 3, 4]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x81\xa7outcome\xa4pass"[:-1],
        msgspec.msgpack.encode({"outcome": "uninspected"}),
        b"\x81\xa4rois" + b"\x91" * 5000,
    ],
)
def test_a_body_that_cannot_be_read_goes_out_as_a_reject(rows, body):
    rows.add(Row(1, body, 7))
    header: Header = rows.take(1, 1)[0].header
    assert outcome_of(header.code, header.complement) == (
        Outcome.UNINSPECTED,
        Reason.STORE_FAULT,
    )


def test_what_retention_took_is_told_with_the_chain_value_that_goes_on(store, rows):
    committed = store.commit(10)
    assert rows.gone(1) is None
    store.trim(6)
    gone = rows.gone(3)
    assert (gone.first, gone.last, gone.chain) == (3, 6, committed[5].chain)
    assert rows.gone(7) is None
    assert [letter.vseq for letter in rows.take(3, 2)] == [7, 8]
