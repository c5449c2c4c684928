"""
Counting what a line did: offered units and verdicts to lost, doubled, escapes, overkill, latency.

Pure; the demo, the benches and the tests count with the same code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_inspector.histogram import QUANTILES
from edge_inspector.records import UNNAMED, Outcome, Reason, Verdict

GOOD = "good"


@dataclass(slots=True)
class Calls:
    """How one inspector's answers compare with the truth."""

    good: int = 0
    defective: int = 0
    escapes: int = 0
    overkill: int = 0

    def add(self, label: str, outcome: Outcome) -> None:
        """Count one answer; anything but a pass is a reject."""
        passed = outcome is Outcome.PASS
        if label == GOOD:
            self.good += 1
            self.overkill += not passed
        else:
            self.defective += 1
            self.escapes += passed

    def summary(self) -> dict[str, float | int]:
        """Counts, and rates over the defective and the good units."""
        return {
            "escapes": self.escapes,
            "overkill": self.overkill,
            "escape_rate": round(self.escapes / self.defective, 5) if self.defective else 0.0,
            "overkill_rate": round(self.overkill / self.good, 5) if self.good else 0.0,
        }


@dataclass(slots=True)
class Tally:
    """Verdicts of one run, by unit id."""

    budget_ms: float
    truth: dict[str, str] = field(default_factory=dict)
    """Unit id -> label, of every unit that was offered."""
    vseqs: dict[str, set[int]] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    engine: Calls = field(default_factory=Calls)
    rules: Calls = field(default_factory=Calls)
    timeouts: int = 0
    late_passes: int = 0
    """Passed after the deadline."""
    stale: int = 0
    """Verdicts that came when they were not valid any more: a gate rejects."""

    def offer(self, unit_id: str, label: str) -> None:
        """A unit was sent to the line."""
        self.truth[unit_id] = label

    def receive(self, verdict: Verdict, received_ns: int) -> None:
        """A verdict reached the controller; one that it has seen is not counted again."""
        vseq = verdict.vseq
        unit_id = verdict.unit_id or verdict.unit_key
        seen = self.vseqs.setdefault(unit_id, set())
        if vseq in seen:
            return
        seen.add(vseq)
        if len(seen) > 1:
            return
        self.outcomes[verdict.outcome.value] += 1
        if verdict.outcome is Outcome.FAIL:
            self.classes[verdict.defect_class or UNNAMED] += 1
        self.timeouts += verdict.reason is Reason.TIMEOUT
        latency_ms = (received_ns - verdict.time_zero_ns) / 1e6
        self.latencies_ms.append(latency_ms)
        self.late_passes += verdict.outcome is Outcome.PASS and not verdict.deadline_met
        self.stale += latency_ms * 1000 >= verdict.valid_us
        label = self.truth.get(unit_id)
        if label is not None:
            self.engine.add(label, verdict.outcome)
            if verdict.baseline is not None:
                self.rules.add(label, verdict.baseline.outcome)

    @property
    def verdicts(self) -> int:
        """Units that have at least one verdict."""
        return len(self.vseqs)

    @property
    def doubled(self) -> int:
        """Units that got more than one verdict."""
        return sum(len(seen) > 1 for seen in self.vseqs.values())

    def summary(self, accepted: int) -> dict[str, Any]:
        """The run as one object; `lost` are accepted units whose verdict did not arrive."""
        return {
            "offered": len(self.truth),
            "accepted": accepted,
            "verdicts": self.verdicts,
            "lost": max(accepted - self.verdicts, 0),
            "doubled": self.doubled,
            "timeouts": self.timeouts,
            "late_passes": self.late_passes,
            "stale": self.stale,
            "outcomes": dict(self.outcomes),
            "defect_classes": dict(self.classes),
            "engine": self.engine.summary(),
            "rules": self.rules.summary(),
            "latency_ms": percentiles(self.latencies_ms),
            "budget_ms": self.budget_ms,
        }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Exact p50, p90, p99, p99.9, p99.99 and max; zeros where nothing was measured."""
    found = np.quantile(values or [0.0], list(QUANTILES.values()))
    return {name: round(float(value), 3) for name, value in zip(QUANTILES, found, strict=True)}
