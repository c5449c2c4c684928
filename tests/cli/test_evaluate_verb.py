from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_inspector.cli.main import main


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label, spot, count in (("good", 0, 40), ("dent", 80, 10)):
        folder = tmp_path / "data" / label
        folder.mkdir(parents=True)
        for i in range(count):
            pixels = 100 + rng.normal(0, 4, (40, 40))
            pixels[5:15, 5:15] += spot
            cv2.imwrite(str(folder / f"{i}.png"), pixels.astype(np.uint8))
    return tmp_path / "data"


def test_report_is_written_and_told(
    tiny_engine: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.json"
    words = ["evaluate", str(tiny_engine), "--data", str(data), "--json", str(out), "--baselines"]
    assert main(words) == 0
    report = json.loads(out.read_text())
    assert report["auroc"] == 1.0
    assert report["baselines"]["area_auroc"] == 0.5
    told = capsys.readouterr().out
    assert "tiny/1 on openvino" in told
    assert "dent: 5 images" in told


def test_wrong_use_exits_with_two_and_one_line(
    tiny_engine: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (
        ["--data", str(data / "nothing.csv")],
        ["--data", str(data), "--overkill", "2"],
        ["--data", str(data), "--backend", "abacus"],
    ):
        assert main(["evaluate", str(tiny_engine), *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1
