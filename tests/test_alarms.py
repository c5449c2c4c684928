"""Too many rejects: when an alarm is raised, how long it holds, and what is left over a restart."""

import random

import pytest
from pydantic import ValidationError

from edge_inspector.alarms import NAME, AlarmSink, Raised, Reset, Tally, append, holding, read_from
from edge_inspector.records import Committed, FrameKey, Outcome, Verdict
from edge_inspector.resources import Alarms

STOP_AT_3 = Alarms.model_validate({"in_a_row": {"rejects": 3}})
RATE = Alarms.model_validate({"rate": {"share": 0.2, "window": 10, "action": "alarm"}})
GOOD, BAD, NONE = Outcome.PASS, Outcome.FAIL, Outcome.UNINSPECTED


def counted(limits, outcomes, first=1):
    """A tally after these outcomes, and the numbers of the verdicts that raised something."""
    tally = Tally(limits)
    return tally, feed(tally, outcomes, first)


def feed(tally, outcomes, first=1):
    return [
        (alarm.kind, alarm.vseq)
        for vseq, outcome in enumerate(outcomes, first)
        for alarm in tally.settled(vseq, outcome)
    ]


def row(vseq, outcome):
    verdict = Verdict(
        unit_key=f"u:s/{vseq}",
        station="s",
        outcome=outcome,
        frames=(FrameKey("src", "e", vseq),),
        recipe="r",
    )
    return Committed(vseq=vseq, verdict=verdict, body=b"", chain=0)


class TestInARow:
    def test_it_is_raised_by_the_last_of_the_row(self):
        tally, raised = counted(STOP_AT_3, [BAD, NONE, BAD])
        assert raised == [("in_a_row", 3)]
        assert tally.raised[0].text == "3 rejects in a row; the limit is 3"
        assert tally.state == "fault"

    def test_a_pass_between_begins_it_anew(self):
        tally, raised = counted(STOP_AT_3, [BAD, BAD, GOOD, BAD, BAD])
        assert raised == []
        assert tally.state == "ready"

    def test_what_is_not_inspected_is_a_reject(self):
        assert counted(STOP_AT_3, [NONE, NONE, NONE])[1]

    def test_it_holds_while_good_ones_come_and_is_not_raised_twice(self):
        tally, raised = counted(STOP_AT_3, [BAD] * 3 + [GOOD] * 50 + [BAD] * 9)
        assert len(raised) == 1
        assert tally.state == "fault"

    def test_after_a_reset_it_counts_from_nothing(self):
        tally, _ = counted(STOP_AT_3, [BAD] * 5)
        tally.reset(5)
        assert tally.state == "ready"
        assert feed(tally, [BAD, BAD, BAD], first=6) == [("in_a_row", 8)]

    def test_a_reset_ends_no_alarm_that_came_after_it(self):
        tally, _ = counted(STOP_AT_3, [GOOD, BAD, BAD, BAD])
        tally.reset(3)
        assert tally.state == "fault"

    def test_a_verdict_counts_once(self):
        tally = Tally(STOP_AT_3)
        assert [tally.settled(1, BAD) for _ in range(5)] == [[]] * 5


class TestRate:
    def test_it_is_raised_as_soon_as_the_rejects_exceed_their_share_of_a_window(self):
        tally, raised = counted(RATE, [BAD, GOOD, BAD, GOOD, BAD])
        assert raised == [("rate", 5)]
        assert tally.state == "degraded"
        assert "3 of the last 5 units" in tally.raised[0].text

    def test_the_share_itself_is_allowed(self):
        assert counted(RATE, ([BAD] * 2 + [GOOD] * 8) * 20)[1] == []

    @pytest.mark.parametrize("seed", range(5))
    def test_it_agrees_with_counting_the_window_anew(self, seed):
        rng = random.Random(seed)
        outcomes = [rng.choices([GOOD, BAD], [88, 12])[0] for _ in range(400)]
        tally = Tally(RATE)
        for vseq, outcome in enumerate(outcomes, 1):
            window = outcomes[max(0, vseq - 10) : vseq]
            assert bool(tally.settled(vseq, outcome)) == (window.count(BAD) > 2)
            tally.raised = []


class TestKept:
    @pytest.fixture
    def opened(self, tmp_path):
        sinks = []

        def open_sink(rows=(), limits=STOP_AT_3):
            sinks.append(AlarmSink(tmp_path, limits))
            sinks[-1].open(rows)
            return sinks[-1]

        yield open_sink
        for sink in sinks:
            sink.close()

    def test_a_stop_outlives_the_daemon(self, opened):
        sink = opened()
        for vseq in (1, 2, 3):
            sink.publish(row(vseq, BAD))
        sink.close()
        assert opened([row(n, GOOD) for n in (4, 5, 6)]).state == "fault"

    def test_a_row_goes_on_over_a_restart(self, opened):
        sink = opened([row(1, BAD), row(2, BAD)])
        assert sink.state == "ready"
        sink.publish(row(3, BAD))
        assert sink.state == "fault"

    def test_what_was_not_written_before_a_kill_is_found_in_the_log(self, opened, tmp_path):
        sink = opened([row(n, BAD) for n in (1, 2, 3)])
        assert sink.state == "fault"
        sink.close()
        assert [line.vseq for line in read_from(tmp_path / NAME, 0)[0]] == [3]

    def test_it_is_found_there_though_good_ones_followed(self, opened):
        rows = [row(n, BAD) for n in (1, 2, 3)] + [row(n, GOOD) for n in range(4, 200)]
        sink = opened()
        assert sink.reach > 1000
        sink.close()
        assert opened(rows[-sink.reach :]).state == "fault"

    def test_a_reset_by_another_process_is_heard(self, opened, tmp_path):
        sink = opened([row(n, BAD) for n in (1, 2, 3)])
        append(tmp_path / NAME, Reset("mia", 3, 1))
        sink.close()  # it looks a last time
        assert sink.state == "ready"
        assert opened([row(n, BAD) for n in (1, 2, 3)]).state == "ready"

    def test_a_log_that_begins_anew_makes_no_alarm_deaf(self, opened, tmp_path):
        append(tmp_path / NAME, Reset("mia", 5000, 1))
        sink = opened()
        for vseq in (1, 2, 3):
            sink.publish(row(vseq, BAD))
        assert sink.state == "fault"

    def test_lines_that_cannot_be_read_hide_no_others(self, tmp_path):
        path = tmp_path / NAME
        alarm = Raised("rate", "alarm", "many", 7, 1)
        append(path, alarm)
        with path.open("ab") as file:
            file.write(b'{"type":"reset","by":"cut sho')
        append(path, Reset("mia", 7, 2))
        lines, offset = read_from(path, 0)
        assert lines == [alarm, Reset("mia", 7, 2)]
        assert holding(lines) == ([], 7)
        assert read_from(path, offset) == ([], offset)

    def test_a_disk_that_takes_nothing_ends_no_alarm(self, opened, tmp_path):
        sink = opened([row(n, BAD) for n in (1, 2)])
        (tmp_path / NAME).mkdir()
        sink.publish(row(3, BAD))
        sink.close()
        assert sink.state == "fault"
        (tmp_path / NAME).rmdir()
        sink._turn()
        assert [line.vseq for line in read_from(tmp_path / NAME, 0)[0]] == [3]


@pytest.mark.parametrize(
    "wrong",
    [
        {"in_a_row": {"rejects": 1}},
        {"in_a_row": {"rejects": 3, "action": "pass"}},
        {"rate": {"share": 1.5}},
        {"rate": {"share": 0.1, "window": 5}},
        {"rows": 3},
    ],
)
def test_limits_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValidationError):
        Alarms.model_validate(wrong)
