"""A steady rate: the n-th unit is due at start + n / rate, however long the ones before took."""

from __future__ import annotations

import threading

from edge_inspector import clock


class Pace:
    """Deadlines that do not drift; `rate_hz` None is no pace at all."""

    def __init__(self, rate_hz: float | None, stopping: threading.Event) -> None:
        self._period_ns = 0.0 if rate_hz is None else 1e9 / rate_hz
        self._stopping = stopping
        self._start_ns = clock.now_ns()
        self._passed = 0

    def wait(self) -> bool:
        """Sleep until the next one is due; False when it is time to stop."""
        due_ns = self._start_ns + round(self._passed * self._period_ns)
        self._passed += 1
        return not self._stopping.wait(max(0, due_ns - clock.now_ns()) / 1e9)
