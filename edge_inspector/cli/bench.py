"""`bench`: what this box does, measured the same way as in the documentation."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from edge_inspector.studies import (
    bench_backend,
    bench_gpu,
    bench_pipeline,
    bench_rules,
    bench_scaling,
    bench_startup,
    scaling_cases,
)
from edge_inspector.studies.facts import facts

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "engines" / "bga" / "3"
RECIPE = ROOT / "deploy" / "demo" / "recipe.toml"
RULES = ROOT / "edge_inspector" / "rules" / "bga_simulated.toml"


def add_bench(parser: argparse.ArgumentParser) -> None:
    """Arguments of `bench`."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    pipeline = kinds.add_parser("pipeline", help="socket to committed and received verdict")
    pipeline.add_argument("--recipe", type=Path, default=RECIPE)
    pipeline.add_argument("--units", type=int, default=2000)
    pipeline.add_argument("--rate", type=float, default=100.0, help="units per second")
    pipeline.add_argument("--workers", type=int, default=1)
    pipeline.add_argument(
        "--sweep", action="store_true", help="how it scales, beyond what it can do"
    )
    _add_sweep(pipeline)
    rules = kinds.add_parser("rules", help="the engine against the rules on the same crops")
    rules.add_argument("--engine", type=Path, default=ENGINE)
    rules.add_argument("--rules", type=Path, default=RULES)
    rules.add_argument("--crops", type=int, default=1000)
    rules.add_argument("--turn", type=int, default=1, help="crops that a row sees at a time")
    backend = kinds.add_parser("backend", help="one engine in every installed runtime")
    backend.add_argument("--engine", type=Path, default=ENGINE)
    backend.add_argument("--crops", type=int, default=500)
    startup = kinds.add_parser("startup", help="start to ready, SIGTERM to gone")
    startup.add_argument("--recipe", type=Path, default=RECIPE)
    startup.add_argument("--rounds", type=int, default=5)
    _add_gpu(kinds.add_parser("gpu", help="the engine in TensorRT, on this box's GPU"))
    for kind in (rules, backend):
        kind.add_argument("--threads", type=int, default=1)
    for kind in kinds.choices.values():
        kind.add_argument("--json", type=Path, metavar="OUT", help="append one JSON line to OUT")


def _add_gpu(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine", type=Path, default=ENGINE)
    parser.add_argument("--backend", choices=tuple(bench_gpu.BACKENDS), default="tensorrt")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--cache", type=Path, help="folder of plans that were built before")
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=50.0, help="units per second, paced")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each paced run")


def _add_sweep(parser: argparse.ArgumentParser) -> None:
    """What `pipeline --sweep` measures: each case with 1 to `--workers` workers."""
    sweep = parser.add_argument_group("with --sweep")
    sweep.add_argument("--engine", type=Path, default=ENGINE)
    sweep.add_argument("--runner", default="openvino", help="as onnxruntime or openvino:int8")
    sweep.add_argument("--seconds", type=float, default=3.0, help="of each load")
    sweep.add_argument(
        "--case", action="append", choices=tuple(scaling_cases.CASES), metavar="CASE"
    )


def run_bench(args: argparse.Namespace) -> int:
    """Measure, print, and keep the line where it was asked for."""
    figures = {"bench": args.kind, **_KINDS[args.kind](args), **facts()}
    if args.json is not None:
        with args.json.open("a", encoding="utf-8") as out:
            out.write(json.dumps(figures) + "\n")
    Console().print_json(json.dumps(figures))
    return 0


def _pipeline(args: argparse.Namespace) -> dict[str, Any]:
    console = Console(stderr=True)
    if args.sweep:
        return _sweep(args, console)
    with (
        tempfile.TemporaryDirectory(prefix="edge-inspector-bench-") as folder,
        Progress(console=console, disable=not console.is_terminal) as progress,
    ):
        task = progress.add_task("units", total=args.units)
        return bench_pipeline.run(
            Path(folder),
            args.recipe,
            units=args.units,
            rate_hz=args.rate,
            workers=args.workers,
            progress=lambda done: progress.update(task, completed=done),
        )


def _sweep(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="edge-inspector-bench-") as folder:
        return bench_scaling.run(
            Path(folder),
            args.engine,
            cases=args.case or tuple(scaling_cases.CASES),
            workers=range(1, args.workers + 1),
            seconds=args.seconds,
            runner=args.runner,
            progress=console.print,
        )


def _rules(args: argparse.Namespace) -> dict[str, Any]:
    return bench_rules.run(
        args.engine, args.rules, crops=args.crops, threads=args.threads, turn=args.turn
    )


def _backend(args: argparse.Namespace) -> dict[str, Any]:
    return bench_backend.run(args.engine, crops=args.crops, threads=args.threads)


def _gpu(args: argparse.Namespace) -> dict[str, Any]:
    device = bench_gpu.device()
    with tempfile.TemporaryDirectory(prefix="edge-inspector-bench-") as folder:
        figures = bench_gpu.run(
            args.engine,
            bench_gpu.BACKENDS[args.backend],
            cache=args.cache or Path(folder),
            precision=args.precision,
            frames=args.frames,
            rate_hz=args.rate,
            seconds=args.seconds,
        )
    return {"backend": args.backend, **device, **figures}


def _startup(args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="edge-inspector-bench-") as folder:
        return bench_startup.run(Path(folder), args.recipe, rounds=args.rounds)


_KINDS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "pipeline": _pipeline,
    "rules": _rules,
    "backend": _backend,
    "gpu": _gpu,
    "startup": _startup,
}
