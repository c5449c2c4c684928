"""`engine build` on a GPU, from the ONNX to a plan that agrees with the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_inspector.backends.tensorrt import TensorRt
from edge_inspector.cli.main import main


def test_a_plan_is_kept_agrees_with_the_cpu_and_is_not_built_again(
    backend: type[TensorRt], tiny_engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["engine", "build", str(tiny_engine), "--backend", backend.name, "--json"]
    for fresh in (True, False):
        assert main([*command, "--cache", str(tmp_path / "plans")]) == 0
        plan = json.loads(capsys.readouterr().out)["plans"]["float32"]
        assert plan["fresh"] is fresh
        assert plan["parity"]["score"] <= plan["parity"]["limit"]
        sidecar = Path(plan["kept"]).with_suffix(".json")
        assert json.loads(sidecar.read_text())["parity"]["crops"] == 256
