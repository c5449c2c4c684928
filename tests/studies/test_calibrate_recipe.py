from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_inspector.errors import DataError, DocumentError, Misuse, Uninspectable
from edge_inspector.groups import Group
from edge_inspector.inspector import Inspector, open_inspector
from edge_inspector.recipe import Calibration, Recipe, Region, Scale, load_recipe
from edge_inspector.records import Roi
from edge_inspector.rules.bga import RuleScorer
from edge_inspector.rules.parameters import load_rules
from edge_inspector.studies.calibrate_recipe import (
    collect,
    good_units,
    recipe_evidence,
    write_calibration,
)
from edge_inspector.studies.dataset import Item

RULES = Path(__file__).parents[2] / "edge_inspector" / "rules" / "bga_simulated.toml"
TABLE = Calibration(
    threshold=3.25,
    overkill=0.01,
    promised_overkill=0.0099,
    units=300,
    backend="openvino",
    engines={"tiny": "ab" * 32},
    regions={"cell.1": Scale(center=0.1, spread=1e-9)},
)
RECIPE = """\
product = "board"  # as on the label
version = 1
latency_budget_ms = 50
engines = { tiny = "tiny/1" }

[[regions]]
name = "cell.1"
rect = [0, 0, 32, 32]
engine = "tiny"
"""


def _brightness(pixels: NDArray[Any], camera: str) -> dict[str, float]:
    if pixels.max() == 255:
        raise Uninspectable("bad_input", "the package is not found")
    return {f"{camera}-all": float(pixels.mean())}


def _item(folder: Path, level: int, camera: str = "", group: str = "", label: str = "good") -> Item:
    path = folder / f"{level}-{camera}-{group}.png"
    cv2.imwrite(str(path), np.full((8, 8), level, np.uint8))
    return Item(path, label, "val", group, camera)


def test_units_of_two_cameras_are_scored_as_one(tmp_path: Path) -> None:
    items = [
        _item(tmp_path, level + side, camera, group)
        for group, level in (("u1", 10), ("u2", 50))
        for camera, side in (("top", 0), ("left", 1))
    ]
    units = good_units(items, "val", ("left", "top"))
    found = collect(units, _brightness, lambda done, total: None)
    assert found.names == ("left-all", "top-all")
    assert found.scores.tolist() == [[11, 10], [51, 50]]


def test_unit_without_one_of_its_frames_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unit 'u1' has frames of \['top'\].*'left', 'top'"):
        good_units([_item(tmp_path, 1, "top", "u1")], "val", ("left", "top"))


def test_defective_units_and_other_splits_are_left_out(tmp_path: Path) -> None:
    good, bad = _item(tmp_path, 1), _item(tmp_path, 2, label="dent")
    assert good_units([good, bad], "val", ("main",)) == [[good]]
    with pytest.raises(DataError, match="split 'test' has no image labelled good"):
        good_units([good, bad], "test", ("main",))


def test_units_not_inspected_are_skipped_with_their_reason(tmp_path: Path) -> None:
    items = [_item(tmp_path, 255), _item(tmp_path, 7)]
    found = collect([[item] for item in items], _brightness, lambda done, total: None)
    assert found.scores.tolist() == [[7]]
    assert found.skipped == {str(items[0].path): "bad_input: the package is not found"}
    with pytest.raises(DataError, match="none of 1 good units"):
        collect([[items[0]]], _brightness, lambda done, total: None)


def test_calibration_is_appended_and_read_back_exactly(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    path.chmod(0o640)
    write_calibration(path, TABLE)
    assert path.read_text().startswith(RECIPE)
    assert load_recipe(path).calibration == TABLE
    assert path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["recipe.toml"]


def test_calibration_in_the_middle_is_replaced_and_what_follows_stays(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    head, regions = RECIPE.split("[[regions]]")
    old = '[calibration]\nthreshold = 9\n# why\n[calibration.regions."cell.1"]\ncenter = 0\n\n'
    path.write_text(f"{head}{old}# The cells.\n[[regions]]{regions}")
    write_calibration(path, TABLE)
    text = path.read_text()
    assert load_recipe(path).calibration == TABLE
    assert "# why" in text
    assert "# The cells.\n[[regions]]" in text
    assert "threshold = 9" not in text


def test_recipe_that_cannot_be_rewritten_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    text = f"calibration = {{ threshold = 1 }}\n{RECIPE}"
    path.write_text(text)
    with pytest.raises(DocumentError, match="calibration"):
        write_calibration(path, TABLE)
    assert path.read_text() == text


def test_recipe_of_rules_alone_needs_no_calibration() -> None:
    recipe = Recipe(
        product="bga",
        version=1,
        latency_budget_ms=50,
        rules={"bga": RULES},
        regions=(Region(name="package", rect=(0, 0, 256, 256), rules="bga"),),
    )
    roi = Roi("package", "main", (0, 0, 256, 256))
    group = Group(RuleScorer(load_rules(RULES)), (roi,), "rules")
    with pytest.raises(Misuse, match="need no calibration"):
        recipe_evidence(Inspector(recipe, {"main": (group,)}, {}))


def test_evidence_is_the_raw_score_of_every_engine_region(tiny_engine: Path) -> None:
    recipe = Recipe(
        product="board",
        version=1,
        latency_budget_ms=50,
        engines={"tiny": tiny_engine},
        regions=(Region(name="cell", rect=(0, 0, 32, 32), engine="tiny"),),
    )
    with open_inspector(recipe) as inspector:
        evidence = recipe_evidence(inspector)
        assert evidence(np.full((32, 32), 151, np.uint8), "main") == {
            "cell": pytest.approx(51 / 255)
        }
        with pytest.raises(Uninspectable):
            evidence(np.full((32, 32), 151, np.float64), "main")
