"""
Frame pixels in shared memory: one anonymous memfd cut into equal slots.

Core creates it and never maps it; ingest maps it to write, workers map it to read. Being
anonymous it leaves nothing behind, whatever is killed. Who may use a slot is core's bookkeeping.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable

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


class Ledger:
    """
    Core's book of slots: each is free, granted to ingest, or held by a frame.

    `send` hands slots to ingest and says whether it took them. Slots go back in handfuls, since
    each message costs ingest a wake-up.
    """

    def __init__(self, count: int, send: Callable[[tuple[int, ...]], bool]) -> None:
        self._free = set(range(count))
        self._granted: set[int] = set()
        self._handful = max(1, count // 4)
        self._send = send

    def grant(self) -> bool:
        """Hand all free slots to ingest; False when it does not take them."""
        if self._free and not self._send(tuple(self._free)):
            return False
        self._granted |= self._free
        self._free.clear()
        return True

    def taken(self, slot: int) -> None:
        """A frame came in this slot; it is no longer ingest's."""
        self._granted.discard(slot)

    def released(self, slot: int) -> None:
        """Nobody reads this slot any more."""
        self._free.add(slot)
        if len(self._free) >= self._handful:
            self.grant()

    def recall(self) -> None:
        """Ingest is gone, and with it whatever it was writing."""
        self._free |= self._granted
        self._granted.clear()
