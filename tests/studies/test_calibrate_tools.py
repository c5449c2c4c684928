"""A region judged by an engine and by tools: one threshold, one promise, and both are heard."""

from __future__ import annotations

import csv
import re

import cv2
import numpy as np
import pytest
import tomlkit

from edge_inspector.bundle import open_engine
from edge_inspector.cli.main import main
from edge_inspector.errors import EngineRefused, Misuse
from edge_inspector.inspector import open_inspector
from edge_inspector.recipe import load_recipe
from edge_inspector.records import Outcome
from edge_inspector.studies.calibrate import calibrate
from edge_inspector.studies.calibrate_recipe import file_frame, fused, recipe_evidence
from edge_inspector.studies.learn_tools import learn_tools, region_crops, write_tools

cv2.setNumThreads(1)
SIDE = 64
AT = (10, 20)
"""Where the region lies in the frame."""
DOTS = ((16, 16), (44, 16), (16, 44), (44, 44))
DOWN, ACROSS = np.mgrid[:SIDE, :SIDE]


def frame(rng, *, moved=0.0, stained=0.0):
    """Four bright dots on grey; the last may be off its place, and a stain changes the grey."""
    cell = np.full((SIDE, SIDE), 100.0 + rng.normal(0, 0.2))
    cell[24:36, 26:34] += stained
    for number, (x, y) in enumerate(DOTS):
        dx, dy = rng.normal(0, 0.08, 2)
        dx += moved if number == 3 else 0
        cell += 120 * np.clip(4.5 - np.hypot(ACROSS - x - dx, DOWN - y - dy), 0, 1)
    picture = np.full((100, 100), 100.0)
    picture[AT[1] : AT[1] + SIDE, AT[0] : AT[0] + SIDE] = cell
    return np.clip(picture + rng.normal(0, 1.5, picture.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def recipe_of(tiny_engine, tmp_path, rng):
    """Writes a recipe with tools learned from good frames; `region` says what judges."""

    def make(**region):
        both = {"engine": "tiny", "rules": "dots", **region}
        values = {
            "product": "board",
            "version": 1,
            "latency_budget_ms": 100,
            "engines": {"tiny": str(tiny_engine)} if both["engine"] else {},
            "rules": {"dots": "dots.toml"},
            "mm_per_px": {"main": 0.1},
            "regions": [
                {"name": "U12", "rect": [*AT, SIDE, SIDE]}
                | {name: value for name, value in both.items() if value}
            ],
        }
        path = tmp_path / "recipe.toml"
        path.write_text(tomlkit.dumps(values))
        crops, unfit = region_crops(load_recipe(path), "U12", (frame(rng) for _ in range(60)))
        assert (len(crops), unfit) == (60, 0)
        write_tools(learn_tools(crops, "ball"), tmp_path / "dots.toml")
        return load_recipe(path)

    return make


def calibrated(recipe, rng, units=300):
    """The recipe with a threshold from fresh good frames, as `calibrate` sets it."""
    with open_inspector(recipe) as inspector:
        evidence = recipe_evidence(inspector)
        rows = [evidence(frame(rng), "main") for _ in range(units)]
    scores = np.array([list(row.values()) for row in rows])
    found = calibrate(scores, tuple(rows[0]), 0.01, both=fused(recipe))
    digests = {name: open_engine(path).digest for name, path in recipe.engines.items()}
    table = found.document(0.01, 0.95, "openvino", digests)
    return recipe.model_copy(update={"calibration": table})


def judged(inspector, pixels):
    return inspector.inspect(file_frame(pixels, "main", "board"))


def test_either_kind_of_evidence_fails_the_region_and_the_promise_covers_both(recipe_of, rng):
    recipe = calibrated(recipe_of(), rng)
    assert set(recipe.calibration.regions) == {"U12", "U12 rules"}
    with open_inspector(recipe) as inspector:
        moved = judged(inspector, frame(rng, moved=1.5))
        stained = judged(inspector, frame(rng, stained=25.0))
        good = [judged(inspector, frame(rng)) for _ in range(200)]
    assert (moved.regions[0].spoke, moved.defect_class) == ("tools", "position")
    assert stained.regions[0].spoke == "engine"
    assert sum(answer.outcome is not Outcome.PASS for answer in good) <= 6  # 2 are promised
    assert all(answer.regions[0].rules_score is not None for answer in good)


def test_the_sentence_names_part_value_and_the_limit_in_force_in_mm(recipe_of, rng):
    recipe = calibrated(recipe_of(), rng)
    with open_inspector(recipe) as inspector:
        said = judged(inspector, frame(rng, moved=2.0)).detail
        limits = [
            judged(inspector, frame(rng, moved=off)).outcome for off in np.linspace(0.1, 1.5, 40)
        ]
    words = r"tools: U12 row 2 col 2: ball ([\d.]+) mm off its place \(limit learned ([\d.]+)\)"
    found = re.match(words, said)
    assert found is not None
    told, limit = (float(number) for number in found.groups())
    assert told == pytest.approx(0.2, abs=0.05)
    assert 0.02 < limit < told
    first = np.linspace(0.1, 1.5, 40)[limits.index(Outcome.FAIL)]
    assert 0.1 * first == pytest.approx(limit, abs=0.05)


def test_the_place_is_told_in_px_of_the_frame(recipe_of, rng):
    with open_inspector(calibrated(recipe_of(), rng, 60)) as inspector:
        x, y, width, height = judged(inspector, frame(rng, moved=2.0)).regions[0].box
    assert x < AT[0] + 46 < x + width
    assert y < AT[1] + 44 < y + height


def test_with_both_asked_for_one_kind_of_evidence_alone_passes(recipe_of, rng):
    recipe = calibrated(recipe_of(fuse="both"), rng)
    with open_inspector(recipe) as inspector:
        moved = judged(inspector, frame(rng, moved=1.5))
        stained = judged(inspector, frame(rng, stained=25.0))
        two = judged(inspector, frame(rng, moved=1.5, stained=25.0))
    assert (moved.outcome, stained.outcome) == (Outcome.PASS, Outcome.PASS)
    assert two.outcome is Outcome.FAIL
    assert set(two.regions[0].spoke.split("+")) == {"engine", "tools"}
    assert "off its place" in two.detail


def test_tools_alone_judge_without_calibration(recipe_of, rng):
    with open_inspector(recipe_of(engine=None)) as inspector:
        assert judged(inspector, frame(rng, moved=2.0)).outcome is Outcome.FAIL
        answer = judged(inspector, frame(rng))
    assert (answer.outcome, answer.threshold) == (Outcome.PASS, 1.0)
    assert answer.regions[0].engine_score is None


def test_an_engine_beside_tools_needs_calibration(recipe_of, rng):
    with open_inspector(recipe_of()) as inspector:
        assert judged(inspector, frame(rng)).outcome is Outcome.UNINSPECTED


@pytest.fixture
def data(tmp_path, rng):
    folder = tmp_path / "frames"
    folder.mkdir()
    with (tmp_path / "data.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split"])
        for number in range(80):
            cv2.imwrite(str(folder / f"{number}.png"), frame(rng))
            rows.writerow([f"frames/{number}.png", "good", "train" if number < 40 else "val"])
    return tmp_path / "data.csv"


def test_the_verbs_learn_tools_calibrate_them_and_refuse_tools_learned_anew(
    recipe_of, data, tmp_path, capsys
):
    recipe_of()
    path, tools = str(tmp_path / "recipe.toml"), str(tmp_path / "dots.toml")
    learn = ["rules", "learn", path, "--region", "U12", "--data", str(data), "--out", tools]
    assert main([*learn, "--word", "ball"]) == 0
    assert "learned from 40 crops" in capsys.readouterr().out
    assert main(["calibrate", path, "--data", str(data), "--overkill", "0.1"]) == 0
    calibration = load_recipe(tmp_path / "recipe.toml").calibration
    assert calibration is not None
    assert set(calibration.rules) == {"dots"}
    with open_inspector(tmp_path / "recipe.toml"):
        pass
    assert main([*learn, "--word", "pin"]) == 0
    with (
        pytest.raises(EngineRefused, match=r"rules 'dots' have digest .* calibrate' again"),
        open_inspector(tmp_path / "recipe.toml"),
    ):
        pass
    assert main([*learn[:4], "u12", *learn[5:]]) == 2
    assert "no region 'u12'; did you mean 'U12'?" in capsys.readouterr().err


def test_a_region_that_leaves_every_frame_gives_no_crop(recipe_of, rng):
    small = [np.zeros((32, 32), np.uint8)] * 3
    assert region_crops(recipe_of(), "U12", small) == ([], 3)
    with pytest.raises(Misuse, match="has no region 'U1'"):
        region_crops(recipe_of(), "U1", small)
