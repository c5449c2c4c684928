"""A second inspector that judges the same frames, drives nothing, and must cost no verdict its deadline."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from edge_inspector import clock
from edge_inspector.protocols import Inspects
from edge_inspector.records import Baseline, Frame, Inspection

TIMES = 4
"""It may take as long as the inspection did; so many times that must be left before the deadline."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """Another recipe, ready: an older engine, or one that is to come."""

    inspector: Inspects

    def beside(self, frame: Frame, inspection: Inspection, due_ns: int | None) -> Inspection:
        """`inspection` with what the shadow says of the frame, unless its deadline is near."""
        started = clock.now_ns()
        needed_ns = TIMES * clock.NS_PER_US * sum(inspection.stages_us.values())
        if due_ns is not None and due_ns - started < needed_ns:
            return inspection
        seen = self.inspector.inspect(frame)
        said = Baseline(seen.outcome, seen.defect_class, seen.anomaly_score or 0.0)
        stages = {**inspection.stages_us, "shadow": (clock.now_ns() - started) // clock.NS_PER_US}
        return msgspec.structs.replace(inspection, shadow=said, stages_us=stages)
