"""Percentiles from buckets are those of the durations themselves, to 1 part in 128."""

import numpy as np
import pytest

from edge_inspector.histogram import LONGEST_US, QUANTILES, Histogram

FINEST = 1 / 128


def counted(spent_us):
    histogram = Histogram()
    for one in spent_us:
        histogram.record(int(one))
    return histogram


@pytest.mark.parametrize("share", [0.01, *QUANTILES.values()])
@pytest.mark.parametrize("shape", ["stage times", "all over", "a few", "equal"])
def test_a_percentile_is_that_of_the_durations(share, shape):
    rng = np.random.default_rng(3)
    spent_us = {
        "stage times": rng.lognormal(6.5, 0.8, 30_000),
        "all over": 10 ** rng.uniform(0, 9, 30_000),
        "a few": np.array([3, 1000, 70_000]),
        "equal": np.full(1000, 12_345),
    }[shape].astype(np.int64)
    exact = np.quantile(spent_us, share, method="inverted_cdf")
    found = counted(spent_us).quantile_us(share)
    assert exact <= found <= exact * (1 + FINEST)


def test_the_longest_is_known_exactly_and_so_is_the_sum():
    histogram = counted([1_000_003, 7, 250])
    assert histogram.quantile_us(1.0) == histogram.longest_us == 1_000_003
    assert (histogram.count, histogram.total_us) == (3, 1_000_260)


def test_each_duration_up_to_256_us_has_a_bucket_of_its_own():
    for spent_us in range(256):
        histogram = counted([spent_us, 10_000])
        assert histogram.quantile_us(0.5) == spent_us


def test_what_is_too_long_or_negative_is_counted_at_the_end():
    histogram = counted([-5, 2**40])
    assert (histogram.quantile_us(0.5), histogram.quantile_us(1.0)) == (0, LONGEST_US)


def test_of_nothing_there_are_zeros():
    assert set(Histogram().summary_ms().values()) == {0}
