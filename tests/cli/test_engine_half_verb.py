from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_inspector.backends import open_first
from edge_inspector.bundle import open_engine, seal
from edge_inspector.cli.main import main
from edge_inspector.manifest import Challenge
from edge_inspector.parity import challenge
from edge_inspector.training.half import in_half
from tests.families import SHAPE, exported


@pytest.fixture
def engine(tiny_engine: Path, tmp_path: Path) -> Path:
    """An engine of convolutions; the tiny one has none."""
    folder = tmp_path / "lean" / "1"
    folder.mkdir(parents=True)
    model = exported("lean")
    (folder / "model.onnx").write_bytes(model)
    rng = np.random.default_rng(0)
    good = rng.normal(60, 4, (64, 64, 1)).clip(0, 255).astype(np.uint8)
    bad = good.copy()
    bad[20:30, 20:30] = 250
    for name, pixels in (("good", good), ("bad", bad)):
        cv2.imwrite(str(folder / f"{name}.png"), pixels)
    _, session = open_first(["onnxruntime"], model, 1)
    scores = session.run(np.stack([good, bad]))["score"]
    session.close()
    stated = Challenge(
        good="good.png",
        bad="bad.png",
        good_score=float(scores[0]),
        bad_score=float(scores[1]),
        tolerance=0.02 * abs(float(scores[1] - scores[0])),
    )
    tiny = open_engine(tiny_engine).manifest
    changes = {"name": "lean", "input": SHAPE, "challenge": stated}
    seal(folder, tiny.model_copy(update=changes))
    return folder


def test_the_next_version_is_float16_and_passes_the_same_challenge(
    engine: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "lean" / "2"
    assert main(["engine", "half", str(engine), "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    made = open_engine(out)
    assert (made.title, made.manifest.precision) == ("lean/2", "float16")
    assert report["made_of_digest"] == open_engine(engine).digest
    assert 0 < report["max_score_difference"] <= report["limit"]
    assert made.model == in_half(open_engine(engine).model)
    for name in ("onnxruntime", "openvino"):
        _, session = open_first([name], made.model, 1)
        challenge(session, made)
        session.close()


def test_float16_that_changes_what_the_engine_says_is_refused(
    engine: Path, tmp_path: Path, capsys
) -> None:
    strict = tmp_path / "strict" / "1"
    strict.mkdir(parents=True)
    manifest = open_engine(engine).manifest
    for name in manifest.files:
        (strict / name).write_bytes((engine / name).read_bytes())
    narrow = manifest.challenge.model_copy(update={"tolerance": 1e-12})
    seal(strict, manifest.model_copy(update={"challenge": narrow}))
    out = tmp_path / "strict" / "2"
    assert main(["engine", "half", str(strict), "--out", str(out)]) == 1
    assert "differ by" in capsys.readouterr().err
    assert not out.exists()


def test_a_half_is_not_halved(engine: Path, tmp_path: Path, capsys) -> None:
    first, second = (str(tmp_path / "lean" / number) for number in "23")
    assert main(["engine", "half", str(engine), "--out", first]) == 0
    assert main(["engine", "half", first, "--out", second]) == 2
    assert "engine lean/2 is float16 already" in capsys.readouterr().err
