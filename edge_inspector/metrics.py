"""
What a station counts, for Prometheus: seconds and counts, buckets around the latency budget.

Each stage of a unit is counted twice: in the buckets of a Prometheus histogram, whose edges are
close together where a deadline is at stake, and in a histogram that knows its 99.99th percentile.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Info
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from edge_inspector import __version__
from edge_inspector.clock import NS_PER_US
from edge_inspector.histogram import QUANTILES, Histogram
from edge_inspector.records import Committed, Outcome, Reason, Verdict

PARTS_OF_BUDGET = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2)
STAGES = ("arrival", "queue", "decode", "cut", "infer", "decide", "handover", "commit", "publish")
"""What every unit goes through, in this order; `total` is from time zero to the commit."""


class Stage:
    """The times of one stage, counted up to each edge and to any percentile."""

    def __init__(self, edges_us: Sequence[int]) -> None:
        self.times = Histogram()
        self._edges_us = edges_us
        self._counts = [0] * (len(edges_us) + 1)

    def record(self, spent_us: int) -> None:
        """Count one unit."""
        self.times.record(spent_us)
        self._counts[bisect_left(self._edges_us, spent_us)] += 1

    def buckets(self) -> list[tuple[str, float]]:
        """Prometheus' cumulative counts: of units up to each edge, in seconds as text."""
        edges = [str(edge / 1e6) for edge in self._edges_us]
        return list(zip([*edges, "+Inf"], accumulate(map(float, self._counts)), strict=True))


class StageCollector(Collector):
    """The stages as Prometheus reads them."""

    def __init__(self, budget_ms: float) -> None:
        self._edges_us = [round(budget_ms * 1000 * part) for part in PARTS_OF_BUDGET]
        self.stages = {name: Stage(self._edges_us) for name in (*STAGES, "total")}

    def record(self, stage: str, spent_us: int) -> None:
        """Count one unit's time; what only some units go through begins with the first of them."""
        if (known := self.stages.get(stage)) is None:
            known = self.stages[stage] = Stage(self._edges_us)
        known.record(spent_us)

    def collect(self) -> Iterator[HistogramMetricFamily | GaugeMetricFamily]:
        """A histogram, and since the start of the station its percentiles up to the worst."""
        times = HistogramMetricFamily(
            "edge_inspector_stage_duration_seconds",
            "Time of each stage of a unit; 'total' is from time zero to the commit.",
            labels=["stage"],
        )
        worst = GaugeMetricFamily(
            "edge_inspector_stage_quantile_seconds",
            "Percentiles of each stage since the start, quantile 1 is the longest.",
            labels=["stage", "quantile"],
        )
        for name, stage in list(self.stages.items()):
            times.add_metric([name], stage.buckets(), stage.times.total_us / 1e6)
            for share in QUANTILES.values():
                seconds = stage.times.quantile_us(share) / 1e6
                worst.add_metric([name, str(share)], seconds)
        yield times
        yield worst


class Metrics:
    """What a station counts; labels are few and never an id."""

    def __init__(self, budget_ms: float, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._stages = StageCollector(budget_ms)
        self.registry.register(self._stages)
        Info("edge_inspector_build", "What runs.", registry=self.registry).info(
            {"version": __version__}
        )
        parts = Counter(
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
        self._outcomes = {one: parts.labels(one.value) for one in Outcome}
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
            "Units without a verdict on disk at their deadline, by where the unit was then.",
            ["stage"],
            registry=self.registry,
        )
        for stage in ("queue", "worker", "commit"):
            self._missed.labels(stage)
        self._depth = Gauge(
            "edge_inspector_outbox_depth",
            "Verdicts that a sink has still to take.",
            registry=self.registry,
        )

    def settled(self, row: Committed, published_ns: int) -> None:
        """Count a committed verdict, once, after everybody was told of it."""
        if not row.fresh:
            return
        verdict = row.verdict
        self._outcomes[verdict.outcome].inc()
        for step in verdict.degraded:
            self._degraded.labels(step).inc()
        for stage, spent_us in stage_times_us(verdict).items():
            self._stages.record(stage, spent_us)
        committed_ns = row.committed_ns
        self._stages.record("commit", (committed_ns - verdict.decided_ns) // NS_PER_US)
        self._stages.record("publish", (published_ns - committed_ns) // NS_PER_US)
        self._stages.record("total", (committed_ns - verdict.time_zero_ns) // NS_PER_US)
        if stage := missed_in(row):
            self._missed.labels(stage).inc()
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

    def stages_ms(self) -> dict[str, dict[str, float]]:
        """Percentiles and count of every stage that a unit went through since the start."""
        known = self._stages.stages.items()
        return {name: stage.times.summary_ms() for name, stage in known if stage.times.count}


def stage_times_us(verdict: Verdict) -> dict[str, int]:
    """
    The stages of a unit up to its verdict.

    Of a unit of one frame that was inspected also `handover`: what lies between the stages, on the
    way from process to process.
    """
    stages = verdict.stages_us
    if len(verdict.frames) != 1 or "infer" not in stages:
        return stages
    spent_us = (verdict.decided_ns - verdict.time_zero_ns) // NS_PER_US
    return {**stages, "handover": spent_us - sum(stages.values())}


def missed_in(row: Committed) -> Literal["", "queue", "worker", "commit"]:
    """
    Where a unit was at its deadline: waiting, with a worker, or on the way to the disk.

    Empty where it was in time, and for a unit that nobody could inspect.
    """
    verdict = row.verdict
    timed_out, stages = verdict.reason is Reason.TIMEOUT, verdict.stages_us
    if timed_out and ("decide" not in stages or verdict.decided_ns >= verdict.deadline_ns):
        return "worker" if "queue" in stages else "queue"
    late = row.committed_ns > verdict.deadline_ns and verdict.outcome is not Outcome.UNINSPECTED
    return "commit" if late or timed_out else ""
