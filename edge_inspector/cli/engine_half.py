"""`engine half`: the next version of an engine, its heavy part in float16, for TensorRT."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from edge_inspector import clock, parity
from edge_inspector.backends import open_first
from edge_inspector.bundle import open_engine
from edge_inspector.errors import Misuse

CROPS = 256
"""That both graphs must agree on: the challenge pair and noisy copies of it."""


def add_half(parser: argparse.ArgumentParser) -> None:
    """Arguments of `engine half`."""
    parser.add_argument("folder", type=Path, help="an engine's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder of the new version")
    parser.add_argument("--json", action="store_true", help="print one object")


def run_half(args: argparse.Namespace) -> int:
    """0 when it is written; raises `ParityError` where float16 changes what the engine says."""
    from edge_inspector.training.export import agreements, check_folder, proved, write_folder
    from edge_inspector.training.half import in_half
    from edge_inspector.training.twins import EXPORTED, twin

    engine = open_engine(args.folder)
    given = engine.manifest
    if given.precision != "float32":
        raise Misuse(f"engine {engine.title} is {given.precision} already")
    name, number = check_folder(args.out)
    model = in_half(twin(engine.model, EXPORTED))
    _, reference = open_first(["onnxruntime"], engine.model, 1)
    limit = given.challenge.tolerance
    found = agreements(reference, model, parity.noisy(engine, CROPS), limit)
    reference.close()
    draft = given.model_copy(
        update={
            "name": name,
            "version": number,
            "precision": "float16",
            "int8": None,
            "created_utc": clock.utc_text(clock.utc_ns()),
        }
    )
    told = {"made_of": engine.title, "made_of_digest": engine.digest, "limit": limit}
    write_folder(args.out, draft, model, (engine.good, engine.bad), {**told, **proved(found)})
    report = {
        "engine": f"{name}/{number}",
        **told,
        "bytes": len(model),
        "bytes_before": len(engine.model),
        "max_score_difference": max(runtime.max_score_difference for runtime in found.values()),
        "max_map_difference": max(runtime.max_map_difference for runtime in found.values()),
    }
    lines = (f"{key}: {value}" for key, value in report.items())
    print(json.dumps(report) if args.json else "\n".join(lines))
    return 0
