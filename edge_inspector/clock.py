"""The only place that reads a clock: monotonic time decides, UTC is a label."""

import time
from datetime import datetime, timezone

NS_PER_MS = 1_000_000
NS_PER_US = 1_000


def now_ns() -> int:
    """Monotonic nanoseconds, the same clock in every process of one box."""
    return time.monotonic_ns()


def utc_ns() -> int:
    """UTC nanoseconds since 1970; never used for a decision."""
    return time.time_ns()


def cpu_ns() -> int:
    """Processor nanoseconds used by this process."""
    return time.process_time_ns()


def utc_text(ns: int) -> str:
    """UTC nanoseconds as ISO 8601 text with milliseconds."""
    return datetime.fromtimestamp(ns / 1e9, tz=timezone.utc).isoformat(timespec="milliseconds")
