"""Teaching beside a running line: only what the line leaves, of processor and of memory."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import cv2

from edge_inspector.process import limit_growth

LOWEST = 19
SHARE = 0.5
"""Of the memory that is available at the start."""
LEAST_MIB, MOST_MIB = 4096, 16384
"""Of address space, which threads and runtimes reserve far more of than they use."""


def give_way() -> None:
    """
    Run only where nothing else wants to, this process and those it starts.

    Lowest priority, the kernel's idle class, and the session's group lowered too, as nice alone
    counts only within a session (sched(7), autogroup).
    """
    os.nice(LOWEST)
    with suppress(OSError):  # kernels without autogroups, and where it is off
        Path("/proc/self/autogroup").write_text(str(LOWEST))
    with suppress(OSError):  # some containers forbid it
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    cv2.setNumThreads(1)


def cap_memory() -> int:
    """Cap this process's memory, children each their own; MiB that it may grow by."""
    words = Path("/proc/meminfo").read_text(encoding="ascii").split()
    available = int(words[words.index("MemAvailable:") + 1]) // 1024
    growth = min(max(round(SHARE * available), LEAST_MIB), MOST_MIB)
    limit_growth(growth)
    return growth
