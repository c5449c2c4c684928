"""Names of TensorRT that the code uses, against the Python modules of three releases."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
RELEASES: dict[str, dict[str, Any]] = json.loads(
    (ROOT / "tests/data/trt_api_names.json").read_text(encoding="utf-8")
)
FILES = sorted((ROOT / "edge_inspector/backends").glob("*.py"))
CLASSES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "inspector": "EngineInspector",
}
"""What a variable of this name is, wherever it stands in a file that uses `trt`."""
GUARDED = {("ICudaEngine", "create_runtime_config")}
"""Used only under TensorRT for RTX, which is told by a class that the others lack."""
PLAIN = {"__name__", "__version__", "__init__"}


def chain(node: ast.AST) -> list[str]:
    """['trt', 'A', 'B'] of the expression `trt.A.B`; empty of any other."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return [node.id, *parts] if isinstance(node, ast.Name) else []


def used(source: str) -> Iterator[tuple[str, ...]]:
    """A name of the module, or a class and its member, for each place that uses one."""
    tree = ast.parse(source)
    attributes = [chain(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    if not any(parts[:1] == ["trt"] for parts in attributes):
        return
    for parts in (names for names in attributes if not PLAIN.intersection(names)):
        start, *names = parts or [""]
        if start in {"self", "cls"} and names:
            start, *names = [names[0].lstrip("_"), *names[1:]]
        if start == "trt" and names:
            yield tuple(names[:2])
        elif start in CLASSES and names:
            yield CLASSES[start], names[0]


def lacks(release: dict[str, Any], names: tuple[str, ...]) -> bool:
    entry = release.get(names[0])
    if entry is None or len(names) == 1:
        return entry is None
    members = entry["enum"] if isinstance(entry, dict) else entry
    return names[1] not in members


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_name_is_in_every_release(path: Path) -> None:
    found = set(used(path.read_text(encoding="utf-8"))) - GUARDED
    missing = {
        f"{'.'.join(names)} is not in {version}"
        for names in found
        for version, release in RELEASES.items()
        if lacks(release, names)
    }
    assert not missing


def test_the_builder_and_the_runner_are_looked_at() -> None:
    found = {names for path in FILES for names in used(path.read_text(encoding="utf-8"))}
    assert ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED") in found
    assert ("OnnxParser", "parse") in found
    assert ("Runtime", "deserialize_cuda_engine") in found or ("Runtime",) in found


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("flag = trt.BuilderFlag.FP16", "11.4"),
        ("flag = trt.BuilderFlag.STRICT_NANS", "10.3"),
        ("trt.Weightless()", "10.16"),
        ("trt.Builder(log)\nengine.device_memory_size", "11.4"),
        ("trt.Builder(log)\nself._context.execute_async_v2(1)", "10.3"),
        ("flag = trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH", "11.4"),
    ],
)
def test_a_name_that_a_release_lacks_is_found(source: str, words: str) -> None:
    assert any(lacks(RELEASES[words], names) for names in used(source))


def test_rtx_has_what_the_three_releases_have_and_the_code_uses() -> None:
    rtx = pytest.importorskip(
        "tensorrt_rtx", reason="tensorrt_rtx is absent; tests/setup_trt.sh installs it"
    )
    found = {names for path in FILES for names in used(path.read_text(encoding="utf-8"))}
    for names in found:
        part: Any = rtx
        for name in names:
            assert hasattr(part, name), f"tensorrt_rtx has no {'.'.join(names)}"
            part = getattr(part, name)
