"""What every child process does first, and the limits it lives under."""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import signal
from collections.abc import Sequence
from pathlib import Path

from edge_inspector.errors import Breakage

PR_SET_PDEATHSIG = 1


def begin(
    name: str, argv: Sequence[str] | None, *descriptors: str, outlives_core: bool = False
) -> argparse.Namespace:
    """
    What core says on the command line: `channel_fd`, one `…_fd` a descriptor, and `config`.

    From here on Ctrl-C is core's, and the process ends with core unless it outlives it.
    """
    parser = argparse.ArgumentParser(prog=f"edge-inspector {name}")
    for descriptor in ("channel", *descriptors):
        parser.add_argument(f"--{descriptor}-fd", type=int, required=True)
    parser.add_argument("--config", required=True)
    arguments = parser.parse_args(argv)
    if not outlives_core:
        die_with_parent()
    ignore_interrupt()
    return arguments


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends (prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def ignore_interrupt() -> None:
    """Leave Ctrl-C to core, which stops its children in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def keep_to(cpus: Sequence[int]) -> None:
    """Run on these processors alone, every thread from now on; raises `Breakage`."""
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        named = ", ".join(map(str, cpus))
        raise Breakage(
            f"processors {named} cannot be kept to: {error.strerror}; set workers.pin = false"
        ) from error


def limit_memory(mib: int) -> None:
    """Cap the address space (RLIMIT_AS): an image bomb ends this process, not the box."""
    limit = mib * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def limit_growth(mib: int) -> None:
    """Cap the address space at what is mapped now and `mib` more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit_memory(pages * resource.getpagesize() // (1024 * 1024) + mib)
