"""`schema`: the JSON Schemas of the three documents, for editors and other programs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from pydantic import BaseModel

from edge_inspector.manifest import Manifest
from edge_inspector.recipe import Recipe
from edge_inspector.settings import Settings

DOCUMENTS: dict[str, type[BaseModel]] = {
    "station": Settings,
    "recipe": Recipe,
    "manifest": Manifest,
}


def add_schema(parser: argparse.ArgumentParser) -> None:
    """Arguments of `schema`."""
    parser.add_argument("--out", type=Path, default=Path("docs/schema"), metavar="FOLDER")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when they differ")


def run_schema(args: argparse.Namespace) -> int:
    """Write the schemas, or with `--check` name those that are not up to date."""
    stale = 0
    for name in DOCUMENTS:
        path = args.out / f"{name}.json"
        text = schema(name)
        if not args.check:
            args.out.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            print(f"{path} is not up to date; run: edge-inspector schema", file=sys.stderr)
            stale += 1
    return 1 if stale else 0


def schema(name: str) -> str:
    """The JSON Schema of a document as text that does not change with the order of fields."""
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(draft | DOCUMENTS[name].model_json_schema(), indent=2, sort_keys=True) + "\n"
