"""
Offer to committed and received verdict, measured from outside on a whole station, ASSURED both ways.

The load comes from a process of its own at a paced rate; what is counted is what the controller
received. `overhead` is the time from the offer to the received verdict without inference.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_inspector import clock
from edge_inspector.client import VerdictConsumer
from edge_inspector.outbox.log import Log
from edge_inspector.recipe import load_recipe
from edge_inspector.records import Reason, Verdict
from edge_inspector.studies.harness import Station, free_port, start_load
from edge_inspector.studies.tally import Tally, percentiles

QUIET_S = 2.0


@dataclass(slots=True)
class Stages:
    """Stage times and overhead of every verdict, ms."""

    ms: dict[str, list[float]] = field(default_factory=dict)
    beside_ns: dict[str, int] = field(default_factory=dict)
    """Unit id -> when its verdict was received, less inference and the rules beside it."""
    shed: int = 0

    def add(self, verdict: Verdict, received_ns: int) -> None:
        """Count one verdict."""
        stages = verdict.stages_us
        for name, spent_us in stages.items():
            self.ms.setdefault(name, []).append(spent_us / 1000)
        self.shed += verdict.reason is Reason.SHED
        if "infer" in stages and verdict.unit_id is not None:
            spent_us = stages["infer"] + stages.get("baseline", 0)
            self.beside_ns[verdict.unit_id] = received_ns - spent_us * 1000

    def overhead_ms(self, offered_ns: Mapping[str, int]) -> list[float]:
        """Offer to received verdict without inference, of every unit that was inspected."""
        return [
            (beside_ns - offered_ns[unit_id]) / 1e6
            for unit_id, beside_ns in self.beside_ns.items()
            if unit_id in offered_ns
        ]


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
    offered_ns: dict[str, int] = {}
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
    with (folder / "truth.jsonl").open(encoding="utf-8") as truth:
        for row in truth:
            unit = json.loads(row)
            tally.offer(unit["unit_id"], unit["label"])
            offered_ns[unit["unit_id"]] = unit["offered_mono_ns"]
    overhead_ms = percentiles(stages.overhead_ms(offered_ns))
    summary = tally.summary(Log(folder / "state").head())
    return {
        "units": units,
        "rate_hz": rate_hz,
        "offered": summary["offered"],
        "lost": max(len(tally.truth) - tally.verdicts, 0),
        "doubled": summary["doubled"],
        "missed": summary["timeouts"],
        "shed": stages.shed,
        "total_ms": summary["latency_ms"],
        "stages_ms": {name: percentiles(values) for name, values in stages.ms.items()},
        "overhead_p50_ms": overhead_ms["p50"],
        "overhead_p99_ms": overhead_ms["p99"],
        "throughput_hz": round(tally.verdicts / max((last - started) / 1e9, 1e-9), 1),
        "startup_s": round(station.startup_s, 3),
        "rss_mb": memory,
    }


def station_settings(recipe: Path, frames: str, verdicts: str, workers: int) -> dict[str, Any]:
    """One assured source, one line controller."""
    return {
        "station": "bench",
        "recipe": str(recipe.resolve()),
        "workers": {"count": workers},
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


def memory_mib(core: int) -> dict[str, float]:
    """Resident memory of core and of each of its children, MiB, by module name."""
    found = {"core": _resident(core)}
    for task in Path(f"/proc/{core}/task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            name = next(
                (w.decode().rpartition(".")[2] for w in words if b"edge_inspector." in w), child
            )
            found[name] = max(_resident(int(child)), found.get(name, 0.0))
    return found


def _resident(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0
