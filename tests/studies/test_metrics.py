from __future__ import annotations

import math

import numpy as np
import pytest

from edge_inspector.studies import metrics


def _cases(ties: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(5)
    cases = []
    for n in (3, 10, 60):
        for _ in range(3):
            bad = rng.random(n) < 0.3
            bad[:2] = (True, False)
            scores = rng.normal(size=n) + bad
            cases.append((scores.round(0) if ties else scores, bad))
    return cases


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_and_average_precision_are_scikit_learn_s(ties: bool) -> None:
    sklearn = pytest.importorskip(
        "sklearn.metrics",
        reason="our figures are not compared with those of scikit-learn and scipy: they are missing",
    )
    for scores, bad in _cases(ties):
        assert metrics.auroc(scores, bad) == pytest.approx(sklearn.roc_auc_score(bad, scores))
        assert metrics.average_precision(scores, bad) == pytest.approx(
            sklearn.average_precision_score(bad, scores)
        )


@pytest.mark.parametrize("ties", [False, True])
def test_confusion_at_best_f1_is_scikit_learn_s(ties: bool) -> None:
    sklearn = pytest.importorskip(
        "sklearn.metrics",
        reason="our figures are not compared with those of scikit-learn and scipy: they are missing",
    )
    for scores, bad in _cases(ties):
        threshold = metrics.best_f1_threshold(scores, bad)
        found = metrics.confusion(scores, bad, threshold)
        assert found["f1"] == pytest.approx(sklearn.f1_score(bad, scores >= threshold))
        best = max(sklearn.f1_score(bad, scores >= t) for t in np.unique(scores))
        assert found["f1"] == pytest.approx(best)
        assert found["recall"] == pytest.approx(sklearn.recall_score(bad, scores >= threshold))


@pytest.mark.parametrize(("events", "trials"), [(0, 1), (0, 300), (1, 300), (17, 40), (40, 40)])
def test_bounds_are_those_of_clopper_and_pearson(events: int, trials: int) -> None:
    stats = pytest.importorskip(
        "scipy.stats",
        reason="our figures are not compared with those of scikit-learn and scipy: they are missing",
    )
    low, high = metrics.interval(events, trials)
    reference = stats.binomtest(events, trials).proportion_ci(0.95, method="exact")
    assert low == pytest.approx(reference.low, abs=1e-9)
    assert high == pytest.approx(reference.high, abs=1e-9)


@pytest.mark.parametrize(("k", "n", "p"), [(0, 10, 0.1), (3, 10, 0.5), (40, 3000, 0.01)])
def test_binomial_sum_is_scipy_s(k: int, n: int, p: float) -> None:
    stats = pytest.importorskip(
        "scipy.stats",
        reason="our figures are not compared with those of scikit-learn and scipy: they are missing",
    )
    assert metrics.binomial_cdf(k, n, p) == pytest.approx(stats.binom.cdf(k, n, p), rel=1e-9)


def test_auroc_counts_ties_half() -> None:
    assert metrics.auroc([1, 1, 1, 1], [True, False, True, False]) == 0.5
    assert metrics.auroc([2, 1, 0], [True, False, False]) == 1.0
    assert metrics.auroc([0, 1, 2], [True, False, False]) == 0.0


def test_figures_without_one_kind_are_no_number() -> None:
    assert math.isnan(metrics.auroc([1, 2], [False, False]))
    assert math.isnan(metrics.average_precision([1, 2], [False, False]))
    assert math.isnan(metrics.confusion([1, 2], [False, False], 3)["recall"])


def test_scores_that_are_no_number_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        metrics.auroc([1, math.nan], [True, False])


@pytest.mark.parametrize(("overkill", "failed"), [(0.0, 0), (0.001, 0), (0.01, 2), (0.05, 10)])
def test_threshold_fails_exactly_the_share_of_good_units(overkill: float, failed: int) -> None:
    good = np.random.default_rng(2).normal(size=200)
    threshold = metrics.threshold_at(good, overkill)
    assert (good >= threshold).sum() == failed
    assert (good >= math.nextafter(threshold, -math.inf)).sum() == failed + 1


def test_tied_good_units_never_exceed_the_share() -> None:
    assert (np.ones(100) >= metrics.threshold_at(np.ones(100), 0.05)).sum() == 0


def test_reports_know_no_nan() -> None:
    report = {"a": [math.nan, 1 / 3], "b": {"c": 2, "d": math.inf}}
    assert metrics.rounded(report, 3) == {"a": [None, 0.333], "b": {"c": 2, "d": None}}
