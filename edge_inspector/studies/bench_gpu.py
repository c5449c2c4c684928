"""
One engine on the GPU: wall and device times, graph on and off, paced and back to back, batches.

Every figure is of the box that it names; without a GPU nothing is measured.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge_inspector import clock, parity
from edge_inspector.backends import REFERENCE, driver, open_first
from edge_inspector.backends.tensorrt import TensorRt, TensorRtRtx, TensorRtSession
from edge_inspector.bundle import open_engine
from edge_inspector.choice import in_turn
from edge_inspector.errors import EngineRefused
from edge_inspector.records import Pixels
from edge_inspector.studies.tally import percentiles

BACKENDS: dict[str, type[TensorRt]] = {"tensorrt": TensorRt, "tensorrt_rtx": TensorRtRtx}
WARM_UP = 200
NEVER_S = 3600.0
PARITY_CROPS = 256
CONTEXTS = (1, 2, 4)
CLOCKS = {
    "nvidia-smi": (
        "--query-gpu=name,driver_version,pstate,clocks.sm,clocks.mem,temperature.gpu,power.draw",
        "--format=csv",
        "--id=0",
    ),
    "nvpmodel": ("-q",),
}
"""Who says at what clocks a GPU runs, the second on Jetson."""


def run(
    engine_dir: Path,
    backend: Callable[..., TensorRt],
    *,
    precision: str = REFERENCE,
    cache: Path,
    frames: int = 2000,
    rate_hz: float = 50.0,
    seconds: float = 10.0,
) -> dict[str, Any]:
    """Raises `BackendMissing` with the probe's one sentence where there is no GPU to measure."""
    engine = open_engine(engine_dir)
    model = engine.models.get(precision)
    if model is None:
        raise EngineRefused(f"engine {engine.title} has {', '.join(engine.models)}, no {precision}")

    @contextmanager
    def opened(**options: Any) -> Iterator[TensorRtSession]:
        session = backend(cache, **{"keep_warm_s": NEVER_S, **options}).open(model, threads=1)
        try:
            yield session
        finally:
            session.close()

    crops = parity.noisy(engine, PARITY_CROPS)
    with opened() as session:
        figures: dict[str, Any] = {
            "facts": session.facts(),
            "parity": _parity(session, model, crops),
            "wall_ms": _wall(session, crops, frames),
            "device_ms": _device(session),
            "batches": _batches(session, crops, frames // 10),
        }
    with opened(mapped=True) as session:
        figures["mapped_wall_ms"] = _wall(session, crops, frames)
    figures["paced_ms"] = {}
    for name, options in {"warm": {"keep_warm_s": 0.05}, "cold": {}}.items():
        with opened(**options) as session:
            figures["paced_ms"][name] = _paced(session, crops, rate_hz, seconds)
    figures["contexts"] = _contexts(opened, crops, min(seconds, 5.0))
    about = {"engine": engine.title, "precision": precision, "frames": frames, "rate_hz": rate_hz}
    return {**about, **figures, "clocks": clocks()}


def clocks() -> dict[str, str]:
    """What the box's own tools say of its clocks right now; empty where it has none of them."""
    return {
        tool: subprocess.run([tool, *ask], capture_output=True, text=True, check=False).stdout
        for tool, ask in CLOCKS.items()
        if shutil.which(tool) is not None
    }


def device() -> dict[str, Any]:
    """The device that is measured; raises `BackendMissing`."""
    found = driver.probe()
    capability = ".".join(map(str, found.compute_capability))
    return {"gpu": found.name, "compute_capability": capability, "driver": found.driver}


def _parity(session: TensorRtSession, model: bytes, crops: Pixels) -> dict[str, Any]:
    """Against ONNX Runtime on the same graph, and the graph against the plain path bit for bit."""
    _, reference = open_first(["onnxruntime"], model, 1)
    found, plain, wanted = session.run(crops), session.plain(crops), reference.run(crops)
    reference.close()
    a, b = found["score"].astype(np.float64), wanted["score"].astype(np.float64)
    return {
        "crops": len(crops),
        "max_score_difference": float(np.abs(a - b).max()),
        "within_atol_1e-4_rtol_1e-3": bool(np.allclose(a, b, atol=1e-4, rtol=1e-3)),
        "cosine": float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b))),
        "finite": bool(np.isfinite(a).all()),
        "graph_equals_plain": all(np.array_equal(found[name], plain[name]) for name in found),
    }


def _wall(session: TensorRtSession, crops: Pixels, frames: int) -> dict[str, dict[str, float]]:
    """Crop to answer, copies and the change of threads included, back to back, in turn."""
    for number in range(WARM_UP):
        session.run(crops[number % len(crops)][None])
    runs = {"graph": session.run, "plain": session.plain}
    spent = in_turn({name: partial(_next, run, crops, [0]) for name, run in runs.items()}, frames)
    return {name: percentiles(values) for name, values in spent.items()}


def _next(run: Callable[[Pixels], object], crops: Pixels, turn: list[int]) -> None:
    turn[0] = (turn[0] + 1) % len(crops)
    run(crops[turn[0]][None])


def _device(session: TensorRtSession) -> dict[str, float]:
    times = np.median([session.times_ms(1) for _ in range(WARM_UP)], axis=0)
    return dict(zip(("copy_in", "infer", "copy_out"), map(float, times), strict=True))


def _batches(session: TensorRtSession, crops: Pixels, rounds: int) -> dict[str, dict[str, float]]:
    """Crops a second by batch size, from the median."""
    sizes = {str(count): crops[:count] for count in (1, 2, 4, 8, 16)}
    spent = in_turn({name: partial(session.run, part) for name, part in sizes.items()}, rounds)
    return {
        name: {"ms": float(np.median(ms)), "crops_per_s": int(name) / float(np.median(ms)) * 1e3}
        for name, ms in spent.items()
    }


def _paced(
    session: TensorRtSession, crops: Pixels, rate_hz: float, seconds: float
) -> dict[str, float]:
    """At the line's rate: a GPU that idles between frames lowers its clocks."""
    spent_ms = []
    begun = clock.now_ns()
    for number in range(round(rate_hz * seconds)):
        time.sleep(max(0.0, begun / 1e9 + number / rate_hz - clock.now_ns() / 1e9))
        started = clock.now_ns()
        session.run(crops[number % len(crops)][None])
        spent_ms.append((clock.now_ns() - started) / clock.NS_PER_MS)
    return {**percentiles(spent_ms), "warmed": session.facts()["warmed"]}


def _contexts(opened: Callable[..., Any], crops: Pixels, seconds: float) -> dict[str, float]:
    """Crops a second of batches of 16 through several sessions at once."""
    found = {}
    for count in CONTEXTS:
        with ExitStack() as stack, ThreadPoolExecutor(count) as pool:
            sessions = [stack.enter_context(opened()) for _ in range(count)]
            until_ns = clock.now_ns() + round(seconds * 1e9)
            done = pool.map(partial(_done, batch=crops[:16], until_ns=until_ns), sessions)
            found[str(count)] = sum(done) / seconds
    return found


def _done(session: TensorRtSession, batch: Pixels, until_ns: int) -> int:
    """Crops that one session answered until then."""
    done = 0
    while clock.now_ns() < until_ns:
        session.run(batch)
        done += len(batch)
    return done
