from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_inspector.errors import DataError, DocumentError, ParityError
from edge_inspector.studies.baselines import baselines
from edge_inspector.studies.dataset import Item
from edge_inspector.studies.evaluate import evaluate, open_target


def _images(folder: Path, split: str, label: str, count: int, spot: int) -> list[Item]:
    """Noisy 32x32 crops around 100 with a spot that is `spot` brighter."""
    rng = np.random.default_rng(len(split + label))
    items = []
    for i in range(count):
        pixels = 100 + rng.normal(0, 3 + 0.02 * i, (32, 32))
        pixels[8:16, 8:16] += spot
        path = folder / f"{split}-{label}-{i}.png"
        cv2.imwrite(str(path), np.clip(pixels, 0, 240).astype(np.uint8))
        items.append(Item(path, label, split))
    return items


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    return [
        *_images(tmp_path, "train", "good", 10, 0),
        *_images(tmp_path, "val", "good", 40, 0),
        *_images(tmp_path, "val", "dent", 10, 60),
        *_images(tmp_path, "test", "good", 40, 0),
        *_images(tmp_path, "test", "dent", 12, 60),
        *_images(tmp_path, "test", "speck", 8, 3),
    ]


def test_report_holds_every_figure_that_is_promised(tiny_engine: Path, items: list[Item]) -> None:
    with open_target(tiny_engine, ["openvino"]) as target:
        report = evaluate(items, target, "test")
    assert report["engine"] == "tiny/1"
    assert report["backend"] == "openvino"
    assert (report["split"], report["images"]) == ("test", 60)
    assert report["per_class"]["dent"]["count"] == 12
    assert report["per_class"]["dent"]["auroc"] == 1.0
    assert report["per_class"]["dent"]["recall"] == 1.0
    assert report["per_class"]["speck"]["auroc"] < 0.9
    assert report["auroc"] == pytest.approx(
        (12 * 1.0 + 8 * report["per_class"]["speck"]["auroc"]) / 20
    )
    assert report["recall"] + report["escape_rate"] == 1
    assert report["overkill_interval"][0] <= report["overkill_rate"]
    assert set(report["recall_at_overkill"]) == {"0.001", "0.005", "0.01"}
    assert report["recall_at_overkill"]["0.01"]["per_class"]["dent"] == 1.0
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p99"]
    for key in ("average_precision", "f1", "precision", "recall", "threshold", "best_f1"):
        assert report[key] is not None


def test_threshold_comes_from_validation_and_not_from_the_split_reported(
    tiny_engine: Path, items: list[Item]
) -> None:
    with open_target(tiny_engine, ["openvino"]) as target:
        whole = evaluate(items, target, "test")
        fewer = evaluate([i for i in items if i.label != "speck"], target, "test")
        other = [i for i in items if i.split != "val" or i.label == "dent" or "-1" in i.path.name]
        moved = evaluate(other, target, "test")
    assert whole["threshold"] == fewer["threshold"] != moved["threshold"]
    assert whole["recall_at_overkill"]["0.01"]["threshold"] == whole["threshold"]


def test_given_threshold_needs_no_validation_images(tiny_engine: Path, items: list[Item]) -> None:
    tested = [item for item in items if item.split == "test"]
    with open_target(tiny_engine, ["openvino"]) as target:
        report = evaluate(tested, target, "test", threshold=0.02)
        with pytest.raises(DataError, match="--threshold"):
            evaluate(tested, target, "test")
    assert report["threshold"] == 0.02
    assert report["recall_at_overkill"] == {}
    assert report["best_f1"] is None


def test_corrupt_and_uninspected_images_are_counted_and_the_rest_scored(
    tiny_engine: Path, items: list[Item], tmp_path: Path
) -> None:
    broken, white = tmp_path / "broken.png", tmp_path / "white.png"
    broken.write_bytes(b"\x89PNG")
    cv2.imwrite(str(white), np.full((32, 32), 255, np.uint8))
    strange = [Item(broken, "good", "test"), Item(white, "dent", "test")]
    with open_target(tiny_engine, ["openvino"]) as target:
        plain = evaluate(items, target, "test")
        report = evaluate([*strange, *items], target, "test")
    assert (report["corrupt"], report["images"]) == (1, 60)
    assert report["uninspected"] == {"good": 0, "bad": 1}
    assert report["auroc"] == plain["auroc"]


def test_scores_are_kept_for_every_image_of_both_splits(
    tiny_engine: Path, items: list[Item], tmp_path: Path
) -> None:
    white, kept = tmp_path / "white.png", tmp_path / "scores.csv"
    cv2.imwrite(str(white), np.full((32, 32), 255, np.uint8))
    with open_target(tiny_engine, ["openvino"]) as target:
        report = evaluate([*items, Item(white, "dent", "test")], target, "test", scores=kept)
        evaluate(items, target, "val", scores=tmp_path / "val.csv")
    with kept.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 50 + 60 + 1
    assert {row["path"] for row in rows if row["uninspected"] == "1"} == {str(white)}
    good, bad = (
        [
            float(row["score"])
            for row in rows
            if row["split"] == "test" and row["score"] and (row["label"] == "good") is wanted
        ]
        for wanted in (True, False)
    )
    above = np.subtract.outer(bad, good)
    assert report["auroc"] == pytest.approx(float((above > 0).mean() + (above == 0).mean() / 2))
    assert len((tmp_path / "val.csv").read_text(encoding="utf-8").splitlines()) == 1 + 50


def test_progress_reaches_the_end(tiny_engine: Path, items: list[Item]) -> None:
    seen: list[tuple[int, int]] = []
    with open_target(tiny_engine, ["openvino"]) as target:
        evaluate(items, target, "test", tick=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (110, 110)
    assert seen == sorted(seen)


def test_empty_split_is_told(tiny_engine: Path, items: list[Item]) -> None:
    train = [item for item in items if item.split == "train"]
    with (
        open_target(tiny_engine, ["openvino"]) as target,
        pytest.raises(DataError, match="the data has train"),
    ):
        evaluate(train, target, "test")


def test_runtimes_report_the_same_figures(tiny_engine: Path, items: list[Item]) -> None:
    reports = []
    for name in ("openvino", "onnxruntime"):
        with open_target(tiny_engine, [name]) as target:
            reports.append(evaluate(items, target, "test"))
    assert reports[0]["auroc"] == pytest.approx(reports[1]["auroc"], abs=1e-3)


def test_engine_that_scores_otherwise_than_in_training_is_not_evaluated(tiny_engine: Path) -> None:
    with (
        pytest.raises(ParityError, match="challenge crop scores"),
        open_target(tiny_engine, ["fake"]),
    ):
        pass


def test_missing_engine_is_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="nowhere"), open_target(tmp_path / "nowhere", ["fake"]):
        pass


def test_baselines_see_size_and_colour_and_nothing_else(tmp_path: Path) -> None:
    items = []
    for i in range(12):
        for split, label, side, colour in (
            ("train", "good", 20, 90),
            ("test", "good", 20, 90),
            ("test", "short", 40 + i, 90 + (i % 2)),
        ):
            path = tmp_path / f"{split}-{label}-{i}.png"
            cv2.imwrite(str(path), np.full((side, side, 3), colour, np.uint8))
            items.append(Item(path, label, split))
    assert baselines(items, "test") == {
        "area_auroc": 1.0,
        "min_side_auroc": 1.0,
        "colour_auroc": 0.75,
    }


def test_rules_are_evaluated_like_an_engine(tmp_path: Path) -> None:
    rules = Path(__file__).parents[2] / "edge_inspector" / "rules" / "bga_simulated.toml"
    with open_target(rules, ["openvino"]) as target:
        assert (target.title, target.backend) == ("bga_simulated.toml", "opencv")
        side = target.shape.height
        assert target.scorer.input_shape == (side, side, 1)
        blank = tmp_path / "blank.png"
        cv2.imwrite(str(blank), np.zeros((side, side), np.uint8))
        with pytest.raises(DataError, match="none of the 1 images of split 'test' could be"):
            evaluate([Item(blank, "good", "test")], target, "test", threshold=1.0)
