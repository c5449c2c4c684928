from __future__ import annotations

import math

import numpy as np
import pytest

from edge_inspector.errors import DataError
from edge_inspector.records import Outcome, Score
from edge_inspector.studies.calibrate import (
    Calibrated,
    calibrate,
    exceedances,
    set_aside,
    units_needed,
)
from edge_inspector.verdict import Evidence, decide

REGIONS = tuple(f"cell-{i}" for i in range(16))


def _good(rng: np.random.Generator, units: int, regions: int = 16) -> np.ndarray:
    """Raw scores with another level and spread in each region, skewed as reconstruction errors are."""
    level = np.linspace(0.1, 0.4, regions)
    return level * (1 + 0.1 * rng.gamma(6, 1, (units, regions)))


def _overkill(found: Calibrated, scores: np.ndarray) -> float:
    center = np.array([scale.center for scale in found.regions.values()])
    spread = np.array([scale.spread for scale in found.regions.values()])
    return float((((scores - center) / spread).max(axis=1) >= found.threshold).mean())


@pytest.mark.parametrize(
    ("units", "overkill", "allowed"),
    [(298, 0.01, -1), (299, 0.01, 0), (472, 0.01, 0), (473, 0.01, 1), (2994, 0.001, -1)],
)
def test_allowed_exceedances_are_the_exact_ones(units: int, overkill: float, allowed: int) -> None:
    assert exceedances(units, overkill, 0.95) == allowed


def test_units_needed_for_a_promise() -> None:
    assert units_needed(0.01) == 299
    assert units_needed(0.001) == 2995


@pytest.mark.parametrize("units", [300, 1000])
def test_realised_unit_overkill_keeps_the_promise_in_19_of_20_runs(units: int) -> None:
    rng = np.random.default_rng(11)
    population = _good(rng, 40_000)
    kept = 0
    for _ in range(60):
        found = calibrate(_good(rng, units), REGIONS, 0.01)
        assert not found.provisional
        assert found.promised_overkill <= 0.01
        kept += _overkill(found, population) <= 0.01
    assert kept >= 57


def test_few_units_promise_what_their_number_supports_and_are_provisional() -> None:
    rng = np.random.default_rng(12)
    population = _good(rng, 40_000)
    kept = 0
    for _ in range(60):
        found = calibrate(_good(rng, 60), REGIONS, 0.001)
        assert found.provisional
        assert found.promised_overkill == pytest.approx(1 - 0.05 ** (1 / found.units))
        kept += _overkill(found, population) <= found.promised_overkill
    assert kept >= 55


def test_threshold_is_no_larger_than_the_promise_needs() -> None:
    found = calibrate(_good(np.random.default_rng(13), 3000), REGIONS, 0.01)
    above = (found.unit_scores >= found.threshold).sum()
    assert above == exceedances(3000, 0.01, 0.95) > 15


def test_three_percent_of_defective_units_move_nothing() -> None:
    rng = np.random.default_rng(14)
    clean = _good(rng, 500)
    dirty = clean.copy()
    which = rng.choice(500, 15, replace=False)
    dirty[which, rng.integers(0, 16, 15)] *= 4
    before, after = (calibrate(scores, REGIONS, 0.01) for scores in (clean, dirty))
    assert before.set_aside == ()
    assert set(after.set_aside) == set(which)
    assert after.units == 485
    assert after.threshold == pytest.approx(before.threshold, rel=0.12)
    naive = float(np.quantile(after.unit_scores, 0.99))
    assert naive > 2 * after.threshold


def test_set_aside_units_come_worst_first() -> None:
    scores = np.random.default_rng(15).normal(size=200)
    scores[[7, 3, 11]] = (40, 60, 50)
    assert set_aside(scores).tolist() == [3, 11, 7]


def test_more_than_a_few_strange_units_are_not_set_aside() -> None:
    scores = np.random.default_rng(16).normal(size=200)
    scores[:20] = 50 + scores[:20]
    assert set_aside(scores).size == 0


@pytest.mark.parametrize("draw", ["normal", "exponential", "lognormal"])
def test_good_units_are_seldom_taken_for_defective(draw: str) -> None:
    rng = np.random.default_rng(17)
    runs = [getattr(rng, draw)(size=(300,)) for _ in range(100)]
    assert sum(set_aside(scores).size > 0 for scores in runs) <= 12


def test_one_unit_gives_a_provisional_threshold() -> None:
    found = calibrate(np.array([[0.3]]), ["joint"], 0.01)
    assert found.provisional
    assert found.promised_overkill == pytest.approx(0.95)
    assert found.regions["joint"].spread > 0
    assert found.unit_scores[0] < found.threshold


def test_equal_scores_have_a_spread() -> None:
    found = calibrate(np.zeros((50, 2)), ["a", "b"], 0.01)
    assert all(scale.spread > 0 for scale in found.regions.values())
    assert found.set_aside == ()


def test_no_unit_and_no_number_are_told() -> None:
    with pytest.raises(DataError, match="at least one good unit"):
        calibrate(np.empty((0, 1)), ["joint"], 0.01)
    with pytest.raises(DataError, match="unit 1, region 'b'"):
        calibrate(np.array([[0.0, 1.0], [0.0, math.nan]]), ["a", "b"], 0.01)


def test_verdicts_of_the_units_calibrated_with_agree_with_the_threshold() -> None:
    scores = _good(np.random.default_rng(18), 1000)
    found = calibrate(scores, REGIONS, 0.01)
    table = found.document(0.01, 0.95, "openvino", {"tiny": "0" * 64})
    for row, unit_score in zip(scores, found.unit_scores, strict=True):
        evidence = [
            Evidence(name, Score(float(raw)), None) for name, raw in zip(REGIONS, row, strict=True)
        ]
        failed = decide(evidence, table).outcome is Outcome.FAIL
        assert failed == (unit_score >= found.threshold)


def test_a_region_fused_by_both_counts_with_the_smaller_of_its_two_scores():
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(400, 2))
    names = ("a", "a rules")
    either = calibrate(scores, names, 0.05)
    both = calibrate(scores, names, 0.05, both=("a",))
    normalised = (scores - [both.regions[n].center for n in names]) / [
        both.regions[n].spread for n in names
    ]
    assert np.allclose(both.unit_scores, normalised.min(axis=1))
    assert np.allclose(either.unit_scores, normalised.max(axis=1))
    assert both.threshold < either.threshold


def test_rules_that_measure_nothing_on_most_units_keep_a_spread_that_leaves_engines_sharp():
    rng = np.random.default_rng(4)
    engine = rng.normal(size=500)
    rules = np.where(rng.random(500) < 0.15, rng.uniform(0, 1, 500), 0.0)
    alone = calibrate(engine[:, None], ("a",), 0.01).threshold
    together = calibrate(np.stack([engine, rules], 1), ("a", "a rules"), 0.01).threshold
    assert together < 2 * alone
