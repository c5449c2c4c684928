"""What the incumbent said is on disk, the worst of a unit's frames, and never in the line's way."""

import threading

import apsw
import pytest

from edge_inspector.errors import StoreFault
from edge_inspector.observe import incumbents
from edge_inspector.observe.incumbents import Incumbents, confirm, read_confirmed, read_said
from edge_inspector.records import Baseline, Outcome

PASS, FAIL, NONE = Baseline(Outcome.PASS), Baseline(Outcome.FAIL, "dent"), Outcome.UNINSPECTED


def kept(folder, *said):
    writer = Incumbents(folder)
    for key, baseline in said:
        writer.say(key, baseline, 7)
    writer.close()
    return {key: (row.outcome, row.defect_class) for key, row in read_said(folder).items()}


def test_what_was_said_can_be_read_again_by_unit(tmp_path):
    assert kept(tmp_path, ("t:s/0/1", PASS), ("t:s/0/2", FAIL)) == {
        "t:s/0/1": (Outcome.PASS, None),
        "t:s/0/2": (Outcome.FAIL, "dent"),
    }
    assert read_said(tmp_path)["t:s/0/2"].said_ns == 7


@pytest.mark.parametrize("order", [(PASS, FAIL, PASS), (FAIL, PASS, PASS), (PASS, PASS, FAIL)])
def test_of_a_unit_with_several_frames_the_worst_counts(order, tmp_path):
    assert kept(tmp_path, *(("u", said) for said in order)) == {"u": (Outcome.FAIL, "dent")}


def test_uninspected_beats_pass_and_yields_to_fail(tmp_path):
    assert kept(tmp_path, ("u", PASS), ("u", Baseline(NONE)))["u"][0] is NONE
    assert kept(tmp_path, ("u", FAIL), ("u", Baseline(NONE)))["u"][0] is Outcome.FAIL


def test_a_store_where_nobody_said_anything_is_empty_and_stays_untouched(tmp_path):
    assert read_said(tmp_path) == {}
    assert read_confirmed(tmp_path) == frozenset()
    assert list(tmp_path.iterdir()) == []


def test_it_can_be_read_while_it_is_written(tmp_path):
    writer = Incumbents(tmp_path)
    writer.say("u", PASS, 1)
    while writer.written < 1:
        threading.Event().wait(0.005)
    assert set(read_said(tmp_path)) == {"u"}
    confirm(tmp_path, "u")
    writer.say("v", FAIL, 2)
    writer.close()
    assert set(read_said(tmp_path)) == {"u", "v"}
    assert read_confirmed(tmp_path) == {"u"}


def test_a_store_that_cannot_be_written_is_told_once_and_nothing_waits(tmp_path):
    (tmp_path / "file").write_text("")
    told = []
    writer = Incumbents(tmp_path / "file", lambda event, detail: told.append((event, detail)))
    for number in range(3):
        writer.say(f"u{number}", PASS, 1)
    writer.close()
    assert [event for event, _ in told] == ["incumbents_lost"] * 2, "at once, and with the count"
    assert "3 of 3 verdicts" in told[1][1]
    assert writer.dropped == 3
    assert writer.written == 0


def test_a_writer_that_is_held_up_drops_what_does_not_fit_and_counts_it(tmp_path):
    kept(tmp_path, ("before", PASS))
    other = apsw.Connection(str(tmp_path / incumbents.NAME))
    other.execute("BEGIN IMMEDIATE")
    writer = Incumbents(tmp_path)
    offered = 2 * incumbents.QUEUE + 1000  # one in the writer's hand, one in the queue
    for number in range(offered):
        writer.say(f"u{number}", PASS, 1)
    other.execute("ROLLBACK")
    other.close()
    writer.close()
    assert writer.dropped >= 1000
    assert writer.written == offered - writer.dropped


def test_rows_that_were_in_hand_when_the_store_failed_are_counted(tmp_path):
    told = []
    writer = Incumbents(tmp_path, lambda event, detail: told.append((event, detail)))
    writer.say("before", PASS, 1)
    while writer.written < 1:
        threading.Event().wait(0.005)
    with apsw.Connection(str(tmp_path / incumbents.NAME)) as other:
        other.execute("DROP TABLE said")
    writer.say("u", PASS, 1)
    writer.say("v", PASS, 1)
    writer.close()
    assert (writer.written, writer.dropped) == (1, 2)
    assert "2 of 3 verdicts" in told[1][1]


def test_the_oldest_go_when_there_are_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr(incumbents, "MAX_ROWS", 100)
    monkeypatch.setattr(incumbents, "TRIM_EVERY", 50)
    writer = Incumbents(tmp_path)
    for number in range(400):
        writer.say(f"u{number}", PASS, 1)
        while number % 20 == 19 and writer.written < number:
            threading.Event().wait(0.001)
    writer.close()
    known = read_said(tmp_path)
    assert "u399" in known
    assert "u0" not in known
    assert len(known) <= 200


def test_a_damaged_file_is_a_store_fault_with_its_name(tmp_path):
    (tmp_path / incumbents.NAME).write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreFault, match=incumbents.NAME):
        read_said(tmp_path)


@pytest.mark.parametrize("said", [0, 1])
def test_an_incumbent_that_never_says_anything_is_told_once(said, tmp_path):
    told = []
    writer = Incumbents(tmp_path, lambda event, _: told.append(event))
    for _ in range(said):
        writer.say("u", PASS, 1)
    for _ in range(3 * incumbents.FIRST_UNITS):
        writer.count()
    writer.close()
    assert told == ["incumbent_silent"] * (1 - said)
