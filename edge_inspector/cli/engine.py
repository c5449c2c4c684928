"""`engine`: lists and shows engines, verifies their files and scores, compares runtimes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from edge_inspector import parity
from edge_inspector.backends import open_first, precision_of
from edge_inspector.bundle import MANIFEST, Engine, open_engine
from edge_inspector.choice import Runtimes, candidates, open_runner
from edge_inspector.cli.engine_build import add_build, run_build
from edge_inspector.cli.engine_half import add_half, run_half
from edge_inspector.cli.engine_lint import add_lint, run_lint
from edge_inspector.cli.engine_quantise import add_quantise, run_quantise
from edge_inspector.errors import BackendMissing, DataError, EngineRefused, Misuse
from edge_inspector.manifest import load_manifest
from edge_inspector.records import Pixels
from edge_inspector.studies.dataset import load_crops, read_items

BACKENDS = ("openvino", "onnxruntime")


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Arguments of `engine`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="engines below a folder")
    listing.add_argument("root", type=Path, nargs="?", default=Path("engines"))
    show = actions.add_parser("show", help="what the manifest says")
    verify = actions.add_parser(
        "verify", help="files against the manifest, scores against training"
    )
    agree = actions.add_parser("parity", help="the same crops through two runtimes")
    for action in (show, verify, agree):
        action.add_argument("folder", type=Path, help="an engine's folder")
    for action in (verify, agree):
        action.add_argument(
            "--backend", action="append", help="runner to use, such as openvino:int8"
        )
    agree.add_argument("--data", type=Path, help="CSV or folder of images to compare on")
    agree.add_argument("--crops", type=int, default=200, help="how many crops; default 200")
    add_lint(actions.add_parser("lint", help="what makes its graph slow, and the rewrite"))
    add_build(actions.add_parser("build", help="TensorRT plans for this box, kept for the line"))
    add_quantise(actions.add_parser("quantise", help="its next version, with a graph in int8"))
    add_half(actions.add_parser("half", help="its next version in float16, for TensorRT"))
    for action in (listing, show, verify, agree):
        action.add_argument("--json", action="store_true", help="print one object")


def run_engine(args: argparse.Namespace) -> int:
    """0 when all is well, 1 when an engine is corrupt or runtimes disagree."""
    return _ACTIONS[args.action](args)


def _list(args: argparse.Namespace) -> int:
    if not args.root.is_dir():
        raise Misuse(f"{args.root}: there is no such folder")
    found = []
    for path in sorted(args.root.rglob(MANIFEST)):
        manifest = load_manifest(path.parent)
        found.append(
            {
                "engine": f"{manifest.name}/{manifest.version}",
                "kind": manifest.kind,
                "architecture": manifest.architecture,
                "precision": manifest.precision,
                "input": [manifest.input.height, manifest.input.width, manifest.input.channels],
                "folder": str(path.parent),
            }
        )
    if args.json:
        print(json.dumps(found))
        return 0
    for engine in found:
        size = "x".join(str(side) for side in engine["input"])
        print(
            f"{engine['engine']}  {engine['kind']}  {engine['architecture']}  {size}  "
            f"{engine['precision']}  {engine['folder']}"
        )
    return 0


def _show(args: argparse.Namespace) -> int:
    engine = open_engine(args.folder)
    if args.json:
        print(json.dumps({"digest": engine.digest, **engine.manifest.model_dump(mode="json")}))
        return 0
    text = (args.folder / MANIFEST).read_text(encoding="utf-8")
    print(f"# digest {engine.digest}\n{text}", end="")
    return 0


def _verify(args: argparse.Namespace) -> int:
    engine = open_engine(args.folder)
    outcomes: dict[str, str] = {}
    for name in args.backend or candidates(engine, runtimes=BACKENDS):
        try:
            _, session = open_runner(engine, Runtimes([name]))
            session.close()
            outcomes[name] = "ok"
        except BackendMissing as error:
            outcomes[name] = f"not checked: {error}"
        except EngineRefused as error:
            outcomes[name] = f"refused: {error}"
    if args.json:
        print(json.dumps({"engine": engine.title, "digest": engine.digest, "backends": outcomes}))
    else:
        print(f"{engine.title}: {len(engine.manifest.files)} files as listed, {engine.digest}")
        for name, outcome in outcomes.items():
            print(f"{name}: challenge {outcome}")
    if all(outcome.startswith("not checked") for outcome in outcomes.values()):
        raise BackendMissing("no runtime could check the scores; install 'openvino'")
    return int(any(outcome.startswith("refused") for outcome in outcomes.values()))


def _parity(args: argparse.Namespace) -> int:
    names = args.backend or BACKENDS
    if len(names) != 2:
        raise Misuse(
            f"{len(names)} backends are named; parity compares two: --backend A --backend B"
        )
    engine = open_engine(args.folder)
    crops = _crops(engine, args.data, args.crops)
    a, b = (open_first([name], engine.models, threads=1)[1] for name in names)
    found = parity.compare(a, b, crops)
    limit = max(parity.stated(engine, precision_of(name)[1]).tolerance for name in names)
    report: dict[str, Any] = {
        "engine": engine.title,
        "backends": list(names),
        "crops": len(crops),
        "max_score_difference": found.max_score_difference,
        "max_map_difference": found.max_map_difference,
        "max_probability_difference": found.max_probability_difference,
        "worst": found.worst,
        "limit": limit,
        "agree": found.max_score_difference <= limit
        and found.max_probability_difference <= parity.PROBABILITY_AGREEMENT,
    }
    if args.json:
        print(json.dumps(report))
    else:
        for key, value in report.items():
            print(f"{key}: {value}")
    return 0 if report["agree"] else 1


def _crops(engine: Engine, data: Path | None, count: int) -> Pixels:
    """Crops of the user's images; without, the challenge pair and noisy copies of it."""
    if data is None:
        return parity.noisy(engine, max(count, 2))
    found = [crop for _, crop in load_crops(read_items(data)[:count], engine.manifest.input, [])]
    if not found:
        raise DataError(f"{data}: none of its first {count} images could be read")
    return np.stack(found)


_ACTIONS = {
    "list": _list,
    "show": _show,
    "verify": _verify,
    "parity": _parity,
    "build": run_build,
    "half": run_half,
    "quantise": run_quantise,
    "lint": run_lint,
}
