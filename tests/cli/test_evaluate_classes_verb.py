from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_inspector.cli.main import main


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label, level in (("good", 100), ("bright", 220), ("dark", 10)):
        folder = tmp_path / "data" / label
        folder.mkdir(parents=True)
        for index in range(20):
            pixels = 100 + rng.normal(0, 1, (32, 32))
            pixels[5:15, 5:15] = level
            cv2.imwrite(str(folder / f"{index}.png"), pixels.astype(np.uint8))
    return tmp_path / "data"


def test_classes_are_told_written_and_drawn(
    tiny_classifier: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="no picture is drawn: matplotlib is missing")
    out = {name: tmp_path / name for name in ("report.json", "scores.csv", "one.svg", "two.svg")}
    words = ["evaluate", str(tiny_classifier), "--data", str(data)]
    words += ["--json", str(out["report.json"]), "--scores", str(out["scores.csv"])]
    assert main([*words, "--picture", str(out["one.svg"])]) == 0
    assert main([*words, "--picture", str(out["two.svg"])]) == 0
    report = json.loads(out["report.json"].read_text())
    assert (report["accuracy"], report["images"]) == (1.0, 9)  # 15 % of 20, of every class
    told = capsys.readouterr().out
    assert "kinds/1 on openvino, 9 images of 'test'" in told
    assert "dark: 3 images, precision 1.0, recall 1.0" in told
    with out["scores.csv"].open() as file:
        assert {row["label"] for row in csv.DictReader(file)} == {"good", "bright", "dark"}
    assert out["one.svg"].read_bytes() == out["two.svg"].read_bytes()


@pytest.mark.parametrize(
    "words", [["--ramps"], ["--threshold", "0.5"], ["--picture", "x.pdf"], ["--unknown", "dark"]]
)
def test_wrong_use_exits_with_two_and_one_line(
    tiny_classifier: Path, data: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tiny_classifier), "--data", str(data), *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_anomaly_engine_has_no_confusion(
    tiny_engine: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(tiny_engine), "--data", str(data), "--picture", "x.svg"]
    assert main(words) == 2
    assert "is a scorer of anomalies, which has none" in capsys.readouterr().err


def test_classifiers_are_verified_compared_and_timed(
    tiny_classifier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["engine", "verify", str(tiny_classifier)]) == 0
    assert main(["engine", "show", str(tiny_classifier)]) == 0
    capsys.readouterr()
    assert main(["engine", "parity", str(tiny_classifier), "--crops", "8", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["max_probability_difference"] < 1e-4
    assert main(["bench", "backend", "--engine", str(tiny_classifier), "--crops", "20"]) == 0
    assert json.loads(capsys.readouterr().out)["fastest"] in ("openvino", "onnxruntime")
