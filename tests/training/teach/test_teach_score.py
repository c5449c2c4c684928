import numpy as np

from edge_inspector.training.teach_score import stand_apart


def test_a_unit_that_one_kind_of_evidence_is_sure_about_stands_apart():
    rng = np.random.default_rng(1)
    sure = rng.normal(size=120)
    sure[[4, 50, 51]] = 52
    noisy = {f"n{n}": 4 * rng.exponential(size=120) ** 1.3 for n in range(7)}
    assert stand_apart({"sure": sure}) == [4, 50, 51]
    assert stand_apart({"sure": sure, **noisy}) == [4, 50, 51]


def test_good_units_seldom_stand_apart_however_many_columns_there_are():
    rng = np.random.default_rng(2)
    alarms = [
        len(stand_apart({str(n): rng.standard_t(6, size=150) for n in range(32)}))
        for _ in range(60)
    ]
    assert sum(alarms) <= 6


def test_a_tenth_that_stands_apart_is_another_kind_of_good():
    rng = np.random.default_rng(3)
    scores = rng.normal(size=100)
    scores[:10] += 60
    assert stand_apart({"one": scores}) == []
