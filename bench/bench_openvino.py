"""
Ways to run several crops of one frame in OpenVINO, and what keeping compiled graphs would save.

    python -m bench.bench_openvino --engine engines/bga/3 [--json bench/results/openvino.jsonl]

The ways take turns in one process, on one and on two threads: crops one after the other on all
threads, side by side on one thread each, and as one batch in a graph compiled for so many. To start
is measured in fresh processes, with OpenVINO's CACHE_DIR and without.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from edge_inspector import parity
from edge_inspector.backends.openvino import OpenVino
from edge_inspector.bundle import Engine, open_engine
from edge_inspector.choice import in_turn
from edge_inspector.records import Pixels
from edge_inspector.studies.facts import facts
from edge_inspector.studies.tally import percentiles

STARTED = """
import sys, time
from pathlib import Path
import openvino

core, model = openvino.Core(), Path(sys.argv[1]).read_bytes()
begun = time.perf_counter(), time.process_time()
if len(sys.argv) > 2:
    core.set_property({"CACHE_DIR": sys.argv[2]})
graph = core.read_model(model)
graph.reshape([1, *[side.get_length() for side in list(graph.inputs[0].partial_shape)[1:]]])
settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1}
core.compile_model(graph, "CPU", settings).create_infer_request().infer()
print(time.perf_counter() - begun[0], time.process_time() - begun[1])
"""


def main() -> int:
    """Measure, print, and keep the line where it was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--crops", type=int, default=16, help="of one frame")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="OUT", help="append one JSON line to OUT")
    args = parser.parse_args()
    engine = open_engine(args.engine)
    figures: dict[str, Any] = {
        "bench": "openvino",
        "engine": engine.title,
        "crops": args.crops,
        "crop_ms": {
            f"threads={threads}": _ways(engine, threads, args.crops, args.rounds)
            for threads in (1, 2)
        },
        "start_s": _starts(args.engine / engine.manifest.model, args.starts),
        **facts(),
    }
    if args.json is not None:
        with args.json.open("a", encoding="utf-8") as out:
            out.write(json.dumps(figures) + "\n")
    print(json.dumps(figures, indent=2))
    return 0


def _ways(engine: Engine, threads: int, crops: int, rounds: int) -> dict[str, Any]:
    """How long a crop takes, ms, each way."""
    batch = parity.noisy(engine, crops)
    session = OpenVino().open(engine.model, threads=threads)
    ways: dict[str, Callable[[], object]] = {
        "one after the other": lambda: [session.run(crop[None]) for crop in batch],
        "one batch": _as_one(engine.model, batch, threads),
    }
    if threads > 1:
        ways["side by side"] = partial(session.run, batch)
    spent = in_turn(ways, rounds)
    return {name: percentiles([ms / crops for ms in spent[name]]) for name in ways}


def _as_one(model: bytes, batch: Pixels, threads: int) -> Callable[[], object]:
    """All crops in one run of a graph that was compiled for them, with preset memory."""
    import openvino

    core = openvino.Core()
    graph = core.read_model(model)
    graph.reshape(list(batch.shape))
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = core.compile_model(graph, "CPU", settings)
    request = compiled.create_infer_request()
    crops = request.get_input_tensor().data

    def run() -> object:
        crops[:] = batch
        request.infer()
        return [request.get_output_tensor(at).data.copy() for at in range(len(compiled.outputs))]

    return run


def _starts(model: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds to read and compile a graph and run it once, in a process of its own."""
    found: dict[str, list[tuple[float, float]]] = {"compiled": [], "kept": []}
    with tempfile.TemporaryDirectory() as kept:
        for number in range(rounds + 1):
            for name, words in (("compiled", []), ("kept", [kept])):
                command = [sys.executable, "-c", STARTED, str(model), *words]
                told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                if number:  # the first fills the folder
                    wall, cpu = told.split()
                    found[name].append((float(wall), float(cpu)))
    return {
        name: {
            "wall": round(statistics.median(wall for wall, _ in times), 3),
            "cpu": round(statistics.median(cpu for _, cpu in times), 3),
        }
        for name, times in found.items()
    }


if __name__ == "__main__":
    raise SystemExit(main())
