from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_inspector.cli.main import main


def test_engines_below_a_folder_are_listed(
    tiny_engine: Path, make_engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_engine(tmp_path / "colour" / "1", channels=3)
    assert main(["engine", "list", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [engine["input"] for engine in found] == [[32, 32, 3], [32, 32, 1]]
    assert main(["engine", "list", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("tiny/1  anomaly") == 2
    assert main(["engine", "list", str(tmp_path / "nowhere")]) == 2


def test_manifest_is_shown_with_its_digest(
    tiny_engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["engine", "show", str(tiny_engine)]) == 0
    assert "# digest" in capsys.readouterr().out
    assert main(["engine", "show", str(tiny_engine), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "tiny"


def test_whole_engine_verifies_in_both_runtimes(
    tiny_engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["engine", "verify", str(tiny_engine), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["backends"] == {"openvino": "ok", "onnxruntime": "ok"}


def test_flipped_bit_is_a_finding(tiny_engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tiny_engine / "model.onnx"
    raw = bytearray(path.read_bytes())
    raw[100] ^= 1
    path.write_bytes(raw)
    assert main(["engine", "verify", str(tiny_engine)]) == 1
    told = capsys.readouterr().err
    assert "model.onnx: sha256" in told
    assert told.count("\n") == 1


def test_runtime_that_scores_otherwise_is_a_finding(
    tiny_engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["engine", "verify", str(tiny_engine), "--backend", "fake"]) == 1
    assert "challenge refused" in capsys.readouterr().out


def test_parity_compares_two_runtimes(
    tiny_engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["engine", "parity", str(tiny_engine), "--crops", "20", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["crops"] == 20
    assert report["max_score_difference"] <= report["limit"]
    fake = ["engine", "parity", str(tiny_engine), "--backend", "openvino", "--backend", "fake"]
    assert main(fake) == 1
    assert "maps of" in capsys.readouterr().err
    assert main([*fake, "--backend", "onnxruntime"]) == 2
