"""
Deadlines of a line while `teach` runs beside it, against the same line alone before and after.

    python -m bench.bench_beside --units 2000 --rate 50

The line is the simulated BGA station of `edge-inspector bench pipeline`; what is taught is the
connector, with the verb's own priority, for as long as the line runs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.bench_teach import Shown, record
from edge_inspector.cli.bench import RECIPE
from edge_inspector.simulator.connector import ConnectorLine
from edge_inspector.studies import bench_pipeline
from edge_inspector.studies.facts import facts

STATION = """station = "connectors"
recipe = "recipe.toml"
[[sources]]
name = "s"
type = "folder"
uri = "file:///nowhere"
"""
LIMIT = 0.001
"""Share of units that may miss their deadline because something is taught."""
TAUGHT_UNITS = 200


def main() -> int:
    """0 when teaching costs no more than the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=50.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before = line(folder / "before", args)
        with teaching(folder / "taught") as learner:
            used_s = cpu_s(learner.pid)
            beside = line(folder / "beside", args)
            running = learner.poll() is None
            used_s = cpu_s(learner.pid) - used_s if running else 0.0
        after = line(folder / "after", args)
    alone = max(before["missed"], after["missed"]) / args.units
    cost = max(beside["missed"] / args.units - alone, 0.0)
    told = ("missed", "shed", "lost", "doubled", "total_ms")
    runs = {"before": before, "beside": beside, "after": after}
    report = {
        "bench": "beside",
        "units": args.units,
        "rate_hz": args.rate,
        **{run: {key: found[key] for key in told} for run, found in runs.items()},
        "cost": round(cost, 5),
        "limit": LIMIT,
        "teaching_all_along": running,
        "teaching_cpu_s": round(used_s, 1),
        "load": os.getloadavg()[0],
        **facts(),
    }
    print(json.dumps(report))
    return 0 if running and cost <= LIMIT else 1


def line(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The station's figures, once."""
    return bench_pipeline.run(folder, RECIPE, units=args.units, rate_hz=args.rate)


@contextmanager
def teaching(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The verb in a process of its own, from when it trains."""
    folder.mkdir()
    (folder / "station.toml").write_text(STATION, encoding="utf-8")
    units = ConnectorLine(seed=5, defect_rate=0.05)
    shown = [Shown(u.label, u.pixels) for u in map(units.unit, range(1, TAUGHT_UNITS + 1))]
    record(folder / "recorded", shown, 0.0, 5)
    words = ("teach", folder / "station.toml", "--product", "connector", "--steps", 10**6)
    learner = subprocess.Popen(
        [sys.executable, "-m", "edge_inspector.cli.main", *map(str, words), "--minutes", "60"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert learner.stderr is not None
        while "teaching" not in learner.stderr.readline():
            if learner.poll() is not None:
                raise RuntimeError("teach ended before it trained")
        time.sleep(3)  # compiled, warmed up, its loader forked
        yield learner
    finally:
        learner.send_signal(signal.SIGINT)
        learner.communicate()


def cpu_s(pid: int) -> float:
    """Processor seconds of a process and all below it."""
    words = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    own = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    tasks = Path(f"/proc/{pid}/task").iterdir()
    children = [child for task in tasks for child in (task / "children").read_text().split()]
    return own + sum(cpu_s(int(child)) for child in children)


if __name__ == "__main__":
    sys.exit(main())
