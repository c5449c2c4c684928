"""
Offer to committed and received verdict, measured from outside on a whole station, ASSURED both ways.

The load comes from a process of its own at a paced rate; what is counted is what the controller
received. `overhead` is the time from the offer to the received verdict without inference, and
`socket_overhead` the same from when the daemon had the frame's first byte.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_inspector import clock
from edge_inspector.client import VerdictConsumer
from edge_inspector.metrics import STAGES, stage_times_us
from edge_inspector.outbox import measure_sync
from edge_inspector.outbox.log import Log
from edge_inspector.recipe import load_recipe
from edge_inspector.records import Reason, Verdict
from edge_inspector.studies.harness import Station, free_port, start_load
from edge_inspector.studies.processes import memory_mib
from edge_inspector.studies.tally import Tally, percentiles

QUIET_S = 2.0


@dataclass(slots=True)
class Stages:
    """Stage times and overhead of every verdict, ms."""

    ms: dict[str, list[float]] = field(default_factory=dict)
    beside_ns: dict[int, int] = field(default_factory=dict)
    """Trigger id -> when its verdict was received, less inference and what watches beside it."""
    socket_ms: list[float] = field(default_factory=list)
    """From the arrival of each of them."""
    shed: int = 0

    def add(self, verdict: Verdict, received_ns: int) -> None:
        """Count one verdict."""
        stages = stage_times_us(verdict)
        returned_us = (received_ns - verdict.decided_ns) // clock.NS_PER_US
        for name, spent_us in {**stages, "to_controller": returned_us}.items():
            self.ms.setdefault(name, []).append(spent_us / 1000)
        self.shed += verdict.reason is Reason.SHED
        if "infer" in stages and verdict.trigger_id is not None:
            spent_us = sum(stages.get(name, 0) for name in ("infer", "baseline", "shadow"))
            beside_ns = received_ns - spent_us * clock.NS_PER_US
            self.beside_ns[verdict.trigger_id] = beside_ns
            arrived_ns = verdict.time_zero_ns + stages["arrival"] * clock.NS_PER_US
            self.socket_ms.append((beside_ns - arrived_ns) / 1e6)

    def overhead_ms(self, offered_ns: Mapping[int, int]) -> list[float]:
        """Offer to received verdict without inference, of every unit that was inspected."""
        return [
            (beside_ns - offered_ns[trigger_id]) / 1e6
            for trigger_id, beside_ns in self.beside_ns.items()
            if trigger_id in offered_ns
        ]

    def table(self, log: Path) -> dict[str, dict[str, float]]:
        """
        Percentiles by stage, in a unit's order; `to_controller` is from the decision to receipt.

        `commit` and `publish`, which no verdict can tell of itself, are core's own in its `log`.
        """
        found = {name: percentiles(values) for name, values in self.ms.items()}
        found |= {n: f for n, f in core_stages_ms(log).items() if n in ("commit", "publish")}
        first = [name for name in STAGES if name in found]
        return {name: found[name] for name in (*first, *sorted(found.keys() - first))}


def run(
    folder: Path,
    recipe: Path,
    *,
    units: int,
    rate_hz: float,
    workers: int = 1,
    pool: int = 64,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Run `units` simulated BGA units at `rate_hz` through a station on loopback."""
    frames, verdicts = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    tally = Tally(budget_ms=load_recipe(recipe).latency_budget_ms)
    stages = Stages()
    settings = station_settings(recipe, frames, verdicts, workers)
    with (
        Station(folder, settings) as station,
        VerdictConsumer(verdicts, consumer="bench", start="live") as consumer,
    ):
        load = start_load(
            frames, folder / "truth.jsonl", units, rate_hz, seed=1, defect_rate=0.05, pool=pool
        )
        started = clock.now_ns()
        last = collect(load, consumer, tally, stages, units, progress)
        memory = memory_mib(station.pid)
    offered_ns = _offered(folder / "truth.jsonl", tally)
    overhead_ms = percentiles(stages.overhead_ms(offered_ns))
    summary = tally.summary(Log(folder / "state").head())
    sync_p50_ms, sync_p99_ms = measure_sync(folder)
    return {
        "units": units,
        "rate_hz": rate_hz,
        "workers": workers,
        "offered": summary["offered"],
        "lost": max(len(tally.truth) - tally.verdicts, 0),
        "doubled": summary["doubled"],
        "missed": summary["timeouts"],
        "late_passes": summary["late_passes"],
        "stale": summary["stale"],
        "shed": stages.shed,
        "total_ms": summary["latency_ms"],
        "stages_ms": stages.table(station.log_path),
        "overhead_p50_ms": overhead_ms["p50"],
        "overhead_p99_ms": overhead_ms["p99"],
        "overhead_ms": overhead_ms,
        "socket_overhead_ms": percentiles(stages.socket_ms),
        "sync_ms": {"p50": round(sync_p50_ms, 3), "p99": round(sync_p99_ms, 3)},
        "throughput_hz": round(tally.verdicts / max((last - started) / 1e9, 1e-9), 1),
        "startup_s": round(station.startup_s, 3),
        "rss_mb": memory,
    }


def station_settings(
    recipe: Path, frames: str, verdicts: str, workers: int, backends: Sequence[str] = ()
) -> dict[str, Any]:
    """One assured source, one line controller; runners where they are not the default ones."""
    return {
        "station": "bench",
        "recipe": str(recipe.resolve()),
        "workers": {"count": workers, **({"backends": list(backends)} if backends else {})},
        "sources": [{"name": "line", "type": "assured", "endpoint": frames}],
        "sinks": [{"type": "assured", "endpoint": verdicts}],
    }


def collect(
    load: subprocess.Popen[bytes],
    consumer: VerdictConsumer,
    tally: Tally,
    stages: Stages,
    units: int,
    progress: Callable[[int], None],
) -> int:
    """Receive until every unit has its verdict or nothing comes any more; when the last one came."""
    last = clock.now_ns()
    while tally.verdicts < units:
        delivered = consumer.receive(timeout_ms=100)
        now = clock.now_ns()
        if delivered is not None:
            last = now
            tally.receive(delivered.verdict, now)
            stages.add(delivered.verdict, now)
            progress(tally.verdicts)
        elif load.poll() is not None and now - last > QUIET_S * 1e9:
            break
    load.wait()
    return last


def core_stages_ms(log: Path) -> dict[str, dict[str, float]]:
    """What core says when it stops: percentiles of each stage of all its units; raises `KeyError`."""
    for line in reversed(log.read_text(encoding="utf-8").splitlines()):
        if '"stages_ms"' in line:
            found: dict[str, dict[str, float]] = json.loads(line)["stages_ms"]
            return found
    raise KeyError(f"{log}: core did not say its latency; it did not stop in order")


def _offered(truth: Path, tally: Tally) -> dict[int, int]:
    """Trigger id -> when the unit was offered; `tally` hears of each."""
    offered_ns: dict[int, int] = {}
    with truth.open(encoding="utf-8") as rows:
        for row in rows:
            unit = json.loads(row)
            tally.offer(unit["unit_id"], unit["label"])
            offered_ns[unit["trigger_id"]] = unit["offered_mono_ns"]
    return offered_ns
