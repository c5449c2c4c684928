"""One engine in every runner that this box has: how fast, alone and in a batch, and how alike."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

from edge_inspector import parity
from edge_inspector.bundle import Engine, open_engine
from edge_inspector.choice import Runtimes, candidates, in_turn, open_all
from edge_inspector.engines import scorer_of, whole
from edge_inspector.protocols import Session
from edge_inspector.records import Pixels
from edge_inspector.studies.tally import percentiles

BATCH = 16
COMPARED = 64
"""Crops that the runners' answers are compared on."""


def run(engine_dir: Path, *, crops: int = 500, threads: int = 1) -> dict[str, Any]:
    """
    How long a crop takes, ms, alone and in a batch, in each runner; a missing one says why.

    The runners, all challenged, take turns on noisy copies of the challenge crops; `differs` is how
    far the answers are from those of the first, whose precision is the reference's.
    """
    engine = open_engine(engine_dir)
    noisy = parity.noisy(engine, COMPARED)
    with ExitStack() as stack:
        names = candidates(engine)
        sessions, refused = open_all(engine, names, Runtimes(threads=threads), noisy[:BATCH], stack)
        runners: dict[str, dict[str, Any]] = {n: {"missing": str(e)} for n, e in refused.items()}
        alone = {name: _alone(engine, session, noisy) for name, session in sessions.items()}
        batch = {name: partial(each.run, noisy[:BATCH]) for name, each in sessions.items()}
        alone_ms, batch_ms = in_turn(alone, crops), in_turn(batch, max(crops // BATCH, 1))
        reference = next(iter(sessions))
        for name, session in sessions.items():
            runners[name] = {
                "ms": percentiles(alone_ms[name]),
                f"batch_{BATCH}_ms": percentiles([spent / BATCH for spent in batch_ms[name]]),
                "differs": asdict(parity.compare(sessions[reference], session, noisy)),
            }
    return {
        "engine": engine.title,
        "threads": threads,
        "crops": crops,
        "reference": reference,
        "runners": runners,
        "fastest": _fastest(runners, "ms"),
        f"fastest_batch_{BATCH}": _fastest(runners, f"batch_{BATCH}_ms"),
    }


def _alone(engine: Engine, session: Session, crops: Pixels) -> Callable[[], object]:
    """Scores another crop each time, one at a time as a recipe of one region does."""
    scorer = scorer_of(session, engine)
    waiting = cycle([whole(crop)] for crop in crops)
    return lambda: scorer.score(next(waiting))


def _fastest(runners: dict[str, dict[str, Any]], key: str) -> str:
    medians = {name: found[key]["p50"] for name, found in runners.items() if key in found}
    return min(medians, key=lambda name: medians[name])
