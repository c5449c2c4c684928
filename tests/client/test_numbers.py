"""What a line controller remembers: numbers as ranges, and how late messages came."""

from hypothesis import given
from hypothesis import strategies as st

from edge_inspector.client.numbers import Numbers, Transit

MS = 1_000_000


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(0, 8)), max_size=40),
    st.integers(0, 10),
    st.integers(1, 70),
)
def test_numbers_are_a_set(ranges, upto, probe):
    numbers, model = Numbers(upto, 0), set(range(upto + 1))
    for first, length in ranges:
        numbers.add(first, first + length, first + length)
        model |= set(range(first, first + length + 1))
    contiguous = min(set(range(100)) - model) - 1
    assert (probe in numbers) == (probe in model)
    assert (numbers.upto, numbers.top) == (contiguous, max(model))
    assert numbers.chain == (0 if contiguous == upto else contiguous)
    end = min(n for n in range(probe, 100) if n not in model) - 1
    assert numbers.end(probe) == end
    assert numbers.missing(probe, 75) == len(set(range(probe, 76)) - model)


def test_clocks_that_drift_apart_do_not_age_verdicts():
    """100 ppm over an hour are 360 ms, and no message is late by more than the window allows."""
    transit = Transit()
    late = [
        transit.late_ns(second * 1000 * MS, second * 1000 * MS + second * MS // 10)
        for second in range(3600)
    ]
    assert max(late) <= 2 * MS
    assert transit.late_ns(3600 * 1000 * MS, 3600 * 1000 * MS + 860 * MS) >= 499 * MS
