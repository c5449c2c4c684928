"""One engine in every runtime that is installed, crop by crop on the same challenge crops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_inspector import clock
from edge_inspector.backends import BACKENDS, open_first
from edge_inspector.bundle import Engine, open_engine
from edge_inspector.engines import scorer_of, whole
from edge_inspector.errors import BackendMissing, EngineRefused
from edge_inspector.studies.tally import percentiles

WARM_UP = 20


def run(engine_dir: Path, *, crops: int = 500, threads: int = 1) -> dict[str, Any]:
    """Median and tail of scoring one crop, ms, for each runtime; a missing one says why."""
    engine = open_engine(engine_dir)
    runtimes = {name: _time(engine, name, crops, threads) for name in BACKENDS if name != "fake"}
    medians = {name: found["ms"]["p50"] for name, found in runtimes.items() if "ms" in found}
    return {
        "engine": f"{engine.manifest.name}/{engine.manifest.version}",
        "threads": threads,
        "crops": crops,
        "runtimes": runtimes,
        "fastest": min(medians, key=lambda name: medians[name], default=None),
    }


def _time(engine: Engine, name: str, crops: int, threads: int) -> dict[str, Any]:
    try:
        _, session = open_first((name,), engine.model, threads)
    except (BackendMissing, EngineRefused) as error:
        return {"missing": str(error)}
    scorer = scorer_of(session, engine)
    crop = whole(engine.good)
    spent_ms = []
    for number in range(WARM_UP + crops):
        started = clock.now_ns()
        scorer.score([crop])
        if number >= WARM_UP:
            spent_ms.append((clock.now_ns() - started) / 1e6)
    session.close()
    return {"ms": percentiles(spent_ms)}
