"""
How a station scales: units a second against workers, regions of a frame and its size.

For each station first as much as it takes with a few frames ahead, then an open load at shares of
that, beyond what it can do: what is shed, late and inspected in time, at what cost in processor
time and memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_inspector import clock
from edge_inspector.client import VerdictConsumer
from edge_inspector.errors import Breakage
from edge_inspector.records import Outcome, Verdict
from edge_inspector.studies import bench_load
from edge_inspector.studies.bench_pipeline import QUIET_S, Stages, station_settings
from edge_inspector.studies.harness import Station, free_port
from edge_inspector.studies.processes import cpu_ms, proportional_mib
from edge_inspector.studies.scaling_cases import CASES, Case, write_case
from edge_inspector.studies.tally import percentiles

SHARES = (0.5, 0.9, 1.2, 3.0)
"""Of what the station takes at most; the second is its rated load, the last an overload."""
RATED, OVERLOAD = 0.9, 3.0
LEAST_UNITS = 16


def run(
    folder: Path,
    engine: Path,
    *,
    cases: Sequence[str] = tuple(CASES),
    workers: Sequence[int] = (1, 2),
    seconds: float = 3.0,
    runner: str = "openvino",
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """A row for each case, number of workers and load."""
    rows: list[dict[str, Any]] = []
    for number, (name, count) in enumerate(product(cases, workers)):
        station = folder / str(number)
        station.mkdir(parents=True)
        recipe = write_case(station, CASES[name], engine, runner)
        for row in loads(station, recipe, CASES[name], count, seconds, runner):
            rows.append({"case": name, "workers": count, **row})
            progress(f"{name}, {count} workers: {row['in_time_hz']} of {row['offered_hz']} units/s")
    keyed = groupby(rows, key=lambda row: (row["case"], row["workers"]))
    peaks = [
        {
            "case": name,
            "workers": count,
            "at_most_hz": max(row["in_time_hz"] for row in loaded),
            "overload_goodput": overload_goodput(loaded),
            "memory_mb": loaded[-1]["memory_mb"],
        }
        for (name, count), loaded in ((key, list(group)) for key, group in keyed)
    ]
    engine_name = f"{engine.parent.name}/{engine.name}"
    return {
        "engine": engine_name,
        "runner": runner,
        "seconds": seconds,
        "peaks": peaks,
        "rows": rows,
    }


def loads(
    folder: Path, recipe: Path, case: Case, workers: int, seconds: float, runner: str
) -> Iterator[dict[str, Any]]:
    """One station under growing load; a row each, the first of which is what it takes at most."""
    frames, verdicts = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    settings = station_settings(recipe, frames, verdicts, workers, [runner])
    with (
        Station(folder, settings) as station,
        VerdictConsumer(verdicts, consumer="bench", start="live") as consumer,
    ):
        meter = Meter(station, consumer, frames, folder, case.budget_ms)
        rate_hz = meter.offer(LEAST_UNITS, 0.0)["in_time_hz"]
        for share in (0.0, *SHARES):
            units = max(int((share or 1.0) * rate_hz * seconds), LEAST_UNITS)
            row = meter.offer(units, share * rate_hz)
            if not share:
                rate_hz = max(row["in_time_hz"], 1.0)
            yield {"share": share, **row}


class Meter:
    """A running station and the line controller that counts its verdicts."""

    def __init__(
        self,
        station: Station,
        consumer: VerdictConsumer,
        frames: str,
        folder: Path,
        budget_ms: float,
    ) -> None:
        self._station = station
        self._consumer = consumer
        self._frames = frames
        self._folder = folder
        self._budget_ms = budget_ms
        self._first = 1

    def offer(self, units: int, rate_hz: float) -> dict[str, Any]:
        """Offer `units` frames at a rate, 0: as fast as they are taken; what became of them."""
        out, first = self._folder / "offered.npy", self._first
        self._first += units
        spent_before = cpu_ms(self._station.pid)
        load = bench_load.start(
            self._frames,
            self._folder / "frames.npy",
            out,
            units=units,
            first=first,
            rate_hz=rate_hz,
            budget_ms=self._budget_ms,
        )
        received, stages = self._collect(load, first, units)
        if not out.exists():
            raise Breakage(f"the load ended with status {load.returncode}; it says why above")
        spent_ms = {n: ms - spent_before.get(n, 0) for n, ms in cpu_ms(self._station.pid).items()}
        due_ns, offered_ns = np.load(out)
        out.unlink()
        row = summary(received, first, due_ns, offered_ns, self._budget_ms)
        inspected = max(row["inspected"], 1)
        return {
            "rate_hz": round(rate_hz, 1),
            **row,
            "infer_p50_ms": percentiles(stages.ms.get("infer", []))["p50"],
            "socket_overhead_ms": percentiles(stages.socket_ms),
            "cpu_ms_per_unit": {n: round(ms / inspected, 3) for n, ms in spent_ms.items()},
            "memory_mb": proportional_mib(self._station.pid),
        }

    def _collect(
        self, load: Any, first: int, units: int
    ) -> tuple[dict[int, tuple[Verdict, int]], Stages]:
        """By trigger id: the verdict and when it was received; until nothing comes any more."""
        received: dict[int, tuple[Verdict, int]] = {}
        stages, last = Stages(), clock.now_ns()
        while len(received) < units:
            delivered = self._consumer.receive(timeout_ms=50)
            now = clock.now_ns()
            if delivered is None:
                if load.poll() is not None and now - last > QUIET_S * 1e9:
                    break
                continue
            last = now
            trigger_id = delivered.verdict.trigger_id
            if trigger_id is not None and first <= trigger_id < first + units:
                received[trigger_id] = (delivered.verdict, now)
                stages.add(delivered.verdict, now)
        load.wait()
        return received, stages


def summary(
    received: Mapping[int, tuple[Verdict, int]],
    first: int,
    due_ns: NDArray[np.int64],
    offered_ns: NDArray[np.int64],
    budget_ms: float,
) -> dict[str, Any]:
    """Rates, outcomes by reason, and latency from when a unit was due to when its verdict came."""
    words = Counter((v.reason or v.outcome).value for v, _ in received.values())
    judged = {
        trigger_id: (at_ns - int(due_ns[trigger_id - first])) / 1e6
        for trigger_id, (verdict, at_ns) in received.items()
        if verdict.outcome is not Outcome.UNINSPECTED
    }
    in_time = [ms for ms in judged.values() if ms <= budget_ms]
    last_ns = max((received[one][1] for one in judged), default=int(offered_ns[-1]))
    lasted_s = max(last_ns, int(offered_ns[-1])) / 1e9 - int(due_ns[0]) / 1e9
    offering_s = (int(offered_ns[-1]) - int(offered_ns[0])) / 1e9
    return {
        "offered": len(due_ns),
        "offered_hz": round((len(due_ns) - 1) / max(offering_s, 1e-9), 1),
        "inspected": len(judged),
        "in_time": len(in_time),
        "in_time_hz": round(len(in_time) / lasted_s, 1),
        "lost": len(due_ns) - len(received),
        "outcomes": dict(words),
        "latency_ms": percentiles(list(judged.values())),
    }


def overload_goodput(rows: Sequence[Mapping[str, Any]]) -> float:
    """What a station still does in time at `OVERLOAD`, over what it does at its rated load."""
    by_share: dict[float, float] = {row["share"]: row["in_time_hz"] for row in rows}
    return round(by_share[OVERLOAD] / by_share[RATED], 3)
