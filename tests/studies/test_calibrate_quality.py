"""Limits of frame quality: learned from good units, with room, and held by the inspector."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_inspector.cli.main import main
from edge_inspector.inspector import open_inspector
from edge_inspector.recipe import FrameQuality, Measure, Recipe, load_recipe
from edge_inspector.records import Inspection, Outcome, Reason
from edge_inspector.studies.calibrate_quality import Frames, frame_quality, held_out_rejects, learn
from edge_inspector.studies.calibrate_recipe import file_frame

RECIPE = """\
product = "board"
version = 1
latency_budget_ms = 50

[engines]
tiny = "tiny/1"

[[regions]]
name = "panel"
rect = [4, 4, 56, 56]
engine = "tiny"
"""
TEMPLATE = """
[alignment.main]
method = "template"
image = "patch.png"
position = [16, 16]
search_px = 12
"""


def pattern() -> np.ndarray:
    """Cells of 4 px around level 100."""
    rng = np.random.default_rng(9)
    return np.kron(rng.integers(90, 111, (16, 16)), np.ones((4, 4))).astype(np.float32)


def unit(number: int, shift: float = 0.0) -> np.ndarray:
    """A good unit: 2 % gain, noise of 1.5 levels, moved by half a px."""
    rng = np.random.default_rng([2, number])
    dx, dy = rng.uniform(-0.5, 0.5, 2)
    move = np.array([[1, 0, dx + shift], [0, 1, dy]])
    moved = cv2.warpAffine(pattern(), move, (64, 64), borderMode=cv2.BORDER_REPLICATE)
    lit = moved * rng.uniform(0.98, 1.02) + rng.normal(0, 1.5, (64, 64))
    return np.clip(np.rint(lit), 0, 255).astype(np.uint8)


@pytest.fixture
def recipe(tmp_path: Path, tiny_engine: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE, encoding="utf-8")
    cv2.imwrite(str(tmp_path / "patch.png"), pattern()[16:48, 16:48].astype(np.uint8))
    rows = ["path,label,split"]
    for number in range(40):
        cv2.imwrite(str(tmp_path / f"{number}.png"), unit(number))
        rows.append(f"{number}.png,good,val")
    (tmp_path / "units.csv").write_text("\n".join(rows), encoding="utf-8")
    return path


def calibrate(recipe: Path, *words: str) -> Recipe:
    assert main(["calibrate", str(recipe), "--data", str(recipe.parent / "units.csv"), *words]) == 0
    return load_recipe(recipe)


def answer(recipe: Path, pixels: np.ndarray) -> Inspection:
    with open_inspector(recipe) as inspector:
        return inspector.inspect(file_frame(pixels, "main", "board"))


def test_limits_are_the_range_of_good_units_and_room_beside_it() -> None:
    values = np.linspace(90, 110, 41)
    ((low, high),) = learn([{"mean": value} for value in values.tolist()]).values()
    room = 2 * 1.4826 * 5
    assert (low, high) == pytest.approx((90 - room, 110 + room), abs=0.2)
    assert learn([{"mean": 100.0}] * 5) == {"mean": (98.0, 102.0)}


def test_good_frames_that_the_others_would_refuse_are_counted() -> None:
    usual: list[dict[Measure, float]] = [{"mean": float(value)} for value in range(90, 111)]
    assert held_out_rejects(usual) == 0
    assert held_out_rejects([*usual, {"mean": 300.0}]) == 1


def test_repeats_are_refused_where_no_two_good_frames_are_equal() -> None:
    noisy, still = Frames([{"mean": 1.0}] * 2, [1, 2]), Frames([{"mean": 1.0}] * 2, [1, 1])
    assert frame_quality(noisy, None).refuse_repeats
    assert not frame_quality(still, None).refuse_repeats
    assert not frame_quality(noisy, FrameQuality(refuse_repeats=False)).refuse_repeats
    assert not frame_quality(Frames([{"mean": 1.0}], [1]), None).refuse_repeats


def test_calibration_writes_limits_that_good_units_keep(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quality = calibrate(recipe).quality["main"]
    assert quality.refuse_repeats
    assert set(quality.limits) == {"saturated", "black", "mean", "contrast", "sharpness"}
    assert "they refuse 0 of 40 good frames" in capsys.readouterr().out
    for number in range(100, 104):
        assert answer(recipe, unit(number)).reason is None


def test_a_spoiled_frame_is_a_fault_of_the_camera_and_a_defect_is_none(recipe: Path) -> None:
    calibrate(recipe)
    pixels = unit(100)
    flat, marked = np.full_like(pixels, 100), pixels.copy()
    marked[20:34, 20:34] = 220
    for spoiled, cause in (
        ((pixels * 0.8).astype(np.uint8), "mean is "),
        ((pixels * 1.25).astype(np.uint8), "mean is "),
        (cv2.GaussianBlur(pixels, (0, 0), 1.5), "sharpness is "),
        (flat, "sharpness is "),
    ):
        found = answer(recipe, spoiled)
        assert (found.outcome, found.reason) == (Outcome.UNINSPECTED, Reason.CAMERA_FAULT)
        assert found.detail.startswith(cause)
        assert "good units have" in found.detail
        assert "camera 'main'" in found.detail
    assert answer(recipe, marked).outcome is Outcome.FAIL


def test_where_the_aligner_finds_a_unit_is_part_of_it(recipe: Path) -> None:
    recipe.write_text(RECIPE + TEMPLATE, encoding="utf-8")
    limits = calibrate(recipe).quality["main"].limits
    assert {"x_px", "y_px", "angle_deg", "scale", "match"} < set(limits)
    assert answer(recipe, unit(100)).reason is None
    found = answer(recipe, unit(100, shift=3.5))
    assert found.reason is Reason.CAMERA_FAULT
    assert found.detail.startswith("x_px is 3.")
    assert "too far to the right" in found.detail


def test_without_limits_nothing_is_held_back(recipe: Path) -> None:
    calibrate(recipe)
    assert calibrate(recipe, "--no-gate").quality == {}
    assert "[quality" not in recipe.read_text(encoding="utf-8")
    assert answer(recipe, (unit(100) * 0.8).astype(np.uint8)).reason is None


def test_what_a_person_says_of_repeats_outlives_a_calibration(recipe: Path) -> None:
    calibrate(recipe)
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("refuse_repeats = true", "refuse_repeats = false"), "utf-8")
    assert not calibrate(recipe).quality["main"].refuse_repeats


def test_an_engine_alone_gets_its_limits_too(recipe: Path, tiny_engine: Path) -> None:
    data, out = recipe.parent / "units.csv", recipe.parent / "made.toml"
    assert main(["calibrate", str(tiny_engine), "--data", str(data), "--out", str(out)]) == 0
    assert "mean" in load_recipe(out).quality["main"].limits
