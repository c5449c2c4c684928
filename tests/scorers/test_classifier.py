from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_inspector.backends import open_first
from edge_inspector.bundle import open_engine
from edge_inspector.errors import EngineRefused, Uninspectable
from edge_inspector.records import Crop, Pixels, Roi
from edge_inspector.scorers.classifier import ClassifierScorer

PLAIN = np.full((32, 32), 100, np.uint8)


def crop(pixels: Pixels, mask: Pixels | None = None) -> Crop:
    return Crop(Roi("joint", "main", (0, 0, 32, 32), mask), pixels, (0, 0, 32, 32))


def marked(*levels: int) -> Pixels:
    pixels = PLAIN.copy()
    for place, level in enumerate(levels):
        pixels[8:16, 20 - 12 * place : 24 - 12 * place] = level
    return pixels


@pytest.fixture
def scorer(tiny_classifier: Path) -> ClassifierScorer:
    engine = open_engine(tiny_classifier)
    return ClassifierScorer(open_first(["openvino"], engine.model, 1)[1], engine.manifest)


def test_a_defect_is_named_with_its_probability_and_place(scorer: ClassifierScorer) -> None:
    bright, dark = scorer.name_defects([crop(marked(200)), crop(marked(10))], [None, None])
    assert (bright.defect_class, dark.defect_class) == ("bright", "dark")
    assert bright.probability > 0.99
    assert sum(bright.probabilities) == pytest.approx(1)
    assert bright.box == (20, 8, 4, 8)
    assert bright.class_map.dtype == np.uint8


def test_a_rejected_crop_is_never_called_good(scorer: ClassifierScorer) -> None:
    (rejected,) = scorer.name_defects([crop(PLAIN)], [None])
    (passed,) = scorer.name_defects([crop(PLAIN)], [None], rejected=False)
    assert scorer.good == "good"
    assert (rejected.defect_class, passed.defect_class) == ("unknown", "good")
    assert rejected.probability == passed.probability  # that no defect that it knows is there


def test_what_training_never_showed_is_unknown(scorer: ClassifierScorer) -> None:
    (odd,) = scorer.name_defects([crop(marked(200, 20))], [None])
    assert odd.defect_class == "unknown"
    assert 0.9 < odd.probability <= 1


def test_an_engine_without_limits_names_everything(tiny_classifier: Path) -> None:
    engine = open_engine(tiny_classifier)
    plain = engine.manifest.model_copy(update={"unknown": None})
    scorer = ClassifierScorer(open_first(["openvino"], engine.model, 1)[1], plain)
    assert scorer.name_defects([crop(marked(200, 20))], [None])[0].defect_class == "bright"


def test_alone_it_is_a_scorer_like_any_other(scorer: ClassifierScorer) -> None:
    good, bad = scorer.score([crop(PLAIN), crop(marked(200))])
    assert good.anomaly_score < 0.05 < 0.95 < bad.anomaly_score
    assert (bad.defect_class, bad.box) == ("bright", (20, 8, 4, 8))
    assert bad.class_map is not None
    assert scorer.score([]) == []


def test_the_map_is_clear_where_the_recipe_does_not_judge(scorer: ClassifierScorer) -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[:, 16:] = 255
    (named,) = scorer.name_defects([crop(marked(200), mask)], [None])
    assert named.box is None
    assert named.class_map.max() == 0


def test_crop_of_another_shape_is_a_model_fault(scorer: ClassifierScorer) -> None:
    with pytest.raises(Uninspectable, match="the engine takes"):
        scorer.name_defects([crop(PLAIN[:16])], [None])


def test_answer_that_is_no_number_is_a_model_fault(tiny_classifier: Path) -> None:
    class Poisoned:
        def run(self, batch: Pixels) -> dict[str, np.ndarray]:
            count = len(batch)
            return {
                "score": np.zeros(count, np.float32),
                "anomaly_map": np.zeros((count, 8, 8), np.uint8),
                "probabilities": np.full((count, 3), np.nan, np.float32),
                "novelty": np.zeros(count, np.float32),
            }

        def close(self) -> None:
            return

    scorer = ClassifierScorer(Poisoned(), open_engine(tiny_classifier).manifest)
    with pytest.raises(Uninspectable, match="probability is nan") as caught:
        scorer.name_defects([crop(PLAIN)], [None])
    assert caught.value.reason == "model_fault"


@pytest.mark.parametrize(
    "change", [{"kind": "anomaly"}, {"outputs": ("score", "anomaly_map")}, {"classes": ("good",)}]
)
def test_engine_of_another_kind_is_refused(tiny_classifier: Path, change) -> None:
    engine = open_engine(tiny_classifier)
    session = open_first(["openvino"], engine.model, 1)[1]
    with pytest.raises(EngineRefused, match="a classifier needs score"):
        ClassifierScorer(session, engine.manifest.model_copy(update=change))
