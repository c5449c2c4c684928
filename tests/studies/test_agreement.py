import itertools
import math

import numpy as np
import pytest

from edge_inspector.records import Outcome
from edge_inspector.studies.agreement import Pair, agree, curve, good_scores, mcnemar

PASS, FAIL, NONE = Outcome.PASS, Outcome.FAIL, Outcome.UNINSPECTED
_numbers = itertools.count(1)


def pair(ours, theirs, **fields):
    number = next(_numbers)
    values = {"our_class": None, "detail": "", "our_ms": 10.0, "settled_utc_ns": number}
    return Pair(
        unit_key=f"u:s/{number}", vseq=number, ours=ours, theirs=theirs, **(values | fields)
    )


def pairs(**counts):
    """`pf=3` is three units that pass here and fail there; `n` is uninspected, `x` no answer."""
    letters = {"p": PASS, "f": FAIL, "n": NONE, "x": None}
    return [pair(letters[k[0]], letters[k[1]]) for k, count in counts.items() for _ in range(count)]


def test_the_table_counts_ours_and_theirs():
    found = agree(pairs(pp=90, ff=5, fp=3, pf=2, nf=1, px=4))
    assert found.table == {(PASS, PASS): 90, (FAIL, FAIL): 5, (FAIL, PASS): 3, (PASS, FAIL): 2,
                           (NONE, FAIL): 1}  # fmt: skip
    assert (found.judged, found.only_ours, found.only_theirs, found.unanswered) == (100, 3, 2, 4)
    assert found.share is not None
    share, low, high = found.share
    assert share == 0.95
    assert low == pytest.approx(0.8872, abs=2e-4), "Clopper and Pearson for 95 of 100"
    assert high == pytest.approx(0.9836, abs=2e-4)


def test_mcnemar_is_the_exact_binomial_test():
    for b, c in [(0, 0), (1, 0), (3, 2), (10, 2), (40, 12), (700, 620)]:
        n, k = b + c, min(b, c)
        exact = min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
        assert mcnemar(b, c) == pytest.approx(exact, rel=1e-9)
        assert mcnemar(c, b) == mcnemar(b, c)
    assert agree(pairs(pp=50, fp=12)).p_value == pytest.approx(2 / 2**12)


def test_mcnemar_agrees_with_scipy():
    stats = pytest.importorskip(
        "scipy.stats",
        reason="McNemar's test is not compared with scipy's binomial test: scipy is missing",
    )
    for b, c in [(1, 6), (20, 9), (250, 311)]:
        assert mcnemar(b, c) == pytest.approx(stats.binomtest(b, b + c, 0.5).pvalue, rel=1e-9)


def test_where_nobody_answered_nothing_is_claimed():
    found = agree(pairs(px=7, fx=1))
    assert found.unanswered == 8
    assert (found.share, found.p_value, found.their_ms, found.curve) == (None, None, None, ())


def test_units_that_a_side_did_not_inspect_are_no_disagreement():
    found = agree(pairs(pp=10, nf=5, pn=5))
    assert (found.judged, found.only_ours, found.only_theirs) == (10, 0, 0)
    assert found.share is not None
    assert found.share[0] == 1.0


def test_confirmed_defects_are_counted_among_what_only_this_station_failed():
    seen = [*pairs(pp=5, fp=1), pair(FAIL, PASS, confirmed=True), pair(PASS, FAIL, confirmed=True)]
    assert agree(seen).confirmed == 1


def test_the_latency_of_both_sides_is_median_and_99th_percentile():
    seen = [pair(PASS, PASS, our_ms=float(ms), their_ms=2.0 * ms) for ms in range(1, 101)]
    found = agree([*seen, pair(PASS, None, our_ms=50.0)])
    assert found.our_ms == (50.0, 99.0)
    assert found.their_ms == (102.0, 200.0)


def test_the_curve_says_what_each_threshold_would_have_done():
    rng = np.random.default_rng(5)
    good, bad = rng.normal(0, 1, 400), rng.normal(6, 1, 40)
    seen = [pair(PASS, PASS, score=float(s)) for s in good]
    seen += [pair(FAIL, FAIL, score=float(s)) for s in bad]
    seen += [pair(NONE, FAIL), pair(PASS, None, score=100.0)]
    points = curve(seen)
    assert [p.threshold for p in points] == sorted({p.threshold for p in points})
    assert (points[0].rejected, points[0].caught) == (1.0, 1.0)
    for point in points:
        assert point.rejected == pytest.approx(np.mean(good >= point.threshold))
        assert point.caught == pytest.approx(np.mean(bad >= point.threshold))
    assert max(p.threshold for p in points) < 100, "a unit that nobody else judged says nothing"


def test_good_is_what_the_other_side_passed_and_nobody_found_defective():
    seen = [
        pair(PASS, PASS, score=1.0),
        pair(FAIL, PASS, score=2.0),
        pair(FAIL, PASS, score=9.0, confirmed=True),
        pair(FAIL, FAIL, score=8.0),
        pair(PASS, None, score=3.0),
        pair(NONE, PASS),
    ]
    assert good_scores(seen) == [1.0, 2.0]
