"""Ramps: what drift does to recall and overkill while the threshold stays."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_inspector.cli.main import main
from edge_inspector.errors import DataError
from edge_inspector.studies.dataset import Item
from edge_inspector.studies.evaluate import open_target
from edge_inspector.studies.ramps import RAMPS, ramps

THRESHOLD = 0.03
"""Of the tiny engine, whose score is the mean deviation from level 100 over 255."""


def items_of(folder: Path, label: str, levels: range, side: int = 32) -> list[Item]:
    """Flat images, a half of each at `level`, the other at 100."""
    items = []
    for level in levels:
        pixels = np.full((side, side), 100, np.uint8)
        pixels[:, : side // 2] = level
        path = folder / f"{label}-{level}.png"
        cv2.imwrite(str(path), pixels)
        items.append(Item(path, label, "test"))
    return items


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    return items_of(tmp_path, "good", range(96, 106)) + items_of(tmp_path, "dent", range(120, 126))


def test_darker_light_raises_overkill_of_an_engine_that_measures_levels(
    tiny_engine: Path, items: list[Item]
) -> None:
    with open_target(tiny_engine, ["openvino"]) as target:
        report = ramps(items, target, "test", THRESHOLD)
    assert report["threshold"] == THRESHOLD
    assert report["images"] == {"good": 10, "dent": 6}
    assert report["still"]["recall"] == 1.0
    assert report["still"]["overkill_rate"] == 0.0
    assert report["gain"][-1]["step"] == -0.15
    rates = [figures["overkill_rate"] for figures in report["gain"]]
    assert rates == sorted(rates)
    assert rates[-1] == 1.0
    assert report["blur_px"][-1]["overkill_rate"] == report["shift_px"][-1]["overkill_rate"] == 0


def test_every_step_has_its_figures_per_class(tiny_engine: Path, items: list[Item]) -> None:
    with open_target(tiny_engine, ["openvino"]) as target:
        report = ramps(items, target, "test", THRESHOLD)
    for name, (_, levels) in RAMPS.items():
        assert [figures["step"] for figures in report[name]] == list(levels)
        assert all(set(figures["per_class"]) == {"dent"} for figures in report[name])


def test_units_that_cannot_be_inspected_are_counted_and_not_passed(
    tiny_engine: Path, tmp_path: Path, items: list[Item]
) -> None:
    white = tmp_path / "white.png"
    cv2.imwrite(str(white), np.full((32, 32), 255, np.uint8))
    with open_target(tiny_engine, ["openvino"]) as target:
        report = ramps([*items, Item(white, "dent", "test")], target, "test", THRESHOLD)
    assert report["still"]["uninspected"] == 1
    assert report["still"]["recall"] == 1.0
    assert report["gain"][0]["uninspected"] == 0


def test_the_gate_stands_beside_the_scorer(
    tiny_engine: Path, items: list[Item], tmp_path: Path
) -> None:
    learning = [Item(item.path, item.label, "val") for item in items if item.label == "good"]
    with open_target(tiny_engine, ["openvino"]) as target:
        alone = ramps(items, target, "test", 1.0)
        report = ramps([*items, *learning], target, "test", 1.0)
    assert alone["gain"][-1]["refused"] == {"good": 0, "bad": 0}
    assert alone["gain"][-1]["escape_rate"] == 1
    assert report["still"]["refused"]["good"] == 0
    assert report["gain"][-1]["refused"]["good"] == 1
    assert report["still"]["refused"]["bad"] > 0  # a half that is brighter is not like good units
    for figures in (report["still"], *report["gain"]):
        assert figures["recall"] == 0
        assert figures["escape_rate"] == pytest.approx(1 - figures["refused"]["bad"])


def test_at_most_so_many_of_each_label(tiny_engine: Path, items: list[Item]) -> None:
    with open_target(tiny_engine, ["openvino"]) as target:
        report = ramps(items, target, "test", THRESHOLD, most=4)
        with pytest.raises(DataError, match="none of the 0 images"):
            ramps(items, target, "val", THRESHOLD)
    assert report["images"] == {"good": 4, "dent": 4}


def square(channels: int) -> np.ndarray:
    pixels = np.full((32, 32, channels), 60, np.uint8)
    pixels[12:20, 12:20] = 180
    return pixels


def centre(pixels: np.ndarray) -> np.ndarray:
    light = pixels[:, :, 0].astype(float) - 60
    rows, columns = np.indices(light.shape)
    moments = np.array([(columns * light).sum(), (rows * light).sum()])
    return np.asarray(moments / light.sum())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", RAMPS)
def test_a_ramp_changes_pixels_the_more_the_further_and_keeps_their_shape(
    name: str, channels: int
) -> None:
    alter, levels = RAMPS[name]
    changes = []
    for level in levels:
        altered = alter(square(channels), level, 3)
        assert altered.shape == (32, 32, channels)
        assert altered.dtype == np.uint8
        changes.append(np.abs(altered.astype(int) - square(channels)).mean())
    assert changes[0] > 0
    assert changes == sorted(changes)


def test_a_shift_moves_by_parts_of_a_px_and_in_eight_directions() -> None:
    alter, levels = RAMPS["shift_px"]
    for level in levels:
        ways = [centre(alter(square(1), level, n)) - centre(square(1)) for n in range(8)]
        assert np.hypot(*np.array(ways).T) == pytest.approx(level, abs=0.06)
        assert np.abs(np.sum(ways, axis=0)).max() < 0.1


def test_light_that_turns_warm_leaves_green_as_it_was() -> None:
    blue, green, red = RAMPS["tint"][0](square(3), 0.1, 0)[15, 15]
    assert (blue, green, red) == (162, 180, 198)


def test_the_verb_prints_and_keeps_them(
    tiny_engine: Path, items: list[Item], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = tmp_path / "data.csv", tmp_path / "report.json"
    rows = [f"{item.path.name},{item.label},{split}" for item in items for split in ("val", "test")]
    table.write_text("\n".join(["path,label,split", *rows]) + "\n", encoding="utf-8")
    words = ["evaluate", str(tiny_engine), "--data", str(table), "--ramps", "--json", str(out)]
    assert main(words) == 0
    told = capsys.readouterr().out
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["ramps"]["threshold"] == report["threshold"]
    assert "gain -0.15: recall 1.0, overkill 1.0" in told
    assert main([*words[:-2], "--ramp-images", "0"]) == 2
