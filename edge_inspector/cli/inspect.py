"""`inspect`: judge images with a recipe, or look at them with an engine alone."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2

from edge_inspector import clock
from edge_inspector.inspector import Inspector, Seen, open_inspector
from edge_inspector.manifest import load_manifest
from edge_inspector.recipe import Recipe, Region
from edge_inspector.records import Frame, FrameHead, FrameKey, Outcome
from edge_inspector.sinks.archive import caption, draw_reject
from edge_inspector.studies.dataset import read_image

NOT_CALIBRATED = "not calibrated"


def add_inspect(parser: argparse.ArgumentParser) -> None:
    """Arguments of `inspect`."""
    parser.add_argument("target", type=Path, help="recipe.toml or an engine's folder")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    parser.add_argument(
        "--pictures", type=Path, help="folder for crops with their anomaly and class maps"
    )
    parser.add_argument("--json", action="store_true", help="one object a line")


def run_inspect(args: argparse.Namespace) -> int:
    """0 when every image passes (or an engine alone only scored), 1 otherwise."""
    rejected = 0
    for path in args.images:
        pixels = read_image(path)
        recipe = (
            whole_image_recipe(args.target, pixels.shape) if args.target.is_dir() else args.target
        )
        with open_inspector(recipe) as inspector:
            head = head_of(path, inspector.recipe)
            seen = inspector.look(Frame(head, pixels))
        facts = _facts(path, head, seen, inspector)
        print(json.dumps(facts) if args.json else _line(facts))
        if args.pictures is not None:
            _draw(args.pictures, path, head, seen)
        rejected += seen.inspection.outcome is not Outcome.PASS
    return 0 if args.target.is_dir() or not rejected else 1


def whole_image_recipe(folder: Path, shape: tuple[int, ...]) -> Recipe:
    """A recipe of one region, the whole image, for an engine that nobody calibrated yet."""
    manifest = load_manifest(folder)
    return Recipe(
        product=manifest.name,
        version=1,
        latency_budget_ms=1000,
        engines={manifest.name: folder},
        regions=(Region(name="image", rect=(0, 0, shape[1], shape[0]), engine=manifest.name),),
    )


def head_of(path: Path, recipe: Recipe) -> FrameHead:
    """A head for a file, as if the recipe's first camera had sent it."""
    now = clock.now_ns()
    return FrameHead(
        key=FrameKey("file", "", 1),
        station="file",
        camera=recipe.cameras[0],
        recipe=recipe.product,
        arrived_ns=now,
        time_zero_ns=now,
        unit_id=path.stem,
    )


def _facts(path: Path, head: FrameHead, seen: Seen, inspector: Inspector) -> dict[str, Any]:
    inspection = seen.inspection
    return {
        "image": str(path),
        "outcome": inspection.outcome.value if inspector.recipe.calibration else NOT_CALIBRATED,
        "reason": inspection.reason.value if inspection.reason else None,
        "detail": inspection.detail,
        "defect_class": inspection.defect_class,
        "anomaly_score": inspection.anomaly_score,
        "threshold": inspection.threshold,
        "regions": [
            {
                "name": crop.roi.name,
                "raw_score": score.anomaly_score,
                "box": score.box,
                "defect_class": score.defect_class,
                "probability": score.probability,
            }
            for crop, score in zip(seen.crops, seen.scores, strict=True)
        ],
        "degraded": inspection.degraded,
        "stages_us": inspection.stages_us,
    }


def _line(facts: dict[str, Any]) -> str:
    regions = facts["regions"]
    worst = max(regions, key=lambda region: region["raw_score"], default=None)
    raw = "raw score nan" if worst is None else f"raw score {worst['raw_score']:.4g}"
    judged = facts["outcome"] != NOT_CALIBRATED  # then the detail names the class
    if worst is not None and worst["probability"] is not None and not judged:
        raw += f", {worst['defect_class']} (probability {worst['probability']:.3g})"
    return f"{facts['image']}: {facts['outcome']}, {raw} {facts['detail']}".rstrip()


def _draw(folder: Path, path: Path, head: FrameHead, seen: Seen) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for crop, score in zip(seen.crops, seen.scores, strict=True):
        picture = draw_reject(crop.pixels, score, caption(head, seen.inspection))
        cv2.imwrite(str(folder / f"{path.stem}-{crop.roi.name}.png"), picture)
