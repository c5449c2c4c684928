"""`engine lint`: what in a graph costs time or keeps a runtime from taking it, with the rewrite."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_inspector.bundle import open_engine
from edge_inspector.errors import BackendMissing, EngineRefused, Misuse
from edge_inspector.records import Pixels

if TYPE_CHECKING:
    from edge_inspector.training.graph_rules import Finding
    from edge_inspector.training.graph_walk import Graph


def add_lint(parser: argparse.ArgumentParser) -> None:
    """Arguments of `engine lint`."""
    parser.add_argument("path", type=Path, help="an engine's folder, or an ONNX file")
    parser.add_argument("--json", action="store_true", help="print one object")


def run_lint(args: argparse.Namespace) -> int:
    """1 when there is an error or a warning; notes are for those who want more speed."""
    reports = [_report(name, model, crop) for name, model, crop in _models(args.path)]
    if args.json:
        print(json.dumps({"path": str(args.path), "models": reports}))
    else:
        _tell(reports)
    levels = {finding["level"] for report in reports for finding in report["findings"]}
    return int(bool(levels & {"error", "warning"}))


def _models(path: Path) -> Iterator[tuple[str, bytes, Pixels | None]]:
    """Precision or file, graph, and a crop to measure with where there is one."""
    if path.is_dir():
        engine = open_engine(path)
        for precision, model in engine.models.items():
            yield precision, model, engine.bad
    elif path.is_file():
        yield path.name, path.read_bytes(), None
    else:
        raise Misuse(f"{path}: there is no such engine or file")


def _report(name: str, model: bytes, crop: Pixels | None) -> dict[str, Any]:
    from edge_inspector.training.graph_rules import lint
    from edge_inspector.training.graph_walk import Graph

    try:
        graph = Graph(model)
    except EngineRefused as error:
        raise EngineRefused(f"{name} {error}") from error
    found = lint(model)
    measured = "no: the graph has errors"
    if all(finding.level != "error" for finding in found):
        found, measured = _measured(model, found, _noise(graph) if crop is None else crop)
    return {
        "model": name,
        "mflop": round(sum(map(graph.work, graph.nodes)) / 1e6, 2),
        "moved_mb": round(sum(map(graph.moved, graph.nodes)) / 1e6, 2),
        "measured": measured,
        "findings": [finding.figures() for finding in found],
    }


def _measured(model: bytes, found: list[Finding], crop: Pixels) -> tuple[list[Finding], str]:
    """Findings with their nodes' shares of the time, and where that was measured, or why not."""
    from edge_inspector.training.graph_profile import shares

    try:
        spent = shares(model, crop)
    except (BackendMissing, EngineRefused) as error:
        return found, f"no: {error}"
    return [replace(each, share=spent.get(each.node)) for each in found], "onnxruntime, 1 thread"


def _noise(graph: Graph) -> Pixels:
    shape = graph.shapes[graph.inputs[0]]
    return np.random.default_rng(0).integers(0, 256, shape[1:], np.uint8)


def _tell(reports: list[dict[str, Any]]) -> None:
    from edge_inspector.training.graph_rules import Finding

    for report in reports:
        print(
            f"{report['model']}: {report['mflop']:g} MFLOP, {report['moved_mb']:g} MB moved for one "
            f"crop; shares of the time measured: {report['measured']}"
        )
        for finding in report["findings"]:
            print(f"  {Finding(**finding).told()}")
        if not report["findings"]:
            print("  nothing found")
