from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_inspector.backends import open_first
from edge_inspector.bundle import open_engine
from edge_inspector.errors import ParityError
from edge_inspector.parity import challenge, compare


def test_runtimes_agree_on_one_engine(tiny_engine: Path) -> None:
    engine = open_engine(tiny_engine)
    _, a = open_first(["openvino"], engine.model, threads=1)
    _, b = open_first(["onnxruntime"], engine.model, threads=1)
    crops = np.random.default_rng(1).integers(0, 200, (12, 32, 32, 1), dtype=np.uint8)
    parity = compare(a, b, crops)
    assert parity.max_score_difference < 1e-6
    assert parity.max_map_difference <= 1
    for session in (a, b):
        challenge(session, engine)


def test_difference_is_measured_at_the_worst_crop(tmp_path: Path, make_engine) -> None:
    a, b = (
        open_first(["openvino"], open_engine(make_engine(tmp_path / n, level=v)).model, threads=1)[
            1
        ]
        for n, v in (("a", 100.0), ("b", 110.0))
    )
    crops = np.full((3, 32, 32, 1), 105, np.uint8)
    crops[2] = 50
    parity = compare(a, b, crops)
    assert parity.worst == 2
    assert parity.max_score_difference == pytest.approx(10 / 255, rel=1e-4)
    assert parity.max_map_difference == 10


def test_score_that_is_no_number_never_counts_as_agreement(tiny_engine: Path) -> None:
    _, session = open_first(["openvino"], open_engine(tiny_engine).model, threads=1)
    white = np.full((1, 32, 32, 1), 255, np.uint8)
    assert compare(session, session, white).max_score_difference == np.inf


def test_other_scores_than_in_training_are_told_with_crop_value_and_limit(
    tmp_path: Path, make_engine
) -> None:
    engine = open_engine(make_engine(tmp_path / "a"))
    other = open_engine(make_engine(tmp_path / "b", level=101.0))
    _, session = open_first(["openvino"], other.model, threads=1)
    with pytest.raises(ParityError, match=r"tiny/1: the good .* 0\.0039.* 0 in training.*0\.0001"):
        challenge(session, engine)


def test_classifiers_are_compared_by_their_probabilities_too(tiny_classifier: Path) -> None:
    model = open_engine(tiny_classifier).model
    crops = np.random.default_rng(1).integers(60, 140, (6, 32, 32, 1), dtype=np.uint8)
    _, session = open_first(["openvino"], model, threads=1)

    class Shifted:
        def run(self, batch):
            found = dict(session.run(batch))
            return found | {"probabilities": found["probabilities"] + np.float32(0.25)}

        def close(self) -> None:
            session.close()

    assert compare(session, session, crops).max_probability_difference == 0
    found = compare(session, Shifted(), crops)
    assert found.max_probability_difference == pytest.approx(0.25)
    assert found.max_score_difference == 0
