"""One engine in every runtime that is installed, crop by crop on the same challenge crops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_inspector import clock
from edge_inspector.backends import BACKENDS, open_first
from edge_inspector.bundle import Engine, open_engine
from edge_inspector.errors import BackendMissing, EngineRefused
from edge_inspector.records import Crop, Roi
from edge_inspector.scorers.anomaly import AnomalyScorer
from edge_inspector.studies.tally import percentiles

WARM_UP = 20


def run(engine_dir: Path, *, crops: int = 500, threads: int = 1) -> dict[str, Any]:
    """Median and tail of scoring one crop, ms, for each runtime; a missing one says why."""
    engine = open_engine(engine_dir)
    runtimes = {name: _time(engine, name, crops, threads) for name in BACKENDS if name != "fake"}
    return {
        "engine": f"{engine.manifest.name}/{engine.manifest.version}",
        "threads": threads,
        "crops": crops,
        "runtimes": runtimes,
    }


def _time(engine: Engine, name: str, crops: int, threads: int) -> dict[str, Any]:
    try:
        _, session = open_first((name,), engine.model, threads)
    except (BackendMissing, EngineRefused) as error:
        return {"missing": str(error)}
    scorer = AnomalyScorer(session, engine.manifest)
    height, width = engine.good.shape[:2]
    box = (0, 0, width, height)
    crop = Crop(Roi("crop", "main", box), engine.good, box)
    spent_ms = []
    for number in range(WARM_UP + crops):
        started = clock.now_ns()
        scorer.score([crop])
        if number >= WARM_UP:
            spent_ms.append((clock.now_ns() - started) / 1e6)
    session.close()
    return {"ms": percentiles(spent_ms)}
