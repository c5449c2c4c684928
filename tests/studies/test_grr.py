"""Attribute agreement: figures that are known, and what a study refuses to say."""

import numpy as np
import pytest

from edge_inspector.errors import DataError
from edge_inspector.records import Outcome
from edge_inspector.studies.agreement_rates import Rate, cohen, fleiss
from edge_inspector.studies.grr import Judgement, study

FLEISS_1971 = np.array(
    [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
)
"""Ten subjects, fourteen raters, five categories; kappa 0.210."""


def judged(unit, text, appraiser="A"):
    """One judgement a letter: p(ass), f(ail), u(ninspected)."""
    words = {"p": Outcome.PASS, "f": Outcome.FAIL, "u": Outcome.UNINSPECTED}
    return [Judgement(unit, appraiser, words[letter]) for letter in text]


def of(texts, appraiser="A"):
    return [one for unit, text in texts.items() for one in judged(unit, text, appraiser)]


def test_the_kappa_of_fleiss_is_that_of_the_known_table():
    found = fleiss(FLEISS_1971)
    assert found.value == pytest.approx(0.210, abs=0.0005)
    assert found.bounds is not None
    low, high = found.bounds
    assert low < 0.21 < high


def test_the_kappa_of_cohen_is_that_of_the_known_table():
    table = np.array([[20, 5], [10, 15]])
    tables = np.zeros((50, 2, 2), np.int64)
    pairs = [(a, b) for a in (0, 1) for b in (0, 1) for _ in range(table[a, b])]
    for row, (a, b) in enumerate(pairs):
        tables[row, a, b] = 1
    found = cohen(tables)
    assert found.value == pytest.approx(0.4)
    assert found.bounds is not None
    assert found.bounds[0] < 0.4 < found.bounds[1]
    assert cohen(tables) == found, "resampling is seeded"


def test_the_interval_of_resampled_units_covers_the_kappa_as_often_as_it_says():
    """Raters who agree with probability 0.9 on balanced units: kappa 0.8."""
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(60):
        truth, same = rng.integers(0, 2, 80), rng.random(80) < 0.9
        tables = np.zeros((80, 2, 2), np.int64)
        tables[np.arange(80), truth, np.where(same, truth, 1 - truth)] = 1
        bounds = cohen(tables).bounds
        assert bounds is not None
        covered += bounds[0] <= 0.8 <= bounds[1]
    assert 51 <= covered <= 60


def test_kappa_is_undefined_where_all_are_alike_and_has_no_interval_where_none_disagree():
    alike = fleiss(np.array([[3, 0], [3, 0]]))
    assert (alike.value, alike.bounds) == (None, None)
    agreed = fleiss(np.array([[3, 0], [0, 3]]))
    assert (agreed.value, agreed.bounds) == (1.0, None)


def test_rates_have_the_interval_of_the_handbook():
    rate = Rate(42, 50)  # appraiser A of the handbook's example: 84 %, 71 % to 93 %
    assert rate.value == pytest.approx(0.84)
    assert rate.bounds == pytest.approx((0.71, 0.93), abs=0.005)
    assert (Rate(0, 0).value, Rate(0, 0).bounds) == (None, None)


def test_within_counts_units_that_are_judged_alike_each_time():
    found = study(of({"1": "ppp", "2": "fff", "3": "pfp", "4": "p", "5": "fuf"}), {})
    (appraiser,) = found.appraisers
    assert (appraiser.units, appraiser.judgements, appraiser.uninspected) == (4, 12, 1)
    assert appraiser.within == Rate(3, 4), "failed or uninspected, it was not passed"
    assert found.torn == (("3", {"pass": 2, "fail": 1}),)
    assert found.single == 1
    assert appraiser.against is None


def test_against_the_reference_misses_and_false_alarms_are_counted_by_decision():
    texts = {"g1": "ppp", "g2": "ppf", "g3": "ppp", "b1": "fff", "b2": "fpf", "b3": "fff"}
    reference = {name: name.startswith("g") for name in texts}
    against = study(of(texts), reference).appraisers[0].against
    assert against is not None
    assert against.effectiveness == Rate(4, 6)
    assert (against.miss, against.false_alarm) == (Rate(1, 9), Rate(1, 9))
    assert against.kappa.value == pytest.approx(1 - 2 / 9)
    assert against.grade == "unacceptable"


@pytest.mark.parametrize(
    ("good", "grade"),
    [(["ppp"] * 20, "acceptable"), (["ppp"] * 18 + ["ppf"] * 2, "acceptable"),
     (["ppp"] * 17 + ["ppf"] * 3, "marginal"), (["ppp"] * 10 + ["pff"] * 10, "unacceptable")],
)  # fmt: skip
def test_the_grade_follows_the_handbook_s_table(good, grade):
    texts = {f"g{n}": text for n, text in enumerate(good)} | {"b": "fff"}
    reference = {name: name.startswith("g") for name in texts}
    against = study(of(texts), reference).appraisers[0].against
    assert against is not None
    assert against.grade == grade


def test_without_defective_units_there_is_no_grade():
    against = study(of({"g": "ppp"}), {"g": True}).appraisers[0].against
    assert against is not None
    assert against.grade == "unknown"


def test_two_appraisers_are_compared_unit_by_unit():
    ours = of({"1": "pp", "2": "ff", "3": "pp", "4": "ff"}, "A")
    theirs = of({"1": "pp", "2": "ff", "3": "fp", "5": "pp"}, "B")
    (pair,) = study(ours + theirs, {}).between
    assert pair.names == ("A", "B")
    assert pair.agreed == Rate(2, 3)
    assert pair.kappa.value == pytest.approx((5 / 6 - 1 / 2) / (1 - 1 / 2))


def test_the_spread_of_a_unit_s_score_is_pooled_within_units():
    scores = {"1": [1.0, 2.0, 3.0], "2": [10.0, 10.0], "3": [4.0]}
    given = [
        Judgement(unit, "A", Outcome.PASS, score)
        for unit, values in scores.items()
        for score in values
    ]
    assert study(given, {}).appraisers[0].score_spread == pytest.approx(np.sqrt((1.0 + 0.0) / 2))


def test_units_that_were_never_repeated_are_no_study():
    with pytest.raises(DataError, match=r"none of 2 units was judged twice .* 'ID#2'"):
        study(of({"1": "p", "2": "f"}), {})
