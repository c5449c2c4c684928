"""
Durations in buckets that grow with them (the HDR histogram of Gil Tene), for any percentile.

Whatever is counted, for however long, takes the same memory and is known to 1 part in 128.
"""

from __future__ import annotations

import math

BITS = 7
"""Buckets for each power of two: 2**BITS, so that none is wider than its start / 2**BITS."""
LONGEST_US = 2**32 - 1
"""71 minutes; what takes longer counts as that."""
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999, "p99_99": 0.9999, "max": 1.0}


class Histogram:
    """Microseconds, counted; one thread writes, others may read."""

    def __init__(self) -> None:
        self.count = 0
        self.total_us = 0
        self.longest_us = 0
        self._counts = [0] * (_bucket(LONGEST_US) + 1)

    def record(self, spent_us: int) -> None:
        """Count one duration; below 0, where clocks of two processors differ, it is 0."""
        if not 0 <= spent_us <= LONGEST_US:
            spent_us = 0 if spent_us < 0 else LONGEST_US
        self._counts[_bucket(spent_us)] += 1
        self.count += 1
        self.total_us += spent_us
        if spent_us > self.longest_us:
            self.longest_us = spent_us

    def quantile_us(self, share: float) -> int:
        """The duration that this share of all is not above, at most 1/128 too long; 0 of nothing."""
        wanted, passed = math.ceil(share * self.count), 0
        for bucket, count in enumerate(self._counts if self.count else ()):
            passed += count
            if passed >= wanted:
                return min(_end_us(bucket), self.longest_us)
        return self.longest_us

    def summary_ms(self) -> dict[str, float]:
        """The `QUANTILES`, in ms, and how many they are of."""
        found = {name: self.quantile_us(share) / 1000 for name, share in QUANTILES.items()}
        return {**found, "count": self.count}


def _bucket(spent_us: int) -> int:
    shift = spent_us.bit_length() - BITS - 1
    return (shift << BITS) + (spent_us >> shift) if shift > 0 else spent_us


def _end_us(bucket: int) -> int:
    """The longest duration that is counted in a bucket."""
    shift = max((bucket >> BITS) - 1, 0)
    return ((bucket - (shift << BITS) + 1) << shift) - 1
