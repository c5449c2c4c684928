"""
Our engines against anomalib's models and the usual classifiers, forward passes of the same crop.

    ../peers/bin/python -m bench.bench_peers --threads 1 --json bench/results/2-core-epyc.jsonl

Needs an environment of its own, `bench/requirements-peers.txt`. One process, one row after another,
round after round; a row's first run of each turn is not counted. Graphs are kept in `--keep`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.peers import BANK, PEERS, SIDE, to_onnx
from edge_inspector import clock
from edge_inspector.backends import REFERENCE, open_first, precision_of
from edge_inspector.bundle import open_engine
from edge_inspector.cli.bench import ENGINE
from edge_inspector.protocols import Session
from edge_inspector.records import Pixels
from edge_inspector.simulator.defects import GOOD
from edge_inspector.studies.bench_rules import CPU, WARM_UP, open_runners
from edge_inspector.studies.bench_rules import unit as simulated
from edge_inspector.studies.facts import facts
from edge_inspector.studies.metrics import auroc
from edge_inspector.studies.tally import percentiles

PACKAGES = ("torch", "torchvision", "anomalib", "timm", "onnx")
TURN = 3
"""Runs of a row in its turn."""


@dataclass(slots=True)
class Entry:
    """One network in every runtime that takes it."""

    kind: str
    sessions: Mapping[str, Session]
    missing: Mapping[str, str]
    fitted: bool = True
    """Whether it learned from good crops."""
    ms: dict[str, list[float]] = field(default_factory=dict)

    def turn(self, crops: Sequence[Pixels]) -> None:
        """Time one crop after another in each runtime; the first warms the caches."""
        for runner, session in self.sessions.items():
            for number, crop in enumerate(crops):
                started = clock.now_ns()
                session.run(crop)
                if number:
                    self.ms.setdefault(runner, []).append((clock.now_ns() - started) / 1e6)

    def summary(self) -> dict[str, Any]:
        """Times by runner."""
        times = {runner: percentiles(spent) for runner, spent in self.ms.items()}
        return {"kind": self.kind, "ms": times, "missing": self.missing}


def main(given: list[str] | None = None) -> int:
    """Build, measure, print, keep."""
    args = _arguments(given)
    torch.set_num_threads(args.threads)
    good = np.stack([_crop(2 * number + 1)[0] for number in range(args.train)])
    with ExitStack() as stack:
        entries = ours(args.engine, args.threads, stack) | peers(args.only, good, args, stack)
        measure(entries, args.rounds)
        areas = {name: _auroc(entry, args.units) for name, entry in entries.items() if args.units}
    rows = {name: entry.summary() for name, entry in entries.items()}
    for name, area in areas.items():
        rows[name]["auroc"] = area
    report = {
        "bench": "peers",
        "rows": rows,
        **ratio(rows),
        "input": f"uint8 {SIDE}x{SIDE}x1",
        "threads": args.threads,
        "rounds": args.rounds,
        "fitted_crops": args.train,
        "auroc_units": args.units,
        "bank": BANK,
        **facts(),
        "peers": {package: metadata.version(package) for package in PACKAGES},
    }
    if args.json is not None:
        with args.json.open("a", encoding="utf-8") as out:
            out.write(json.dumps(report) + "\n")
    print(json.dumps(report))
    return 0


def ours(folders: Sequence[Path], threads: int, stack: ExitStack) -> dict[str, Entry]:
    """Our engines in every precision that they hold."""
    entries = {}
    for folder in folders:
        engine = open_engine(folder)
        entries[engine.title] = Entry("ours", *open_runners(engine, CPU, threads, stack))
    return entries


def peers(
    only: Sequence[str], good: Pixels, args: argparse.Namespace, stack: ExitStack
) -> dict[str, Entry]:
    """The others; a graph that was kept is not made again."""
    args.keep.mkdir(parents=True, exist_ok=True)
    entries = {}
    for name, peer in PEERS.items():
        if only and not any(word in name for word in only):
            continue
        path = args.keep / f"{name.lower().replace(',', '').replace(' ', '-')}-{len(good)}.onnx"
        if not path.is_file():
            path.write_bytes(to_onnx(peer, peer.build(good)))
        kind = "anomalib" if "score" in peer.outputs else "classifier"
        sessions = {}
        for backend in CPU:
            _, sessions[backend] = open_first((backend,), path.read_bytes(), args.threads)
            stack.callback(sessions[backend].close)
        entries[name] = Entry(kind, sessions, {}, peer.fitted)
    return entries


def measure(entries: Mapping[str, Entry], rounds: int) -> None:
    """Every row in turn, fresh crops in every turn."""
    for turn in range(rounds):
        crops = [_crop(turn * (TURN + 1) + number)[0][None] for number in range(TURN + 1)]
        for entry in entries.values():
            entry.turn(crops)


def ratio(rows: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Median of the first of our engines over that of the fastest anomalib model, both float32."""
    best = {
        name: min(
            (ms["p50"], runner)
            for runner, ms in row["ms"].items()
            if precision_of(runner)[1] == REFERENCE
        )
        for name, row in rows.items()
        if any(precision_of(runner)[1] == REFERENCE for runner in row["ms"])
    }
    mine = next((name for name in best if rows[name]["kind"] == "ours"), None)
    others = [name for name in best if rows[name]["kind"] == "anomalib"]
    if mine is None or not others:
        return {"ratio": None, "fastest": None}
    other = min(others, key=lambda name: best[name])
    fastest = [f"{name} {best[name][1]}" for name in (mine, other)]
    return {"ratio": round(best[mine][0] / best[other][0], 5), "fastest": fastest}


def _auroc(entry: Entry, units: int) -> float | None:
    """Of the same simulated units for all, none that a network was fitted on."""
    # OpenVINO may call an output by another of its names.
    session = entry.sessions.get("onnxruntime")
    if entry.kind == "classifier" or not entry.fitted or session is None:
        return None
    crops = [_crop(100_000 + number) for number in range(units)]
    scores = [float(session.run(pixels[None])["score"][0]) for pixels, _ in crops]
    return round(auroc(scores, [label != GOOD for _, label in crops]), 4)


def _crop(number: int) -> tuple[Pixels, str]:
    pixels, label = simulated(WARM_UP + number)
    return pixels[..., None], label


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", type=Path, action="append", help="may be given again")
    parser.add_argument("--only", action="append", default=[], help="part of a peer's name")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--train", type=int, default=128, help="good crops that peers look at")
    parser.add_argument("--units", type=int, default=0, help="units to take AUROCs of")
    parser.add_argument("--keep", type=Path, default=Path("results/peers"))
    parser.add_argument("--json", type=Path, metavar="OUT", help="append one JSON line to OUT")
    args = parser.parse_args(given)
    args.engine = args.engine or [ENGINE]
    return args


if __name__ == "__main__":
    sys.exit(main())
