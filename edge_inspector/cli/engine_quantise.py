"""`engine quantise`: the next version of an engine, with a second graph in eight bits."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from edge_inspector.bundle import open_engine


def add_quantise(parser: argparse.ArgumentParser) -> None:
    """Arguments of `engine quantise`."""
    parser.add_argument("folder", type=Path, help="an engine's folder")
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="what it was trained on: ranges are of 'train', the gate is passed on 'val'",
    )
    parser.add_argument("--out", type=Path, required=True, help="the next version's folder")
    parser.add_argument("--json", action="store_true", help="print one object")


def run_quantise(args: argparse.Namespace) -> int:
    """0 when it was written; where eight bits find less than the engine does, that is an error."""
    from edge_inspector.training.quantise import quantise

    manifest = quantise(open_engine(args.folder), args.data, args.out)
    found = manifest.int8
    assert found is not None
    if args.json:
        print(json.dumps({"engine": f"{manifest.name}/{manifest.version}", **found.model_dump()}))
    else:
        print(
            f"wrote {manifest.name}/{manifest.version}: recall at {found.overkill:.1%} overkill "
            f"{found.recall_int8:.4f} in eight bits, {found.recall_float32:.4f} in float32, on "
            f"{found.validation_crops} held-out crops with {found.defects} defects"
        )
    return 0
