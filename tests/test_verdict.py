"""Only evidence that was calibrated and stays below its threshold passes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_inspector.recipe import Calibration, Scale
from edge_inspector.records import Finding, Outcome, Reason, Score
from edge_inspector.verdict import Evidence, decide, explained, severity


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


def found(region, raw, *, kind="engine", fuse="either", defect_class=None):
    score = Score(raw, defect_class=defect_class, box=(1, 2, 3, 4))
    return Evidence(region, score, (5, 6, 7, 8), kind, fuse)


def tools(region, raw, fuse="either", calibration=None):
    """Tools whose worst finding has few words, and one that tells more."""
    off = "row 5 col 3: ball 0.31 mm off its place"
    findings = (
        Finding("position", raw, (9, 9, 2, 2), off, (0, 0.12)),
        Finding("mismatch", 2 * raw, (1, 1, 4, 4), "row 5 col 3: looks 0.8 like its template"),
    )
    score = explained(Score(raw, findings=findings), region, "tools", calibration)
    return Evidence(region, score, (5, 6, 7, 8), "tools", fuse)


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
    assert decide([found("a", 0.99, kind="rules")], None).outcome is Outcome.PASS
    answer = decide([found("a", 1.0, kind="rules", defect_class="missing")], None)
    assert (answer.outcome, answer.defect_class) == (Outcome.FAIL, "missing")


def test_a_failing_rule_beside_a_passing_engine_fails_the_frame():
    answer = decide([found("a", 0.0), found("r", 1.2, kind="rules")], calibration(9.0, a=(0, 1)))
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


def test_tools_say_what_they_measured_and_the_limit_they_learned():
    answer = decide([tools("U12", 2.6)], None)
    assert answer.detail == (
        "tools: U12 row 5 col 3: ball 0.31 mm off its place (limit learned 0.12) at x 5, y 6, "
        "7 x 8 px, score 2.6"
    )
    assert (answer.threshold, answer.defect_class) == (1.0, "position")
    assert answer.regions[0].spoke == "tools"


def test_calibrated_tools_share_the_threshold_and_name_the_limit_in_force():
    limits = calibration(4.0, **{"a": (0.0, 1.0), "a rules": (0.5, 0.25)})
    passed = decide([found("a", 0.0), tools("a", 1.49, calibration=limits)], limits)
    failed = decide([found("a", 0.0), tools("a", 1.5, calibration=limits)], limits)
    assert (passed.outcome, passed.regions[0].spoke) == (Outcome.PASS, "")
    assert (failed.outcome, failed.anomaly_score, failed.threshold) == (Outcome.FAIL, 4.0, 4.0)
    assert "(limit learned 0.18)" in failed.detail


@pytest.mark.parametrize(
    ("fuse", "engine", "measured", "outcome", "score", "spoke"),
    [
        ("either", 1.0, 0.5, "pass", 1.0, ""),
        ("either", 5.0, 0.5, "fail", 5.0, "engine"),
        ("either", 1.0, 5.5, "fail", 5.5, "tools"),
        ("either", 7.0, 5.5, "fail", 7.0, "engine+tools"),
        ("both", 5.0, 0.5, "pass", 0.5, ""),
        ("both", 1.0, 5.5, "pass", 1.0, ""),
        ("both", 7.0, 5.5, "fail", 5.5, "engine+tools"),
    ],
)
def test_the_recipe_says_whether_either_or_both_must_speak(
    fuse, engine, measured, outcome, score, spoke
):
    limits = calibration(3.0, **{"a": (0.0, 1.0), "a rules": (0.0, 1.0)})
    answer = decide([found("a", engine, fuse=fuse), tools("a", measured, fuse, limits)], limits)
    (region,) = answer.regions
    assert (region.outcome.value, region.score, region.spoke) == (outcome, score, spoke)
    assert (region.engine_score, region.rules_score) == (engine, measured)
    assert (answer.outcome, answer.anomaly_score) == (region.outcome, score)
    assert ("off its place" in answer.detail) == ("tools" in spoke)
    assert (f"(engine {engine:g}, rules {measured:g})" in answer.detail) == bool(spoke)


def test_what_tells_most_is_said_if_it_is_beyond_its_limit():
    limits = calibration(4.0, **{"a rules": (0.5, 0.25)})
    assert tools("a", 1.5, calibration=limits).score.defect_class == "position"
    assert tools("a", 1.4, calibration=limits).score.defect_class == "mismatch"
    assert tools("a", 0.1, calibration=limits).score.box == (1, 1, 4, 4)


def test_a_region_of_one_kind_of_evidence_says_nothing_of_another():
    (region,) = decide([found("a", 1.0)], calibration(3.0, a=(0.0, 1.0))).regions
    assert (region.engine_score, region.rules_score, region.detail) == (None, None, "")


def classified(raw, name, probability=0.91234, naming="named"):
    score = Score(raw, defect_class=name, probability=probability)
    return Evidence("a", score, (5, 6, 7, 8), naming=naming)


def test_a_classifier_gives_a_failed_region_its_class_and_probability():
    answer = decide([classified(9.0, "scratch")], calibration(3.0, a=(0.0, 1.0)))
    (region,) = answer.regions
    assert (answer.defect_class, region.defect_class, region.probability) == (
        "scratch",
        "scratch",
        0.9123,
    )
    assert answer.detail.startswith("engine: scratch (probability 0.912) in 'a' at x 5, y 6")


def test_a_class_fails_no_region_that_its_engine_passed():
    answer = decide([classified(1.0, "scratch")], calibration(3.0, a=(0.0, 1.0)))
    (region,) = answer.regions
    assert (answer.outcome, answer.defect_class) == (Outcome.PASS, None)
    assert (region.outcome, region.defect_class, region.probability) == (
        Outcome.PASS,
        "scratch",
        0.9123,
    )


def test_a_class_that_nobody_had_time_for_is_not_said_to_be_unknown():
    answer = decide([classified(9.0, None, None, "left out")], calibration(3.0, a=(0.0, 1.0)))
    assert (answer.outcome, answer.defect_class) == (Outcome.FAIL, None)
    assert answer.detail.startswith("engine: defect in 'a' at x 5, y 6")


@pytest.mark.parametrize(
    ("engine", "measured", "name"), [(9.0, 5.0, "scratch"), (5.0, 9.0, "position")]
)
def test_of_a_classifier_and_tools_the_one_names_that_counted_most(engine, measured, name):
    limits = calibration(3.0, **{"a": (0.0, 1.0), "a rules": (0.0, 1.0)})
    answer = decide([classified(engine, "scratch"), tools("a", measured)], limits)
    assert answer.defect_class == name
    assert (answer.regions[0].probability is None) == (name == "position")


def test_one_part_of_the_evidence_that_is_no_number_lets_nothing_through():
    limits = calibration(3.0, **{"a": (0.0, 1.0), "a rules": (0.0, 1.0)})
    answer = decide([found("a", 0.0, fuse="both"), tools("a", math.nan, "both")], limits)
    assert (answer.outcome, answer.reason) == (Outcome.UNINSPECTED, Reason.MODEL_FAULT)


def test_fail_wins_over_uninspected_and_that_over_pass():
    assert sorted(Outcome, key=severity) == [Outcome.PASS, Outcome.UNINSPECTED, Outcome.FAIL]
