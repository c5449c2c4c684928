"""The C++ form of the rules answers as the Python does."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from bench.rules_port import PortedGauge, PortedRules, build
from edge_inspector.errors import Uninspectable
from edge_inspector.records import Crop, Roi
from edge_inspector.rules.balls import BallGauge
from edge_inspector.rules.bga import RuleScorer
from edge_inspector.rules.parameters import load_rules
from edge_inspector.simulator import package
from edge_inspector.simulator.defects import DEFECTS, GOOD
from edge_inspector.simulator.parts import Variation, compose

RULES = load_rules(
    Path(__file__).resolve().parents[2] / "edge_inspector" / "rules" / "bga_simulated.toml"
)
KINDS = (GOOD, *DEFECTS)


@pytest.fixture(scope="module")
def port():
    if shutil.which("g++") is None:
        pytest.skip("there is no g++ to compile the rules' C++ form with")
    return build()


def unit(number):
    rng = np.random.default_rng([5, number])
    kind = KINDS[number % len(KINDS)]
    return np.ascontiguousarray(compose(package.parts(), rng, Variation(), kind).pixels)


def flat(balls):
    values = dataclasses.asdict(balls)
    placement = values.pop("placement")
    return {**values, "turn": placement["turn"], "offset": placement["offset"]}


def test_every_measure_of_every_ball_is_the_same(port):
    python, ported = BallGauge(RULES), PortedGauge(RULES, port)
    for number in range(3 * len(KINDS)):
        pixels = unit(number)
        wanted, found = flat(python.measure(pixels)), flat(ported.measure(pixels))
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)


def test_scores_boxes_and_names_are_the_same(port):
    python, ported = RuleScorer(RULES), PortedRules(RULES, port)
    for number in range(2 * len(KINDS)):
        crop = Crop(Roi("p", "main", (0, 0, 256, 256)), unit(number)[..., None], (0, 0, 256, 256))
        (wanted,), (found,) = python.score([crop]), ported.score([crop])
        assert found.anomaly_score == pytest.approx(wanted.anomaly_score, abs=1e-4)
        assert (found.box, found.defect_class) == (wanted.box, wanted.defect_class)


@pytest.mark.parametrize("level", [0, 40, 255])
def test_a_crop_without_a_grid_is_refused_in_the_same_words(port, level):
    pixels = np.full((256, 256), level, np.uint8)
    said = []
    for gauge in (BallGauge(RULES), PortedGauge(RULES, port)):
        with pytest.raises(Uninspectable) as refusal:
            gauge.measure(pixels)
        said.append(str(refusal.value))
    assert said[0] == said[1]
