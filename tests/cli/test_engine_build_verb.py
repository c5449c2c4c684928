"""`engine build` as far as it goes without a GPU: what it refuses, and `--check` for real."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from edge_inspector.backends.driver import probe
from edge_inspector.bundle import open_engine
from edge_inspector.cli.main import main
from edge_inspector.errors import BackendMissing

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="plans are built with tensorrt_rtx; tests/setup_trt.sh installs it",
)


def no_driver() -> bool:
    try:
        probe()
    except BackendMissing:
        return True
    return False


def build(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = main(["engine", "build", *map(str, arguments)])
    told = capsys.readouterr()
    return code, told.out, told.err


@needs_rtx
def test_a_graph_that_the_builder_takes_is_checked_without_a_gpu(tiny_engine: Path, capsys) -> None:
    code, out, _ = build(capsys, tiny_engine, "--backend", "tensorrt_rtx", "--check", "--json")
    assert code == 0
    report = json.loads(out)
    assert report["engine"] == "tiny/1"
    assert report["backend"] == "tensorrt_rtx"
    assert report["plans"]["float32"]["computes_in"] == "float32"
    assert report["plans"]["float32"]["bytes"] > 1000
    code, out, _ = build(capsys, tiny_engine, "--backend", "tensorrt_rtx", "--check")
    assert code == 0
    assert "float32: computes_in float32, bytes" in out


@needs_rtx
def test_the_engine_that_is_shipped_builds_in_each_of_its_precisions(capsys) -> None:
    versions = (Path(__file__).resolve().parents[2] / "engines/bga").glob("*/manifest.toml")
    newest = max((path.parent for path in versions), key=lambda folder: int(folder.name))
    code, out, _ = build(capsys, newest, "--backend", "tensorrt_rtx", "--check", "--json")
    assert code == 0
    found = {name: plan["computes_in"] for name, plan in json.loads(out)["plans"].items()}
    assert found == {name: name for name in open_engine(newest).models}


def test_nowhere_to_keep_plans_is_wrong_use(tiny_engine: Path, capsys) -> None:
    code, _, err = build(capsys, tiny_engine)
    assert code == 2
    assert "give --cache DIR" in err


def test_a_precision_that_the_engine_lacks_is_wrong_use(tiny_engine: Path, capsys) -> None:
    code, _, err = build(capsys, tiny_engine, "--check", "--precision", "int8")
    assert code == 2
    assert "--precision int8: engine tiny/1 has float32" in err


def test_a_batch_of_none_is_wrong_use(tiny_engine: Path, capsys) -> None:
    code, _, err = build(capsys, tiny_engine, "--check", "--max-batch", "0")
    assert code == 2
    assert "--max-batch 0: give 1 to 1024" in err


@pytest.mark.skipif(not no_driver(), reason="this box has a CUDA device: tests/gpu builds on it")
@pytest.mark.parametrize("module", ["tensorrt", "tensorrt_rtx"])
def test_without_a_driver_one_sentence_says_so(
    tiny_engine: Path, tmp_path: Path, capsys, module: str
) -> None:
    code, _, err = build(capsys, tiny_engine, "--backend", module, "--cache", tmp_path / "plans")
    assert code == 3
    assert err.startswith("edge-inspector: no NVIDIA driver: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "plans").exists()
