"""What a line controller remembers of a verdict log: which numbers, and how late messages came."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

WINDOW_NS = 10_000_000_000
"""Two clocks that differ by 100 ppm part by 1 ms in this time."""


class Numbers:
    """
    Numbers that are there: 0 to `upto`, and ranges above it.

    Each range keeps the chain value of its last number, so that it can be seen later whether a
    log goes on from there or is another one.
    """

    def __init__(self, upto: int, chain: int) -> None:
        self._firsts = [0]
        self._lasts = [upto]
        self._chains = [chain]

    def __contains__(self, number: int) -> bool:
        return number <= self._lasts[bisect_right(self._firsts, number) - 1]

    @property
    def upto(self) -> int:
        """All up to this number are there."""
        return self._lasts[0]

    @property
    def chain(self) -> int:
        """Chain value at `upto`."""
        return self._chains[0]

    @property
    def top(self) -> int:
        """The highest number that is there."""
        return self._lasts[-1]

    def end(self, number: int) -> int:
        """Last of the range that holds `number`, or the number before where none does."""
        last = self._lasts[bisect_right(self._firsts, number) - 1]
        return last if last >= number else number - 1

    def missing(self, first: int, last: int) -> int:
        """How many from `first` to `last` are not there."""
        there = sum(
            max(0, min(end, last) - max(start, first) + 1)
            for start, end in zip(self._firsts, self._lasts, strict=True)
        )
        return max(0, last - first + 1 - there)

    def add(self, first: int, last: int, chain: int) -> None:
        """Take in a range, the chain value at its last number with it; ranges that touch merge."""
        low = bisect_left(self._lasts, first - 1)
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first = min(first, self._firsts[low])
            if self._lasts[high - 1] >= last:
                last, chain = self._lasts[high - 1], self._chains[high - 1]
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]
        self._chains[low:high] = [chain]


class Transit:
    """
    How much longer a message took than the quickest of the last 10 to 20 s.

    The clocks of both ends are never compared: only how their difference grows counts. So what
    waited in a buffer, or in a process that was stopped, is not young again when it is read; a
    delay that every message has is not seen.
    """

    def __init__(self) -> None:
        self._since_ns: int | None = None
        self._quickest = 0
        self._before = 0

    def late_ns(self, sent_ns: int, received_ns: int) -> int:
        """Nanoseconds beyond the quickest, for the sender's and the receiver's monotonic time."""
        took = received_ns - sent_ns
        if self._since_ns is None:
            self._since_ns, self._quickest, self._before = received_ns, took, took
        elif received_ns - self._since_ns >= WINDOW_NS:
            self._since_ns, self._quickest, self._before = received_ns, took, self._quickest
        self._quickest = min(self._quickest, took)
        return took - min(self._quickest, self._before)
