"""
Whether a unit is in flight: one byte in memory that core writes and delivery reads.

An anonymous memfd, so nothing is left behind. It is a hint for when to do what can wait.
"""

from __future__ import annotations

import mmap
import os


def create() -> int:
    """The memory, which says that no unit is in flight; the descriptor is inheritable."""
    fd = os.memfd_create("edge-inspector-gauge", os.MFD_CLOEXEC)
    os.ftruncate(fd, mmap.PAGESIZE)
    os.set_inheritable(fd, True)
    return fd


class Gauge:
    """A mapping of the memory; only core writes."""

    def __init__(self, fd: int, *, writable: bool) -> None:
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self._map = mmap.mmap(fd, mmap.PAGESIZE, flags=mmap.MAP_SHARED, prot=access)
        self._said = self.busy

    @property
    def busy(self) -> bool:
        """Whether a unit is in flight."""
        return self._map[0] != 0

    def say(self, busy: bool) -> None:
        """Write where it changes."""
        if busy != self._said:
            self._said = busy
            self._map[0] = busy

    def close(self) -> None:
        """Unmap."""
        self._map.close()
