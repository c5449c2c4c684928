"""Engine against rules on crops that take no time to make."""

from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest

from edge_inspector.bundle import open_engine
from edge_inspector.cli.bench import ENGINE, RULES
from edge_inspector.records import Score
from edge_inspector.rules import open_rules
from edge_inspector.studies import bench_rules
from edge_inspector.studies.bench_rules import WARM_UP, Row, in_turn, open_runners


class Brightness:
    """Scores a crop by its mean, and writes down whose turn it was."""

    kind = "anomaly"
    input_shape = (4, 4, 1)

    def __init__(self, name, turns):
        self._name, self._turns = name, turns

    def score(self, crops):
        self._turns.append(self._name)
        return [Score(float(crop.pixels.mean())) for crop in crops]


def test_every_scorer_sees_every_crop_and_goes_first_equally_often():
    turns: list[str] = []
    units = [(np.full((4, 4), number, np.uint8), "good") for number in range(WARM_UP + 40)]
    rows, labels = in_turn({name: Brightness(name, turns) for name in "ab"}, units)
    assert rows["a"].scores == rows["b"].scores == list(range(WARM_UP, WARM_UP + 40))
    assert len(rows["a"].ms) == len(labels) == 40
    assert {turns[::2].count(name) for name in "ab"} == {(WARM_UP + 40) // 2}


@pytest.mark.parametrize("turn", [7, 100])
def test_longer_turns_show_the_same_crops(turn):
    turns: list[str] = []
    units = [(np.full((4, 4), number, np.uint8), str(number)) for number in range(WARM_UP + 40)]
    rows, labels = in_turn({name: Brightness(name, turns) for name in "ab"}, units, turn)
    assert rows["a"].scores == rows["b"].scores == [float(label) for label in labels]
    assert labels == [str(number) for number in range(WARM_UP, WARM_UP + 40)]
    assert turns[: min(turn, WARM_UP + 40)] == ["b"] * min(turn, WARM_UP + 40)


def test_recalls_are_taken_where_two_of_400_good_crops_fail():
    scores = [*range(400), 397.5, 398.5, 300, 300]
    labels = ["good"] * 400 + ["missing", "missing", "stain", "stain"]
    found = Row(ms=[1.0] * 404, scores=scores).summary(labels)
    assert found["per_class"] == {"missing": 1.0, "stain": 0.0}
    assert found["recall"] == 0.5


def test_the_ratio_is_of_the_fastest_runner_and_the_fastest_rules():
    slow = open_rules(RULES)
    found = bench_rules.run(
        ENGINE, RULES, crops=60, backends=("openvino",), others={"rules again": slow}
    )
    runner, form = found["fastest"]
    medians = {name: row["ms"]["p50"] for name, row in found["rows"].items()}
    assert {"openvino", "rules", "rules again"} <= set(medians)
    assert medians[form] == min(medians["rules"], medians["rules again"])
    assert found["ratio"] == pytest.approx(medians[runner] / medians[form], abs=1e-4)
    assert found["rows"]["rules again"]["recall"] == found["rows"]["rules"]["recall"] > 0.9


def test_a_runner_that_cannot_be_had_says_why():
    engine = open_engine(ENGINE)
    plain = replace(engine, models={"float32": engine.model})
    with ExitStack() as stack:
        sessions, missing = open_runners(plain, ("openvino", "openvino:int8"), 1, stack)
    assert list(sessions) == ["openvino"]
    assert "no int8 model" in missing["openvino:int8"]
