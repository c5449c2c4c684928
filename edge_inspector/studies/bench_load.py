"""
A line in a process of its own that offers frames when they are due, whatever the daemon does.

    python -m edge_inspector.studies.bench_load URI --frames frames.npy --rate 500 --units 2000 …

A unit's time begins when it was due, so that what a busy generator delays is counted as latency.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_inspector import clock
from edge_inspector.client import FrameSource
from edge_inspector.settings import process_environment

SETTLE_MS = 5000
LEAD_NS = 100 * clock.NS_PER_MS
"""From the connection to the first unit."""


def start(
    endpoint: str,
    frames: Path,
    out: Path,
    *,
    units: int,
    first: int,
    rate_hz: float,
    budget_ms: float,
) -> subprocess.Popen[bytes]:
    """
    Start it: `units` units with trigger ids from `first`, the pictures of `frames` in turn.

    `out` gets two rows of monotonic instants: when each was due, when it was offered. With `rate_hz` 0 each is due as soon as
    fewer than `AHEAD` of those before are unsettled.
    """
    options = {"frames": frames, "out": out, "units": units, "first": first}
    words = [f"--{name}={value}" for name, value in options.items()]
    words += [f"--rate={rate_hz}", f"--budget-ms={budget_ms}"]
    return subprocess.Popen(
        [sys.executable, "-m", __name__, endpoint, *words],
        stdin=subprocess.DEVNULL,
        env=process_environment({"OMP_NUM_THREADS": "1"}),
    )


AHEAD = 8
"""What a recipe lets wait (`max_queue`), so that nothing is shed."""


def main(argv: list[str] | None = None) -> int:
    """Offer them all; 0 when each was settled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("endpoint")
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--units", type=int, required=True)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--budget-ms", type=float, default=500.0)
    args = parser.parse_args(argv)
    frames = np.load(args.frames)
    with FrameSource(args.endpoint, name="line", budget_ms=args.budget_ms) as source:
        due_and_offered = offer(source, frames, args.units, args.first, args.rate)
        settled = source.wait_all(SETTLE_MS)
    np.save(args.out, due_and_offered)
    return 0 if settled else 1


def offer(
    source: FrameSource, frames: NDArray[np.uint8], units: int, first: int, rate_hz: float
) -> NDArray[np.int64]:
    """Offer `units` frames; when each was due, and when it was offered."""
    due_ns, offered_ns = np.zeros((2, units), np.int64)
    begun_ns, sleep = clock.now_ns() + LEAD_NS, threading.Event()
    for number in range(units):
        if rate_hz:
            due_ns[number] = begun_ns + round(number * 1e9 / rate_hz)
            sleep.wait(max(0, int(due_ns[number]) - clock.now_ns()) / 1e9)
        else:
            while source.unsettled >= AHEAD:
                source.wait_all(1)
            due_ns[number] = clock.now_ns()
        offered_ns[number] = clock.now_ns()
        age_ms = float(offered_ns[number] - due_ns[number]) / clock.NS_PER_MS
        pixels = frames[number % len(frames)]
        source.offer(pixels, trigger_id=first + number, age_ms=age_ms, copy=False)
    return np.stack([due_ns, offered_ns])


if __name__ == "__main__":
    raise SystemExit(main())
