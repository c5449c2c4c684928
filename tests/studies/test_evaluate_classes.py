from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_inspector.errors import DataError, Misuse
from edge_inspector.studies.dataset import read_items
from edge_inspector.studies.evaluate import open_target
from edge_inspector.studies.evaluate_classes import class_figures, evaluate_classes

LABELS = ("good", "bright", "dark")
LEVELS = {"good": (), "bright": (200,), "dark": (10,), "both": (200, 20)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Marks of three known kinds in val and test, 25 and 8 of each, and 6 with both at once."""
    rng = np.random.default_rng(0)
    rows = [("path", "label", "split")]
    for label, levels in LEVELS.items():
        for split, count in (("val", 0 if label == "both" else 25), ("test", 8)):
            for index in range(count - 2 * (label == "both")):
                pixels = 100 + rng.normal(0, 1, (32, 32))
                for place, level in enumerate(levels):
                    pixels[8:16, 4 + 12 * place : 10 + 12 * place] = level
                name = f"{label}{split}{index}.png"
                cv2.imwrite(str(tmp_path / name), pixels.astype(np.uint8))
                rows.append((name, label, split))
    with (tmp_path / "data.csv").open("w", newline="") as out:
        csv.writer(out).writerows(rows)
    return tmp_path / "data.csv"


def test_figures_of_classes_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip(
        "sklearn.metrics", reason="our figures are not compared with scikit-learn's: it is missing"
    )
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 3, 200)
    shares = rng.dirichlet((1, 1, 1), 200) + 0.5 * np.eye(3)[truth]
    shares /= shares.sum(axis=1, keepdims=True)
    found = class_figures(truth, shares, LABELS)
    chosen = shares.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth, chosen))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(truth, chosen, average="macro"))
    one_by_one = metrics.roc_auc_score(truth, shares, average="macro", multi_class="ovr")
    assert found["macro_auc"] == pytest.approx(one_by_one)
    assert found["confusion"] == metrics.confusion_matrix(truth, chosen).tolist()
    told = metrics.precision_recall_fscore_support(truth, chosen)
    for place, label in enumerate(LABELS):
        of_class = found["per_class"][label]
        names = ("precision", "recall", "f1", "support")
        assert [of_class[name] for name in names] == pytest.approx([row[place] for row in told])


def test_a_class_that_the_split_lacks_is_in_no_mean() -> None:
    found = class_figures(np.array([0, 0, 1]), np.eye(3)[[0, 0, 1]], LABELS)
    assert (found["macro_f1"], found["macro_auc"]) == (1.0, 1.0)
    assert found["per_class"]["dark"]["support"] == 0


def test_report_has_classes_detection_and_what_was_never_taught(
    tiny_classifier: Path, data: Path
) -> None:
    with open_target(tiny_classifier, ["openvino"]) as target:
        report = evaluate_classes(read_items(data), target, "test", drift="both")
    assert (report["engine"], report["images"]) == ("kinds/1", 30)
    assert (report["accuracy"], report["macro_f1"]) == (1.0, 1.0)
    assert report["labels"] == list(LABELS)
    assert report["confusion"] == (8 * np.eye(3, dtype=int)).tolist()
    assert report["not_taught"] == {"both": 6}
    assert report["called_unknown"]["both"] == 1.0
    assert report["called_unknown"]["bright"] == 0.0
    assert (report["unknown"]["f1"], report["unknown"]["count"]) == (1.0, 6)
    assert report["detection"]["most_probable"]["recall"] == 1.0
    assert report["detection"]["no_escape_of_val"]["escape_rate"] == 0.0
    assert set(report["latency_ms"]) == {"p50", "p99"}


def test_an_anomaly_engine_beside_sets_the_limit_anew(
    tiny_classifier: Path, tiny_engine: Path, data: Path
) -> None:
    items = read_items(data)
    with (
        open_target(tiny_classifier, ["openvino"]) as target,
        open_target(tiny_engine, ["openvino"]) as beside,
    ):
        alone = evaluate_classes(items, target, "test")
        joint = evaluate_classes(items, target, "test", beside=beside)
        with pytest.raises(
            Misuse, match="kinds/1 is a classifier engine; give one of kind 'anomaly'"
        ):
            evaluate_classes(items, target, "test", beside=target)
    assert "anomaly" not in alone["unknown_limits"]["good"]
    assert "anomaly" in joint["unknown_limits"]["good"]
    assert joint["unknown_limits"]["good"]["crops"] == 25


def test_the_limit_never_sees_the_unknown_kind_of_val(
    tiny_classifier: Path, tiny_engine: Path, data: Path
) -> None:
    items = read_items(data)
    with (
        open_target(tiny_classifier, ["openvino"]) as target,
        open_target(tiny_engine, ["openvino"]) as beside,
    ):
        clean = evaluate_classes(items, target, "test", beside=beside)
        data.write_text(data.read_text().replace(",both,test", ",both,val", 3))
        spoiled = evaluate_classes(read_items(data), target, "test", beside=beside)
    assert spoiled["unknown_limits"] == clean["unknown_limits"]


def test_a_class_of_the_engine_is_no_drift(tiny_classifier: Path, data: Path) -> None:
    with (
        open_target(tiny_classifier, ["openvino"]) as target,
        pytest.raises(DataError, match="'dark' is a class of this engine"),
    ):
        evaluate_classes(read_items(data), target, "test", drift="dark")


def test_a_split_of_strange_classes_alone_has_no_figures(tiny_classifier: Path, data: Path) -> None:
    items = [item for item in read_items(data) if item.split == "val" or item.label == "both"]
    with (
        open_target(tiny_classifier, ["openvino"]) as target,
        pytest.raises(DataError, match=r"no image of a class that kinds/1 knows .* it has both"),
    ):
        evaluate_classes(items, target, "test")
