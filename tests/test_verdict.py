"""Only evidence that was calibrated and stays below its threshold passes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_inspector.recipe import Calibration, Scale
from edge_inspector.records import Outcome, Reason, Score
from edge_inspector.verdict import Evidence, decide, severity


def calibration(threshold=3.0, **regions):
    return Calibration(
        threshold=threshold,
        overkill=0.01,
        promised_overkill=0.01,
        units=300,
        backend="fake",
        engines={},
        regions={name: Scale(center=c, spread=s) for name, (c, s) in regions.items()},
    )


def found(region, raw, *, rules=False, defect_class=None):
    return Evidence(
        region, Score(raw, defect_class=defect_class, box=(1, 2, 3, 4)), (5, 6, 7, 8), rules
    )


def test_a_score_below_the_threshold_passes_and_one_at_it_fails():
    limits = calibration(3.0, a=(10.0, 2.0))
    assert decide([found("a", 15.99)], limits).outcome is Outcome.PASS
    assert decide([found("a", 16.0)], limits).outcome is Outcome.FAIL


def test_the_worst_region_decides_and_names_its_place():
    limits = calibration(3.0, a=(0.0, 1.0), b=(0.0, 10.0))
    answer = decide([found("a", 2.0), found("b", 50.0)], limits)
    assert (answer.outcome, answer.anomaly_score, answer.threshold) == (Outcome.FAIL, 5.0, 3.0)
    assert "'b' at x 5, y 6, 7 x 8 px" in answer.detail
    assert [region.outcome for region in answer.regions] == [Outcome.PASS, Outcome.FAIL]


def test_a_defect_without_a_name_is_unknown():
    assert decide([found("a", 9.0)], calibration(3.0, a=(0, 1))).defect_class == "unknown"


def test_rules_reject_from_one_on_without_calibration():
    assert decide([found("a", 0.99, rules=True)], None).outcome is Outcome.PASS
    answer = decide([found("a", 1.0, rules=True, defect_class="missing")], None)
    assert (answer.outcome, answer.defect_class) == (Outcome.FAIL, "missing")


def test_a_failing_rule_beside_a_passing_engine_fails_the_frame():
    answer = decide([found("a", 0.0), found("r", 1.2, rules=True)], calibration(9.0, a=(0, 1)))
    assert (answer.outcome, answer.threshold) == (Outcome.FAIL, 1.0)


@pytest.mark.parametrize(
    ("evidence", "limits", "words"),
    [
        ([], calibration(), "no region"),
        ([found("a", 0.0)], None, "no threshold"),
        ([found("a", 0.0)], calibration(3.0, b=(0, 1)), "'a' is not calibrated"),
        ([found("a", math.nan)], calibration(3.0, a=(0, 1)), "not a number"),
        ([found("a", -math.inf)], calibration(3.0, a=(0, 1)), "not a number"),
    ],
)
def test_evidence_that_cannot_be_compared_is_a_model_fault(evidence, limits, words):
    answer = decide(evidence, limits)
    assert (answer.outcome, answer.reason) == (Outcome.UNINSPECTED, Reason.MODEL_FAULT)
    assert words in answer.detail


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=5))
def test_pass_means_that_every_region_is_finite_and_below_the_threshold(raws):
    evidence = [found(f"r{i}", raw) for i, raw in enumerate(raws)]
    limits = calibration(3.0, **{f"r{i}": (0.0, 1.0) for i in range(len(raws))})
    passed = decide(evidence, limits).outcome is Outcome.PASS
    assert passed == all(math.isfinite(raw) and raw < 3.0 for raw in raws)


def test_fail_wins_over_uninspected_and_that_over_pass():
    assert sorted(Outcome, key=severity) == [Outcome.PASS, Outcome.UNINSPECTED, Outcome.FAIL]
