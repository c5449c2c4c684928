"""
How a station scales: units a second against workers, regions of a frame and its size.

For each station first as much as it takes with a few frames ahead, then an open load at shares of
that, beyond what it can do: what is shed, late and inspected in time, at what cost in processor
time and memory. The threshold of these recipes is out of reach: what is measured is time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tomlkit
from numpy.typing import NDArray

from edge_inspector import clock
from edge_inspector.bundle import open_engine
from edge_inspector.client import VerdictConsumer
from edge_inspector.crops import expand_region
from edge_inspector.errors import Breakage
from edge_inspector.recipe import Region
from edge_inspector.records import Outcome, Pixels, Verdict
from edge_inspector.simulator.line import LinePlayer
from edge_inspector.studies import bench_load
from edge_inspector.studies.bench_pipeline import QUIET_S, Stages, station_settings
from edge_inspector.studies.harness import Station, free_port
from edge_inspector.studies.processes import cpu_ms, proportional_mib
from edge_inspector.studies.tally import percentiles

SHARES = (0.5, 0.9, 1.2, 3.0)
"""Of what the station takes at most; the second is its rated load, the last an overload."""
RATED, OVERLOAD = 0.9, 3.0
LEAST_UNITS = 16
PICTURES = 8
CELL_PX = 256
MARK_PX, ROOM_PX = 128, 16


@dataclass(frozen=True, slots=True)
class Case:
    """Frames of `grid` x `grid` cells of `cell_px` each, a region each; `aligned` by a template."""

    grid: int = 1
    cell_px: int = CELL_PX
    channels: int = 1
    aligned: bool = False
    budget_ms: float = 100.0

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in px."""
        side = self.grid * self.cell_px
        return (side + 2 * ROOM_PX, side + 4 * MARK_PX) if self.aligned else (side, side)

    @property
    def corner(self) -> int:
        """Where the first cell begins, in both directions, px."""
        return ROOM_PX if self.aligned else 0


CASES = {
    "256x256, 1 region": Case(),
    "512x512, 4 regions": Case(2),
    "640x640x3, 16 regions": Case(4, 160, channels=3, budget_ms=250.0),
    "1024x1024, 16 regions": Case(4, budget_ms=250.0),
    "2560x2080, 64 regions, aligned": Case(8, aligned=True, budget_ms=1000.0),
}


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


def write_case(folder: Path, case: Case, engine: Path, runner: str) -> Path:
    """Recipe, alignment mark and frames of a case; the recipe's path."""
    opened = open_engine(engine)
    height, width = case.size
    side = case.grid * case.cell_px
    region = {
        "name": "cells",
        "rect": [case.corner, case.corner, side, side],
        "grid": {"rows": case.grid, "columns": case.grid},
        "engine": "engine",
    }
    statistics = opened.manifest.statistics
    scale = {"center": statistics.median, "spread": statistics.spread}
    recipe: dict[str, Any] = {
        "product": "bench",
        "version": 1,
        "latency_budget_ms": case.budget_ms,
        "engines": {"engine": str(engine.resolve())},
        "regions": [region],
        "calibration": {
            "threshold": 1e6,
            "overkill": 0.001,
            "promised_overkill": 1.0,
            "units": 1,
            "provisional": True,
            "backend": runner,
            "engines": {"engine": opened.digest},
            "regions": {roi.name: scale for roi in expand_region(Region.model_validate(region))},
        },
    }
    if case.aligned:
        at = [width - 2 * MARK_PX, height // 2]
        cv2.imwrite(str(folder / "mark.png"), _mark())
        method = {"method": "template", "image": "mark.png", "position": at, "search_px": ROOM_PX}
        recipe["alignment"] = {"main": method}
    np.save(folder / "frames.npy", np.stack(list(_frames(case))))
    (folder / "recipe.toml").write_text(tomlkit.dumps(recipe), encoding="utf-8")
    return folder / "recipe.toml"


def _frames(case: Case) -> Iterator[Pixels]:
    """Different frames of simulated units, an aligned one moved by some px."""
    rng = np.random.default_rng(1)
    units = iter(LinePlayer(seed=1, defect_rate=0.0, pool=32))
    height, width = case.size
    for _ in range(PICTURES):
        frame = np.full((height, width), 90, np.uint8)
        for row, column in product(range(case.grid), repeat=2):
            cell = cv2.resize(next(units).pixels, (case.cell_px, case.cell_px))
            top, left = case.corner + row * case.cell_px, case.corner + column * case.cell_px
            frame[top : top + case.cell_px, left : left + case.cell_px] = cell
        if case.aligned:
            left, top = width - 2 * MARK_PX, height // 2
            frame[top : top + MARK_PX, left : left + MARK_PX] = _mark()
            frame = np.roll(frame, rng.integers(-8, 9, 2), (0, 1))
        yield frame if case.channels == 1 else np.repeat(frame[..., None], 3, axis=2)


def _mark() -> Pixels:
    """A patch like no other."""
    noise = np.random.default_rng(7).integers(0, 256, (MARK_PX // 8, MARK_PX // 8), np.uint8)
    return np.asarray(cv2.resize(noise, (MARK_PX, MARK_PX)), np.uint8)


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
