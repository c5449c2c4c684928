from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_inspector.bundle import open_engine
from edge_inspector.choice import candidates
from edge_inspector.cli.main import main
from edge_inspector.inspector import open_inspector
from edge_inspector.recipe import load_recipe
from edge_inspector.records import Frame, FrameHead, FrameKey, Outcome
from edge_inspector.studies.dataset import read_image
from tests.conftest import write_eight_bits

RECIPE = """\
# The board of line 4.
product = "board"
version = 3
latency_budget_ms = 50

[engines]
tiny = "tiny/1"

[calibration]
# Set by hand for the first shift.
threshold = 1.0
overkill = 0.5
promised_overkill = 0.9
units = 1
backend = "openvino"

[calibration.engines]
tiny = "0000"

# Cells of the panel.
[[regions]]
name = "panel"
rect = [0, 0, 128, 64]
engine = "tiny"
grid = { rows = 1, columns = 2 }
"""


def _frame(path: Path, rng: np.random.Generator, spot: int = 0) -> None:
    pixels = 100 + rng.normal(0, rng.uniform(3, 5), (64, 128))
    pixels[10:30, 70:100] += spot
    cv2.imwrite(str(path), np.clip(pixels, 0, 250).astype(np.uint8))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(4)
    rows = ["path,label,split"]
    for i in range(80):
        _frame(tmp_path / f"{i}.png", rng, spot=120 if i in (17, 40) else 0)
        rows.append(f"{i}.png,good,val")
    (tmp_path / "units.csv").write_text("\n".join(rows))
    return tmp_path / "units.csv"


@pytest.fixture
def recipe(tmp_path: Path, tiny_engine: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def _outcome(recipe: Path, image: Path) -> Outcome:
    head = FrameHead(
        key=FrameKey("t", "", 1),
        station="s",
        camera="main",
        recipe="board",
        arrived_ns=0,
        time_zero_ns=0,
    )
    with open_inspector(recipe) as inspector:
        return inspector.inspect(Frame(head, read_image(image))).outcome


def test_threshold_goes_into_the_recipe_and_comments_stay(
    recipe: Path, data: Path, tiny_engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", str(recipe), "--data", str(data), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    found = load_recipe(recipe).calibration
    assert found is not None
    assert found.engines == {"tiny": open_engine(tiny_engine).digest}
    assert set(found.regions) == {"panel-r1c1", "panel-r1c2"}
    assert (found.units, found.set_aside, found.provisional) == (78, 2, True)
    assert found.promised_overkill == pytest.approx(1 - 0.05 ** (1 / 78))
    assert sorted(Path(name).stem for name in report["set_aside"]) == ["17", "40"]
    text = recipe.read_text()
    for comment in ("# The board of line 4.", "# Set by hand", "# Cells of the panel."):
        assert comment in text
    assert text.count("[calibration]") == 1


def test_calibrated_recipe_passes_its_good_units_and_fails_those_set_aside(
    recipe: Path, data: Path
) -> None:
    assert main(["calibrate", str(recipe), "--data", str(data)]) == 0
    outcomes = {name: _outcome(recipe, data.parent / f"{name}.png") for name in (0, 5, 17, 40)}
    assert outcomes == {0: Outcome.PASS, 5: Outcome.PASS, 17: Outcome.FAIL, 40: Outcome.FAIL}


@pytest.mark.parametrize("asked", ["openvino:int8", "auto"])
def test_the_runner_that_set_the_threshold_is_written_down(
    recipe: Path, data: Path, tiny_engine: Path, asked: str
) -> None:
    engine = open_engine(write_eight_bits(tiny_engine))
    assert main(["calibrate", str(recipe), "--data", str(data), "--backend", asked]) == 0
    found = load_recipe(recipe).calibration
    assert found is not None
    assert found.backend in (candidates(engine) if asked == "auto" else [asked])
    assert _outcome(recipe, data.parent / "0.png") is Outcome.PASS


def test_calibrating_twice_gives_the_same_recipe(recipe: Path, data: Path) -> None:
    main(["calibrate", str(recipe), "--data", str(data)])
    once = recipe.read_bytes()
    main(["calibrate", str(recipe), "--data", str(data)])
    assert recipe.read_bytes() == once


def test_strict_refuses_few_units_and_writes_nothing(
    recipe: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", str(recipe), "--data", str(data), "--strict"]) == 2
    assert "needs 299" in capsys.readouterr().err
    assert recipe.read_text() == RECIPE
    assert not list(recipe.parent.glob(".recipe*"))


def test_unit_that_cannot_be_read_is_skipped_and_named(
    recipe: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data.parent / "3.png").write_bytes(b"\x89PNG")
    assert main(["calibrate", str(recipe), "--data", str(data)]) == 0
    assert "3.png: is no image" in capsys.readouterr().out


def test_no_good_unit_is_wrong_use(
    recipe: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["calibrate", str(recipe), "--data", str(data), "--split", "test"]
    assert main(words) == 2
    assert "no image labelled good" in capsys.readouterr().err


def test_recipe_naming_a_missing_engine_is_told(
    recipe: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe.write_text(RECIPE.replace("tiny/1", "tiny/2"))
    assert main(["calibrate", str(recipe), "--data", str(data)]) == 2
    assert "manifest.toml: there is no such file" in capsys.readouterr().err


def test_engine_gets_a_recipe_of_one_region(
    tiny_engine: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made" / "recipe.toml"
    out.parent.mkdir()
    words = ["calibrate", str(tiny_engine), "--data", str(data), "--out", str(out)]
    assert main(words[:4]) == 2
    assert main(words) == 0
    recipe = load_recipe(out)
    assert recipe.regions[0].rect == (0, 0, 128, 64)
    assert recipe.calibration is not None
    assert _outcome(out, data.parent / "0.png") is Outcome.PASS
    assert _outcome(out, data.parent / "17.png") is Outcome.FAIL
    assert main(words) == 2
    assert "exists" in capsys.readouterr().err
