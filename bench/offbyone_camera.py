"""The camera of the off-by-one drill: pictures with their unit's number, and faults from a seed."""

from __future__ import annotations

import random
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue

from bench.offbyone_reader import draw
from edge_inspector import clock
from edge_inspector.client import FrameSource
from edge_inspector.errors import Breakage
from edge_inspector.records import Pixels

FAULTS = ("dropped", "doubled", "swapped", "late", "frozen")
FAULT_RATE = 0.01
"""Of each kind."""
DEFECT_RATE = 0.1
BUDGET_MS = 400.0


class Camera(threading.Thread):
    """Offers the picture of each unit that the belt brings, with faults from a seed."""

    def __init__(self, endpoint: str, seed: int, fault_rate: float) -> None:
        super().__init__(name="camera", daemon=True)
        self.defective: dict[int, bool] = {}
        self.faults: dict[int, str] = {}
        self.fed_ns: dict[int, int] = {}
        self.refused = 0
        self._chance = random.Random(seed)
        self._fault_rate = fault_rate
        self._source = FrameSource(endpoint, name="line", budget_ms=BUDGET_MS)
        self._units: SimpleQueue[int] = SimpleQueue()
        self._frozen: Pixels | None = None
        self._swapped: int | None = None
        self._later: list[tuple[int, int]] = []
        self._over = threading.Event()

    def feed(self, trigger_id: int) -> None:
        """A unit is before the camera."""
        chance = self._chance
        self.defective[trigger_id] = chance.random() < DEFECT_RATE
        if chance.random() < self._fault_rate * len(FAULTS):
            self.faults[trigger_id] = chance.choice(FAULTS)
        self.fed_ns[trigger_id] = clock.now_ns()
        self._units.put(trigger_id)

    def run(self) -> None:
        """Until closed."""
        while not self._over.is_set():
            with suppress(Empty):
                self._show(self._units.get(timeout=0.01))
            now_ns = clock.now_ns()
            due = [trigger_id for at_ns, trigger_id in self._later if at_ns <= now_ns]
            self._later = [(at_ns, late) for at_ns, late in self._later if at_ns > now_ns]
            for trigger_id in due:
                self._offer(trigger_id)

    def close(self) -> None:
        """Let go of the source."""
        self._over.set()
        self.join()
        self._source.close()

    def _show(self, trigger_id: int) -> None:
        fault = self.faults.get(trigger_id)
        if fault == "late":
            late_ns = int((BUDGET_MS + 50) * clock.NS_PER_MS)
            self._later.append((self.fed_ns[trigger_id] + late_ns, trigger_id))
        elif fault == "swapped" and self._swapped is None:
            self._swapped = trigger_id
            return
        elif fault != "dropped":
            self._offer(trigger_id, frozen=fault == "frozen")
            if fault == "doubled":
                self._later.append((clock.now_ns() + 5 * clock.NS_PER_MS, trigger_id))
        if self._swapped is not None:
            first, self._swapped = self._swapped, None
            self._offer(first)

    def _offer(self, trigger_id: int, *, frozen: bool = False) -> None:
        pixels = draw(trigger_id, defective=self.defective[trigger_id])
        if frozen and self._frozen is not None:
            pixels = self._frozen
        self._frozen = pixels
        age_ms = (clock.now_ns() - self.fed_ns[trigger_id]) / clock.NS_PER_MS
        try:
            self._source.offer(pixels, trigger_id=trigger_id, age_ms=age_ms)
        except Breakage:
            self.refused += 1
