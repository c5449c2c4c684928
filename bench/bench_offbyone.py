"""
The off-by-one drill: numbered units past the camera, through Modbus to a simulated controller.

    PYTHONPATH=bench python -m bench.bench_offbyone --units 20000 --rate 40 --every 20

Each unit's number, and whether it is defective, is drawn into its pixels. Frames are dropped,
doubled, swapped, late and frozen; core, worker, ingest and gateway are killed in turn. Prints one
JSON object; 1 when a defective unit passed, a verdict was of another unit's picture, or more good
units were rejected than the faults and the units in flight at kills explain.
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import tomlkit

from bench.offbyone_camera import BUDGET_MS, FAULT_RATE, Camera
from bench.offbyone_reader import SIDE, THRESHOLD, number_in
from edge_inspector import clock
from edge_inspector.bundle import open_engine
from edge_inspector.outbox import Log
from edge_inspector.records import Outcome
from edge_inspector.studies.harness import Station, free_port
from edge_inspector.studies.plc_line import Gated, PlcLine
from tests.conftest import write_engine

VICTIMS = ("core", "worker", "ingest", "gateways.modbus")
BELT_S = 1.0
"""From the camera to the gate."""
BACK_S = 15.0
"""How long a station may take to be whole again."""


def station_settings(folder: Path, *, refuse_repeats: bool = True) -> dict[str, Any]:
    """A station with a reader of numbers and a Modbus gateway."""
    folder.mkdir(parents=True, exist_ok=True)
    engine = write_engine(folder / "engine")
    recipe = {
        "product": "numbers",
        "version": 1,
        "latency_budget_ms": BUDGET_MS,
        "max_queue": 64,
        "engines": {"tiny": str(engine)},
        "regions": [{"name": "whole", "rect": [0, 0, SIDE, SIDE], "engine": "tiny"}],
        "quality": {"main": {"refuse_repeats": refuse_repeats}},
        "calibration": {
            "threshold": THRESHOLD,
            "overkill": 0.01,
            "promised_overkill": 0.01,
            "units": 300,
            "backend": "reader",
            "engines": {"tiny": open_engine(engine).digest},
            "regions": {"whole": {"center": 0.0, "spread": 1.0}},
        },
    }
    (folder / "recipe.toml").write_text(tomlkit.dumps(recipe), encoding="utf-8")
    return {
        "station": "drill",
        "recipe": "recipe.toml",
        "store": str(folder / "state"),
        "sources": [
            {"name": "line", "type": "assured", "endpoint": f"tcp://127.0.0.1:{free_port()}"}
        ],
        "sinks": [{"type": "modbus", "port": free_port()}],
        "frames": {"max_bytes": 64 * 1024, "slots": 80},
        "workers": {"backends": ["offbyone_reader:Reader"]},
    }


class Drill:
    """One line past one station."""

    def __init__(
        self,
        folder: Path,
        units: int,
        rate_hz: float,
        seed: int,
        *,
        refuse_repeats: bool = True,
        fault_rate: float = FAULT_RATE,
    ) -> None:
        self.folder, self.rate_hz = folder, rate_hz
        self.gated: list[Gated] = []
        self.windows: list[tuple[int, int, str]] = []
        settings = station_settings(folder, refuse_repeats=refuse_repeats)
        self.station = Station(folder, settings)
        self.camera = Camera(settings["sources"][0]["endpoint"], seed, fault_rate)
        self.left = threading.Semaphore(units)
        self.line = PlcLine(
            "127.0.0.1",
            settings["sinks"][0]["port"],
            rate_hz=rate_hz,
            slots=round(BELT_S * rate_hz),
            wants_part=lambda: self.left.acquire(blocking=False),
            feed=self.camera.feed,
            gated=self.gated.append,
        )
        self.units = units

    def run(self, every_s: float, tell: Callable[[str], object] = lambda _: None) -> None:
        """All units to the gate, with a kill each `every_s` seconds; 0 for none."""
        victims = itertools.cycle(VICTIMS)
        with self.station:
            self.camera.start()
            with self.line:
                next_ns = clock.now_ns() + int(every_s * 1e9)
                while len(self.gated) < self.units:
                    threading.Event().wait(0.05)
                    if every_s and clock.now_ns() >= next_ns:
                        next_ns += int(every_s * 1e9)
                        tell(f"{len(self.gated)} of {self.units}")
                        self._strike(next(victims))
            self.camera.close()

    def _strike(self, victim: str) -> None:
        """Kill it, and wait until the controller trusts the station again."""
        struck_ns = clock.now_ns()
        if victim == "core":
            self.station.kill()
            self.station.start()
        else:
            self._child(victim).send_signal(signal.SIGKILL)
        threading.Event().wait(0.5)
        give_up_ns = clock.now_ns() + int(BACK_S * 1e9)
        while not self._whole() and clock.now_ns() < give_up_ns:
            threading.Event().wait(0.01)
        self.windows.append((struck_ns, clock.now_ns(), victim))

    def _child(self, module: str) -> psutil.Process:
        while True:
            for one in psutil.Process(self.station.pid).children():
                with suppress(psutil.Error):
                    if f"edge_inspector.{module}" in " ".join(one.cmdline()):
                        return one
            threading.Event().wait(0.05)

    def _whole(self) -> bool:
        return clock.now_ns() - self.line.ready_ns < 50 * clock.NS_PER_MS

    def report(self) -> dict[str, Any]:
        """What happened, from the gate, the camera's own truth and the log."""
        camera = self.camera
        opened = {part.trigger_id for part in self.gated if part.opened}
        escapes = sorted(one for one in opened if camera.defective[one])
        excess = [
            p.trigger_id for p in self.gated if not p.opened and not camera.defective[p.trigger_id]
        ]
        rows = Log(self.folder / "state").read(1, 10**9)
        judged = [r.verdict for r in rows if r.verdict.outcome is not Outcome.UNINSPECTED]
        wrong = [
            (v.trigger_id, number_in(v.anomaly_score or 0.0))
            for v in judged
            if number_in(v.anomaly_score or 0.0) != v.trigger_id
        ]
        belt_ns = int(BELT_S * 1e9)
        in_flight = {
            trigger_id
            for trigger_id, at_ns in camera.fed_ns.items()
            for struck_ns, back_ns, _ in self.windows
            if struck_ns - belt_ns <= at_ns <= back_ns
        }
        unexplained = [one for one in excess if one not in in_flight and one not in camera.faults]
        reasons = Counter((r.verdict.reason or r.verdict.outcome).value for r in rows)
        return {
            "units": len(self.gated),
            "defective": sum(camera.defective.values()),
            "faults": dict(Counter(camera.faults.values())),
            "kills": dict(Counter(victim for _, _, victim in self.windows)),
            "back_s": [round((back - struck) / 1e9, 2) for struck, back, _ in self.windows],
            "passed": len(opened),
            "escapes": escapes,
            "wrong_unit": wrong,
            "excess_rejects": len(excess),
            "in_flight_at_kills": len(in_flight),
            "allowed": len(camera.faults) + len(in_flight) + self.units / 1000,
            "unexplained": unexplained,
            "verdicts": dict(reasons),
            "plc": {**self.line.logic.counts, "reads": self.line.reads, "faults": self.line.faults},
        }


def sound(report: dict[str, Any]) -> bool:
    """Whether the drill held what is promised."""
    return (
        not report["escapes"]
        and not report["wrong_unit"]
        and report["excess_rejects"] <= report["allowed"]
    )


def main() -> int:
    """Run the drill in a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--every", type=float, default=20.0, help="seconds from kill to kill")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault-rate", type=float, default=FAULT_RATE, help="of each kind")
    parser.add_argument("--json", type=Path, help="keep the report here too")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="offbyone-"))
    drill = Drill(folder, args.units, args.rate, args.seed, fault_rate=args.fault_rate)
    drill.run(args.every, lambda text: print(text, file=sys.stderr, flush=True))
    told = {"rate_hz": args.rate, "seed": args.seed, "fault_rate": args.fault_rate}
    report = {**drill.report(), **told}
    text = json.dumps(report)
    print(text)
    if args.json is not None:
        args.json.write_text(text + "\n", encoding="utf-8")
    return 0 if sound(report) else 1


if __name__ == "__main__":
    raise SystemExit(main())
