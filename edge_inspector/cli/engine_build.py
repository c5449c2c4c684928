"""`engine build`: TensorRT plans of an engine for this box, before the line needs them."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console

from edge_inspector import importer, parity
from edge_inspector.backends import BACKENDS, REFERENCE, open_first, plans
from edge_inspector.backends.builder import BuildOptions, built
from edge_inspector.backends.driver import Device, probe
from edge_inspector.backends.trt_words import check_version
from edge_inspector.bundle import Engine, open_engine
from edge_inspector.cli.teach_progress import Stages
from edge_inspector.errors import BackendMissing, Breakage, Misuse, ParityError

MODULES = ("tensorrt", "tensorrt_rtx")
CROPS = 256
"""That a plan and the CPU must agree on."""


def add_build(parser: argparse.ArgumentParser) -> None:
    """Arguments of `engine build`."""
    parser.add_argument("folder", type=Path, help="an engine's folder")
    parser.add_argument("--backend", choices=MODULES, help="the one installed by default")
    parser.add_argument(
        "--cache",
        type=Path,
        help="where plans are kept; a station looks in the folder 'compiled' of its store",
    )
    parser.add_argument("--precision", help="one of the engine's alone; by default all it has")
    parser.add_argument(
        "--max-batch",
        type=int,
        default=BuildOptions().max_batch,
        help="most crops in one run; a station takes the plan that was built last",
    )
    parser.add_argument("--tf32", action="store_true", help="let float32 be rounded to 10 bits")
    parser.add_argument(
        "--check",
        action="store_true",
        help="say whether the builder takes the graphs; needs no GPU with tensorrt_rtx, keeps nothing",
    )
    parser.add_argument("--json", action="store_true", help="print one object")


def run_build(args: argparse.Namespace) -> int:
    """0 when there is a plan of every model that agrees with the CPU; the first that fails raises."""
    if not 1 <= args.max_batch <= 1024:
        raise Misuse(f"--max-batch {args.max_batch}: give 1 to 1024")
    if not args.check and args.cache is None:
        raise Misuse("give --cache DIR to keep the plans in, or --check to keep nothing")
    engine = open_engine(args.folder)
    models = _models(engine, args.precision)
    name = args.backend or _installed()
    device = None if args.check and name == "tensorrt_rtx" else probe()
    trt = _module(name)
    check_version(trt)
    options = BuildOptions(max_batch=args.max_batch, tf32=args.tf32)
    with Stages(Console(stderr=True)) as stages:
        told = _Told(stages)
        found = {}
        for precision, model in models.items():
            told.precision = precision
            if args.check or device is None:
                found[precision] = _checked(trt, model, options, told)
            else:
                made = _Making(engine, precision, args.cache, device, options)
                found[precision] = made.made(trt, told)
    report = {"engine": engine.title, "backend": name, "version": trt.__version__, "plans": found}
    print(json.dumps(report) if args.json else "\n".join(_lines(report)))
    return 0


class _Making:
    """One model on its way to a plan that is kept, loads, and agrees with the CPU."""

    def __init__(
        self, engine: Engine, precision: str, cache: Path, device: Device, options: BuildOptions
    ) -> None:
        self.engine, self.precision = engine, precision
        self.cache, self.device, self.options = cache, device, options

    def made(self, trt: ModuleType, told: _Told) -> dict[str, Any]:
        model = self.engine.models[self.precision]
        plan = plans.obtain(trt, model, self.cache, self.device, self.options, told)
        if plan.kept is None:
            raise Breakage(f"the plan was built, but cannot be kept in {self.cache}; see above")
        kind = importer.choose(BACKENDS, trt.__name__, "backend")
        with ExitStack() as stack:
            session = kind(self.cache, options=self.options, tell=told).open(model, threads=1)
            stack.callback(session.close)
            _, reference = open_first(["onnxruntime", "openvino"], model, 1)
            stack.callback(reference.close)
            try:
                agreed = self._agreed(reference, session)
            except ParityError as error:
                plans.forget(plan, str(error), told)
                raise
        plans.passed(plan, **agreed)
        facts = {"device": self.device.name, "fresh": plan.fresh, "kept": str(plan.kept)}
        return {"computes_in": plan.precision, "bytes": len(plan.raw), **facts, "parity": agreed}

    def _agreed(self, reference: Any, session: Any) -> dict[str, float]:
        """How far the plan is from the CPU on the challenge and on noisy copies of it."""
        parity.challenge(session, self.engine, self.precision)
        limit = parity.stated(self.engine, self.precision).tolerance
        found = parity.compare(reference, session, parity.noisy(self.engine, CROPS))
        if not found.max_score_difference <= limit:
            raise ParityError(
                f"engine {self.engine.title}: scores of the plan and of the CPU differ by "
                f"{found.max_score_difference:.3g} on {CROPS} crops, the limit is {limit:.3g}; "
                "use another precision or release of TensorRT"
            )
        return {
            "crops": CROPS,
            "score": found.max_score_difference,
            "map": found.max_map_difference,
            "limit": limit,
        }


class _Told:
    """Shows what is told of a build, and remembers nothing."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self.precision = REFERENCE

    def __call__(self, event: str, **facts: Any) -> None:
        if event == "plan_progress":
            self._stages.show(f"{self.precision}: {facts['phase']}", facts["step"], facts["of"])
            return
        words = event.replace("_", " ")
        reason = "; ".join(f"{key} {value}" for key, value in facts.items() if key != "reason")
        shown = [str(facts["reason"])] if "reason" in facts else []
        self._stages.tell(f"{self.precision}: {words}: {'; '.join([*shown, reason]).strip('; ')}")


def _checked(trt: ModuleType, model: bytes, options: BuildOptions, told: _Told) -> dict[str, Any]:
    found = built(trt, model, options, told)
    return {"computes_in": found.precision, "bytes": len(found.raw), "seconds": found.seconds}


def _models(engine: Engine, precision: str | None) -> dict[str, bytes]:
    if precision is None:
        return dict(engine.models)
    if precision not in engine.models:
        raise Misuse(
            f"--precision {precision}: engine {engine.title} has {', '.join(engine.models)}; "
            "'engine quantise' and 'engine half' make others"
        )
    return {precision: engine.models[precision]}


def _installed() -> str:
    found = next((name for name in MODULES if importlib.util.find_spec(name)), None)
    if found is None:
        raise BackendMissing(
            f"neither {' nor '.join(MODULES)} is installed; see docs/tensorrt.md for how"
        )
    return found


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BackendMissing(f"{error}; see docs/tensorrt.md for how to install {name}") from error


def _lines(report: dict[str, Any]) -> list[str]:
    lines = [f"{report['engine']} with {report['backend']} {report['version']}"]
    for precision, plan in report["plans"].items():
        facts = ", ".join(f"{key} {value}" for key, value in plan.items())
        lines.append(f"{precision}: {facts}")
    return lines
