"""Time from starting the daemon to ready, and from SIGTERM to gone, with a warm engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_inspector import clock
from edge_inspector.studies.bench_pipeline import station_settings
from edge_inspector.studies.harness import Station, free_port
from edge_inspector.studies.processes import memory_mib
from edge_inspector.studies.tally import percentiles


def run(folder: Path, recipe: Path, *, rounds: int = 5) -> dict[str, Any]:
    """Start and stop a station `rounds` times; the first start is left out as cold."""
    ready_s: list[float] = []
    stop_s: list[float] = []
    memory: dict[str, float] = {}
    for number in range(rounds + 1):
        frames, verdicts = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
        station = Station(folder / str(number), station_settings(recipe, frames, verdicts, 1))
        station.start()
        memory = memory_mib(station.pid)
        asked = clock.now_ns()
        station.stop()
        if number:
            ready_s.append(station.startup_s)
            stop_s.append((clock.now_ns() - asked) / 1e9)
    return {
        "rounds": rounds,
        "ready_s": percentiles(ready_s),
        "stop_s": percentiles(stop_s),
        "rss_mb": memory,
    }
