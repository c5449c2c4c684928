"""The rules find what they are for, leave good units alone wherever these lie, and never guess."""

from pathlib import Path

import numpy as np
import pytest

from edge_inspector.errors import Uninspectable
from edge_inspector.records import Crop, Roi
from edge_inspector.rules import open_rules
from edge_inspector.simulator import package
from edge_inspector.simulator.defects import DEFECTS
from edge_inspector.simulator.parts import Variation, compose

SHIPPED = Path(__file__).resolve().parents[2] / "edge_inspector" / "rules" / "bga_simulated.toml"
BOX = (0, 0, 256, 256)
SURE = ("missing", "extra", "pitch", "size", "bridge", "scratch", "stain", "small_size")


@pytest.fixture(scope="module")
def rules():
    return open_rules(SHIPPED)


def score(rules, pixels):
    (found,) = rules.score([Crop(Roi("package", "main", BOX), pixels, BOX)])
    return found


def unit(number, kind="good", variation=None):
    rng = np.random.default_rng([77, number])
    return compose(package.parts(), rng, variation or Variation(), kind)


def test_good_units_pass(rules):
    rejected = [n for n in range(200) if score(rules, unit(n).pixels).anomaly_score >= 1]
    assert len(rejected) <= 3


@pytest.mark.parametrize("kind", SURE)
def test_defects_that_rules_can_see_are_rejected(rules, kind):
    found = [score(rules, unit(n, kind).pixels) for n in range(30)]
    assert sum(f.anomaly_score >= 1 for f in found) >= 28


def test_small_moves_of_a_ball_score_above_good_units(rules):
    kind = "small_pitch"
    good = np.median([score(rules, unit(n).pixels).anomaly_score for n in range(30)])
    bad = np.median([score(rules, unit(n, kind).pixels).anomaly_score for n in range(30)])
    assert bad > 1.1 * good


@pytest.mark.parametrize(
    "kind", ["missing", "extra", "pitch", "size", "bridge", "scratch", "stain"]
)
def test_most_rejects_name_their_kind_and_its_place(rules, kind):
    named = 0
    for number in range(20):
        made = unit(number, kind)
        found = score(rules, made.pixels)
        x, y, width, height = found.box
        tx, ty, tw, th = made.box
        near = x - 8 < tx + tw and tx - 8 < x + width and y - 8 < ty + th and ty - 8 < y + height
        named += found.defect_class == kind and near
    assert named > 10


def test_motion_of_the_package_raises_no_false_call(rules):
    moving = Variation(shift_px=1.0, rotation_deg=0.5)
    rejected = [
        n for n in range(60) if score(rules, unit(n, "good", moving).pixels).anomaly_score >= 1
    ]
    assert len(rejected) <= 3


def test_the_same_crop_has_the_same_score_and_a_map_at_half_size(rules):
    made = unit(3, "missing")
    first, again = score(rules, made.pixels), score(rules, made.pixels)
    assert first.anomaly_score == again.anomaly_score
    assert first.anomaly_map.shape == (128, 128)
    assert first.anomaly_map.max() >= 128


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_picture_without_balls_never_passes(rules, level):
    with pytest.raises(Uninspectable, match="bad_input"):
        score(rules, np.full((256, 256), level, np.uint8))


def test_a_crop_of_another_size_is_refused(rules):
    with pytest.raises(Uninspectable, match="the rules take"):
        score(rules, np.zeros((128, 128), np.uint8))


def test_every_kind_that_the_simulator_knows_is_looked_at_here():
    assert {*SURE, "small_pitch"} == set(DEFECTS)
