"""
Frame pixels in shared memory: one anonymous memfd cut into equal slots.

Core creates it and never maps it; ingest maps it to write, workers map it to read. Being
anonymous it leaves nothing behind, whatever is killed. Who may use a slot is core's bookkeeping.
"""

from __future__ import annotations

import mmap
import os

import numpy as np

from edge_inspector.records import Pixels


def create(slots: int, slot_bytes: int) -> int:
    """A memfd for `slots` frames of up to `slot_bytes` each; the descriptor is inheritable."""
    fd = os.memfd_create("edge-inspector-frames", os.MFD_CLOEXEC)
    os.ftruncate(fd, slots * slot_bytes)
    os.set_inheritable(fd, True)
    return fd


class Slots:
    """A mapping of the memfd in a child process."""

    def __init__(self, fd: int, slot_bytes: int, *, writable: bool) -> None:
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self._map = mmap.mmap(fd, 0, flags=mmap.MAP_SHARED, prot=access)
        self._bytes = np.frombuffer(self._map, dtype=np.uint8)
        self.slot_bytes = slot_bytes

    def __len__(self) -> int:
        return len(self._bytes) // self.slot_bytes

    def view(self, slot: int, size: int) -> Pixels:
        """The first `size` bytes of a slot, without a copy."""
        if not 0 <= slot < len(self) or not 0 <= size <= self.slot_bytes:
            raise ValueError(
                f"slot {slot} with {size} bytes; there are {len(self)} slots of {self.slot_bytes}"
            )
        start = slot * self.slot_bytes
        return self._bytes[start : start + size]

    def close(self) -> None:
        """Unmap; views must be gone."""
        self._bytes = np.empty(0, dtype=np.uint8)
        self._map.close()
