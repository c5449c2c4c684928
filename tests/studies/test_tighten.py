import numpy as np
import pytest

from edge_inspector.errors import Misuse
from edge_inspector.recipe import Calibration, Recipe, Region, Scale
from edge_inspector.studies.tighten import tighten


def recipe(threshold=8.0, units=40, overkill=0.01, **changes):
    calibration = Calibration(
        threshold=threshold, overkill=overkill, promised_overkill=0.072, units=units,
        provisional=True, backend="openvino", engines={"e": "d"},
        regions={"a": Scale(center=1.0, spread=0.5)},
    )  # fmt: skip
    values = {"product": "p", "version": 1, "latency_budget_ms": 100, "engines": {"e": "e/1"},
              "regions": (Region(name="a", rect=(0, 0, 8, 8), engine="e"),),
              "calibration": calibration}  # fmt: skip
    return Recipe.model_validate(values | changes)


def good(count, seed=3):
    """Scores as verdicts hold them."""
    return [round(float(score), 4) for score in np.random.default_rng(seed).normal(0, 1, count)]


def test_more_good_units_tighten_threshold_and_promise():
    scores = good(600)
    new = tighten(recipe(), scores)
    assert new.threshold < 8.0
    assert not new.provisional
    assert new.units == 600
    assert new.promised_overkill <= 0.01
    assert sum(score >= new.threshold for score in scores) <= 2
    assert new.regions == recipe().calibration.regions
    assert new.engines == recipe().calibration.engines


def test_a_sample_that_is_still_too_small_stays_provisional_with_a_better_promise():
    new = tighten(recipe(), good(120))
    assert new.provisional
    assert new.promised_overkill == pytest.approx(1 - 0.05 ** (1 / 120))
    assert new.threshold < 8.0


def test_what_would_let_more_through_is_refused_with_the_numbers():
    scores = good(600)
    with pytest.raises(Misuse, match=r"good units lie at or above the threshold 1\.5,") as refused:
        tighten(recipe(threshold=1.5), scores)
    assert "--loosen" in str(refused.value)
    loosened = tighten(recipe(threshold=1.5), scores, loosen=True)
    assert loosened.threshold > 1.5


def test_a_threshold_that_keeps_its_promise_is_never_raised():
    for seed in range(20):
        scores = good(400, seed)
        threshold = tighten(recipe(), scores).threshold
        assert tighten(recipe(threshold=threshold + 1e-3), scores).threshold <= threshold


def test_three_percent_defective_units_that_the_incumbent_missed_do_not_spoil_it():
    clean = tighten(recipe(), good(600))
    defects = np.random.default_rng(9).normal(25, 4, 18)
    spoilt = tighten(recipe(threshold=60.0), [*good(600), *map(float, defects)])
    assert spoilt.set_aside == 18
    assert spoilt.threshold == pytest.approx(clean.threshold)


def test_no_more_units_than_before_are_no_reason():
    with pytest.raises(Misuse, match="40 good units were observed and the threshold rests on 40"):
        tighten(recipe(), good(40))
    with pytest.raises(Misuse, match="0 good units"):
        tighten(recipe(), [])


def test_a_recipe_without_a_threshold_is_calibrated_first():
    with pytest.raises(Misuse, match="calibrate"):
        tighten(recipe(calibration=None), good(600))


def test_the_promise_holds_on_fresh_units_in_nineteen_of_twenty_runs():
    kept = 0
    for seed in range(60):
        new = tighten(recipe(threshold=60.0), good(500, seed))
        fresh = np.random.default_rng(1000 + seed).normal(0, 1, 20_000)
        kept += float(np.mean(fresh >= new.threshold)) <= new.promised_overkill
    assert kept >= 54, "95 % confidence means about 57 of 60"


def test_scores_are_compared_as_verdicts_round_them():
    new = tighten(recipe(), [1.0] * 400 + [0.5] * 400)
    assert 1.00005 < new.threshold < 1.0002
