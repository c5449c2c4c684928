"""Prometheus metrics of one station: seconds and counts, buckets around the latency budget."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from edge_inspector.records import Committed, Reason

PARTS_OF_BUDGET = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2)
"""Bucket edges: close together where a deadline is at stake."""


class Metrics:
    """What a station counts; labels are few and never an id."""

    def __init__(self, budget_ms: float, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._stages = Histogram(
            "edge_inspector_stage_duration_seconds",
            "Time of each stage of a unit; 'total' is from time zero to the commit.",
            ["stage"],
            buckets=[budget_ms / 1000 * part for part in PARTS_OF_BUDGET],
            registry=self.registry,
        )
        self._parts = Counter(
            "edge_inspector_parts_total",
            "Units by outcome.",
            ["verdict"],
            registry=self.registry,
        )
        self._dropped = Counter(
            "edge_inspector_frames_dropped_total",
            "Frames that were not judged, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self._degraded = Counter(
            "edge_inspector_degraded_total",
            "Units judged with a step left out, by step.",
            ["step"],
            registry=self.registry,
        )
        self._delivery = Counter(
            "edge_inspector_delivery_events_total",
            "What happened between the station and its line controllers.",
            ["event"],
            registry=self.registry,
        )
        self._missed = Counter(
            "edge_inspector_deadline_missed_total",
            "Units without a verdict at their deadline.",
            registry=self.registry,
        )
        self._depth = Gauge(
            "edge_inspector_outbox_depth",
            "Verdicts that a sink has still to take.",
            registry=self.registry,
        )

    def settled(self, row: Committed) -> None:
        """Count a committed verdict, once."""
        if not row.fresh:
            return
        verdict = row.verdict
        self._parts.labels(verdict.outcome.value).inc()
        for step in verdict.degraded:
            self._degraded.labels(step).inc()
        for stage, micros in verdict.stages_us.items():
            self._stages.labels(stage).observe(micros / 1e6)
        self._stages.labels("total").observe((row.committed_ns - verdict.time_zero_ns) / 1e9)
        if verdict.reason is Reason.TIMEOUT:
            self._missed.inc()
        if verdict.reason is not None:
            self._dropped.labels(verdict.reason.value).inc(len(verdict.frames))

    def dropped(self, reason: str, count: int = 1) -> None:
        """Count frames that never got as far as a verdict of their own."""
        self._dropped.labels(reason).inc(count)

    def delivered(self, event: str, count: int) -> None:
        """Count what delivery told."""
        self._delivery.labels(event).inc(count)

    def watch_outbox(self, depth: Callable[[], float]) -> None:
        """Ask `depth` for the number of waiting verdicts whenever the metrics are read."""
        self._depth.set_function(depth)
