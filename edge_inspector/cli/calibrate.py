"""`calibrate`: sets the threshold of a recipe from good units, with the overkill it promises."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from edge_inspector.bundle import open_engine
from edge_inspector.errors import DataError, Misuse
from edge_inspector.inspector import open_inspector
from edge_inspector.recipe import Calibration, load_recipe
from edge_inspector.rules import rules_digest
from edge_inspector.studies.calibrate import Calibrated, calibrate, units_needed
from edge_inspector.studies.calibrate_quality import (
    frame_quality,
    held_out_rejects,
    measure_frames,
)
from edge_inspector.studies.calibrate_recipe import (
    Collected,
    Evidence,
    collect,
    engine_evidence,
    fused,
    good_units,
    one_region_recipe,
    recipe_evidence,
    write_calibration,
    write_quality,
)
from edge_inspector.studies.dataset import SPLITS, Item, read_image, read_items
from edge_inspector.studies.evaluate import open_target

BACKENDS = ("openvino", "onnxruntime")


def add_calibrate(parser: argparse.ArgumentParser) -> None:
    """Arguments of `calibrate`."""
    parser.add_argument("target", type=Path, help="recipe.toml, or an engine's folder with --out")
    parser.add_argument("--data", type=Path, required=True, help="CSV or folder of labelled images")
    parser.add_argument("--split", choices=SPLITS, default="val", help="default: val")
    parser.add_argument("--overkill", type=float, default=0.01, help="unit overkill rate to keep")
    parser.add_argument("--confidence", type=float, default=0.95, help="default: 0.95")
    parser.add_argument("--strict", action="store_true", help="refuse when units are too few")
    parser.add_argument(
        "--backend", action="append", help="runner, by preference: openvino:int8, auto"
    )
    parser.add_argument("--threads", type=int, default=1, help="as on the line; default: 1")
    parser.add_argument(
        "--no-gate",
        action="store_true",
        help="write no [quality], so that frames of any light, focus and place are judged",
    )
    parser.add_argument("--out", type=Path, help="recipe to write for an engine's folder")
    parser.add_argument("--json", action="store_true", help="print the report as one object")


def run_calibrate(args: argparse.Namespace) -> int:
    """Score good units, set the threshold, write it into the recipe."""
    for name in ("overkill", "confidence"):
        if not 0 < getattr(args, name) < 1:
            raise Misuse(f"--{name} is {getattr(args, name):g}; it must lie between 0 and 1")
    items = read_items(args.data)
    collected, found, table = _engine(args, items) if args.target.is_dir() else _recipe(args, items)
    report = _report(args, collected, found, table)
    report["quality"] = _gate(args, items, collected, found)
    print(json.dumps(report) if args.json else _text(report))
    return 0


def _recipe(
    args: argparse.Namespace, items: Sequence[Item]
) -> tuple[Collected, Calibrated, Calibration]:
    recipe = load_recipe(args.target)
    recipe = recipe.model_copy(update={"calibration": None, "quality": {}})
    digests = {name: open_engine(folder).digest for name, folder in recipe.engines.items()}
    units = good_units(items, args.split, recipe.cameras)
    with open_inspector(
        recipe, backends=args.backend or BACKENDS, threads=args.threads
    ) as inspector:
        collected = _collect(units, recipe_evidence(inspector))
        found = _calibrate(args, collected, fused(recipe))
        backend = inspector.backend or "opencv"
        judging = {region.rules for region in recipe.regions if region.rules is not None}
        rules = {name: rules_digest(recipe.rules[name]) for name in sorted(judging)}
        table = found.document(args.overkill, args.confidence, backend, digests, rules)
    write_calibration(args.target, table)
    return collected, found, table


def _engine(
    args: argparse.Namespace, items: Sequence[Item]
) -> tuple[Collected, Calibrated, Calibration]:
    if args.out is None:
        raise Misuse(f"{args.target} is an engine, which never changes; give --out for the recipe")
    engine = open_engine(args.target)
    name = engine.manifest.name
    units = good_units(items, args.split, ("main",))
    with open_target(args.target, args.backend or BACKENDS, args.threads) as target:
        collected = _collect(units, engine_evidence(target))
        found = _calibrate(args, collected)
        table = found.document(
            args.overkill, args.confidence, target.backend, {name: engine.digest}
        )
    sizes = {read_image(Path(unit)).shape[:2] for unit in collected.units}
    shape = engine.manifest.input
    height, width = sizes.pop() if len(sizes) == 1 else (shape.height, shape.width)
    if sizes:
        Console(stderr=True).print(
            f"The images differ in size; the recipe's region is {width}x{height} px, "
            "so send frames of that size."
        )
    one_region_recipe(args.target, name, (width, height), table, args.out)
    return collected, found, table


def _gate(
    args: argparse.Namespace, items: Sequence[Item], collected: Collected, found: Calibrated
) -> dict[str, Any]:
    """Learn what frames the recipe is for from the units kept, and write it; per camera."""
    path = args.out if args.target.is_dir() else args.target
    if args.no_gate:
        write_quality(path, {})
        return {}
    recipe = load_recipe(path)
    aside = {collected.units[index] for index in found.set_aside}
    kept = set(collected.units) - aside
    units = [
        unit for unit in good_units(items, args.split, recipe.cameras) if str(unit[0].path) in kept
    ]
    learning = recipe.model_copy(update={"quality": {}})
    with open_inspector(
        learning, backends=args.backend or BACKENDS, threads=args.threads
    ) as inspector:
        frames = measure_frames(inspector, units)
    tables = {
        camera: frame_quality(seen, recipe.quality.get(camera))
        for camera, seen in frames.items()
        if seen.measured
    }
    write_quality(path, tables)
    return {
        camera: {
            "refuse_repeats": table.refuse_repeats,
            "measures": len(table.limits),
            "frames": len(frames[camera].measured),
            "held_out_rejects": held_out_rejects(frames[camera].measured),
        }
        for camera, table in tables.items()
    }


def _collect(units: Sequence[Sequence[Item]], evidence: Evidence) -> Collected:
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("units", total=len(units))
        return collect(units, evidence, lambda done, _: progress.update(task, completed=done))


def _calibrate(
    args: argparse.Namespace, collected: Collected, both: Sequence[str] = ()
) -> Calibrated:
    found = calibrate(collected.scores, collected.names, args.overkill, args.confidence, both)
    if args.strict and found.provisional:
        raise DataError(
            f"{found.units} good units promise {found.promised_overkill:.2%} overkill; "
            f"{args.overkill:.2%} needs {units_needed(args.overkill, args.confidence)}. "
            "Add units or leave --strict out; nothing was written"
        )
    return found


def _report(
    args: argparse.Namespace, collected: Collected, found: Calibrated, table: Calibration
) -> dict[str, Any]:
    return {
        "recipe": str(args.out if args.target.is_dir() else args.target),
        **table.model_dump(mode="json", exclude={"regions", "set_aside"}),
        "units_needed": units_needed(args.overkill, args.confidence),
        "regions": len(table.regions),
        "set_aside": {
            collected.units[index]: round(float(found.unit_scores[index]), 4)
            for index in found.set_aside
        },
        "skipped": collected.skipped,
    }


def _text(report: dict[str, Any]) -> str:
    lines = [
        f"{report['recipe']}: threshold {report['threshold']:.4g} from {report['units']} good "
        f"units, {report['regions']} regions, on {report['backend']}",
        f"unit overkill at most {report['promised_overkill']:.3%} "
        f"with {report['confidence']:.0%} confidence, asked for {report['overkill']:.3%}",
    ]
    if report["provisional"]:
        lines.append(
            f"PROVISIONAL: the promise asked for needs {report['units_needed']} good units"
        )
    for camera, gate in report["quality"].items():
        repeats = "repeats refused" if gate["refuse_repeats"] else "repeats allowed"
        lines.append(
            f"frames of '{camera}' are held to {gate['measures']} limits, {repeats}; held out, "
            f"they refuse {gate['held_out_rejects']} of {gate['frames']} good frames"
        )
    for name, score in report["set_aside"].items():
        lines.append(f"set aside as probably defective, score {score}: {name}")
    for name, reason in report["skipped"].items():
        lines.append(f"skipped {name}: {reason}")
    return "\n".join(lines)
