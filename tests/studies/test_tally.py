"""Lost, doubled, escapes and overkill are counted per unit, whatever arrives how often."""

from edge_inspector.records import Baseline, FrameKey, Outcome, Reason, Verdict
from edge_inspector.studies.tally import Tally, percentiles


def verdict(vseq, unit, outcome=Outcome.PASS, **more):
    return Verdict(
        vseq=vseq,
        unit_key=f"u:s/{unit}",
        station="s",
        frames=(FrameKey("l", "e", vseq),),
        recipe="bga",
        unit_id=unit,
        outcome=outcome,
        **more,
    )


def test_a_run_is_summed_up():
    tally = Tally(budget_ms=50)
    for unit, label in (
        ("a", "good"),
        ("b", "missing"),
        ("c", "good"),
        ("d", "missing"),
        ("e", "good"),
    ):
        tally.offer(unit, label)
    fail = {"outcome": Outcome.FAIL, "defect_class": "missing"}
    tally.receive(verdict(1, "a", baseline=Baseline(Outcome.FAIL)), 2_000_000)
    tally.receive(verdict(2, "b", baseline=Baseline(Outcome.FAIL)), 4_000_000)
    tally.receive(verdict(3, "c", **fail), 6_000_000)
    tally.receive(verdict(4, "d", Outcome.UNINSPECTED, reason=Reason.TIMEOUT), 8_000_000)
    summary = tally.summary(accepted=5)
    assert summary["lost"] == 1
    assert summary["timeouts"] == 1
    assert summary["outcomes"] == {"pass": 2, "fail": 1, "uninspected": 1}
    assert summary["engine"] == {
        "escapes": 1,
        "overkill": 1,
        "escape_rate": 0.5,
        "overkill_rate": 0.5,
    }
    assert summary["rules"] == {
        "escapes": 0,
        "overkill": 1,
        "escape_rate": 0.0,
        "overkill_rate": 1.0,
    }
    assert summary["latency_ms"]["max"] == 8.0


def test_a_repeat_of_a_verdict_is_not_a_second_one_but_another_vseq_is():
    tally = Tally(budget_ms=50)
    tally.offer("a", "good")
    tally.receive(verdict(1, "a"), 1)
    tally.receive(verdict(1, "a"), 2)
    assert tally.doubled == 0
    tally.receive(verdict(2, "a"), 3)
    assert tally.doubled == 1
    assert tally.outcomes.total() == 1


def test_nothing_measured_has_zero_percentiles():
    names = ["p50", "p90", "p99", "p99_9", "p99_99", "max"]
    assert percentiles([]) == dict.fromkeys(names, 0.0)


def test_percentiles_are_those_of_the_values():
    values = [float(value) for value in range(10_001)]
    found = percentiles(values[::-1])
    assert found == {
        "p50": 5000.0,
        "p90": 9000.0,
        "p99": 9900.0,
        "p99_9": 9990.0,
        "p99_99": 9999.0,
        "max": 10_000.0,
    }


def test_what_comes_late_is_told_from_what_was_passed_late():
    tally = Tally(budget_ms=50)
    fresh = {"valid_us": 60_000, "deadline_met": True}
    tally.receive(verdict(1, "a", **fresh), 59_000_000)
    tally.receive(verdict(2, "b", **fresh), 60_000_000)
    tally.receive(verdict(3, "c", **(fresh | {"deadline_met": False})), 59_000_000)
    late = {"reason": Reason.TIMEOUT, "deadline_met": False, "valid_us": 60_000}
    tally.receive(verdict(4, "d", Outcome.UNINSPECTED, **late), 59_000_000)
    summary = tally.summary(accepted=4)
    assert (summary["late_passes"], summary["stale"]) == (1, 1)
