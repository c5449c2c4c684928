from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_inspector.backends import open_first
from edge_inspector.bundle import open_engine
from edge_inspector.errors import EngineRefused, Uninspectable
from edge_inspector.records import Crop, Roi
from edge_inspector.scorers.anomaly import AnomalyScorer
from edge_inspector.scorers.crops import suspicious_box


def _crop(pixels: np.ndarray) -> Crop:
    return Crop(Roi("joint", "main", (0, 0, 32, 32)), pixels, (0, 0, 32, 32))


@pytest.fixture
def scorer(tiny_engine: Path) -> AnomalyScorer:
    engine = open_engine(tiny_engine)
    return AnomalyScorer(open_first(["openvino"], engine.model, threads=1)[1], engine.manifest)


def test_worse_crops_score_higher_and_show_where(scorer: AnomalyScorer) -> None:
    good = np.full((32, 32), 100, np.uint8)
    bad = good.copy()
    bad[8:16, 20:24] = 220
    first, second = scorer.score([_crop(good), _crop(bad)])
    assert first.anomaly_score == 0
    assert first.box is None
    assert second.anomaly_score == pytest.approx(32 * 120 / 255 / 1024, rel=1e-5)
    assert second.box == (20, 8, 4, 8)
    assert second.anomaly_map is not None
    assert second.anomaly_map.shape == (8, 8)


def test_colour_crops_are_taken_as_they_are(tmp_path: Path, make_engine) -> None:
    engine = open_engine(make_engine(tmp_path / "e", channels=3))
    scorer = AnomalyScorer(open_first(["fake"], engine.model, threads=1)[1], engine.manifest)
    assert scorer.input_shape == (32, 32, 3)
    assert len(scorer.score([_crop(np.zeros((32, 32, 3), np.uint8))])) == 1


def test_no_crops_need_no_run(scorer: AnomalyScorer) -> None:
    assert scorer.score([]) == []


def test_score_that_is_no_number_is_a_model_fault(scorer: AnomalyScorer) -> None:
    white = np.full((32, 32), 255, np.uint8)
    with pytest.raises(Uninspectable, match=r"joint.*nan") as caught:
        scorer.score([_crop(white)])
    assert caught.value.reason == "model_fault"
    assert scorer.score([_crop(white - 155)])[0].anomaly_score == 0


@pytest.mark.parametrize("shape", [(16, 64), (32, 32, 3), (32, 31)])
def test_crop_of_another_shape_is_a_model_fault(
    scorer: AnomalyScorer, shape: tuple[int, ...]
) -> None:
    with pytest.raises(Uninspectable, match="the engine takes"):
        scorer.score([_crop(np.zeros(shape, np.uint8))])


def test_engine_of_another_kind_is_refused(tiny_engine: Path) -> None:
    engine = open_engine(tiny_engine)
    session = open_first(["fake"], engine.model, threads=1)[1]
    with pytest.raises(EngineRefused, match="classifier"):
        AnomalyScorer(session, engine.manifest.model_copy(update={"kind": "classifier"}))
    with pytest.raises(EngineRefused, match="anomaly_map"):
        AnomalyScorer(session, engine.manifest.model_copy(update={"outputs": ("score",)}))


def test_box_holds_the_peak_and_not_the_other_spot() -> None:
    anomaly_map = np.zeros((8, 8), np.uint8)
    anomaly_map[1, 1:3] = 180
    anomaly_map[5:7, 6] = (250, 140)
    assert suspicious_box(anomaly_map, np.zeros((64, 128), np.uint8)) == (96, 40, 16, 16)


def test_a_map_that_is_bright_all_over_still_tells_where() -> None:
    anomaly_map = np.full((8, 8), 120, np.uint8)
    assert suspicious_box(anomaly_map, np.zeros((64, 64), np.uint8)) is None
    anomaly_map[2:4, 5] = 160
    assert suspicious_box(anomaly_map, np.zeros((64, 64), np.uint8)) == (40, 16, 8, 16)


def test_box_stays_inside_the_crop_when_cells_do_not_divide_it() -> None:
    anomaly_map = np.zeros((8, 8), np.uint8)
    anomaly_map[7, 7] = 9
    assert suspicious_box(anomaly_map, np.zeros((30, 30), np.uint8)) == (26, 26, 4, 4)


def test_the_map_is_clear_where_the_recipe_does_not_judge(tiny_engine):
    engine = open_engine(tiny_engine)
    _, session = open_first(("onnxruntime", "openvino"), engine.model, 1)
    pixels = np.full((32, 32), 100, np.uint8)
    pixels[20:28, 20:28] = 250
    mask = np.zeros((32, 32), np.uint8)
    mask[16:, 16:] = 255
    box = (0, 0, 32, 32)
    scorer = AnomalyScorer(session, engine.manifest)
    (open_eyed,) = scorer.score([Crop(Roi("r", "main", box), pixels, box)])
    (masked,) = scorer.score([Crop(Roi("r", "main", box, mask), pixels, box)])
    assert open_eyed.box is not None
    assert masked.box is None
    assert masked.anomaly_map is not None
    assert masked.anomaly_map.max() == 0
