"""Defects: each is visible, and the truth says where."""

import numpy as np
import pytest

from edge_inspector.errors import Misuse
from edge_inspector.simulator import package
from edge_inspector.simulator.defects import DEFECTS
from edge_inspector.simulator.parts import VISIBLE, Parts, Variation, compose
from tests.simulator.conftest import find_balls

SEEDS = range(25)
STILL = Variation(0, 0, 0, 0, 0, 0)


def made(seed, kind="good", **options):
    return compose(package.parts(), np.random.default_rng(seed), defect=kind, **options)


@pytest.mark.parametrize("kind", DEFECTS)
def test_a_defect_changes_the_unit_inside_its_mask_and_nowhere_else(kind):
    for seed in SEEDS:
        good, bad = made(seed), made(seed, kind)
        change = np.abs(bad.pixels.astype(int) - good.pixels)
        gain_and_rounding = 1.06 * VISIBLE + 1
        assert change[bad.mask == 0].max() <= gain_and_rounding
        assert change[bad.mask > 0].max() >= 15


@pytest.mark.parametrize("kind", DEFECTS)
def test_the_box_bounds_the_mask(kind):
    for seed in SEEDS:
        bad = made(seed, kind)
        rows, columns = np.nonzero(bad.mask)
        x, y, width, height = bad.box
        assert (x, x + width - 1) == (columns.min(), columns.max())
        assert (y, y + height - 1) == (rows.min(), rows.max())
        assert set(np.unique(bad.mask)) == {0, 255}
        assert bad.label == kind


def test_a_good_unit_has_an_empty_truth():
    good = made(3)
    assert (good.label, good.box, good.mask.any()) == ("good", None, False)


@pytest.mark.parametrize(("kind", "count"), [("missing", 77), ("extra", 79), ("small_pitch", 78)])
def test_balls_are_counted_as_the_kind_says(kind, count):
    for seed in SEEDS:
        assert len(find_balls(made(seed, kind).pixels)[0]) == count


def test_a_bridge_joins_two_balls():
    for seed in SEEDS:
        assert len(find_balls(made(seed, "bridge", variation=STILL).pixels)[0]) in (76, 77)


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("size", 0.28, 0.62), ("small_size", 0.15, 0.27)]
)
def test_one_ball_has_another_radius(kind, low, high):
    for seed in SEEDS:
        areas, _ = find_balls(made(seed, kind, variation=STILL).pixels)
        ratio = np.sqrt(areas / np.median(areas))
        odd = np.abs(ratio - 1).max()
        assert low - 0.08 < odd < high + 0.08


@pytest.mark.parametrize(("kind", "low", "high"), [("pitch", 3.5, 7.0), ("small_pitch", 2.2, 3.0)])
def test_one_ball_is_off_its_place(kind, low, high):
    drawn = package.parts().centres
    for seed in SEEDS:
        _, centres = find_balls(made(seed, kind, variation=STILL).pixels)
        if kind == "pitch" and len(centres) < 78:
            continue  # 7 px is as far as the next ball: the two touch
        gaps = np.hypot(*(drawn[:, None] - centres[None]).transpose(2, 0, 1)).min(1)
        assert low - 0.4 < gaps.max() < high + 0.4
        assert np.sort(gaps)[-2] < 0.5


def test_a_scratch_is_as_long_as_it_should_be():
    assert min(max(made(seed, "scratch").box[2:]) for seed in range(100)) >= 15


def test_the_same_seed_makes_the_same_unit():
    for kind in ("good", *DEFECTS):
        first, second = made(11, kind), made(11, kind)
        assert np.array_equal(first.pixels, second.pixels)
        assert (first.box, first.label) == (second.box, second.label)


def test_an_unknown_kind_is_refused_by_name():
    with pytest.raises(Misuse, match="unknown defect 'crack'; known: missing"):
        made(1, "crack")


def test_a_ball_at_the_rim_is_drawn_as_far_as_it_lies_inside():
    parts = package.parts()
    rim = Parts(np.zeros((40, 40), np.float32), np.array([[0.0, 20.0], [39.0, 39.0]]),
                parts.patches, parts.radius_px, (0, 0, 40, 40))  # fmt: skip
    pixels = compose(rim, np.random.default_rng(1), STILL).pixels
    whole = np.pi * parts.radius_px**2
    assert np.count_nonzero(pixels[:, :20] > 120) == pytest.approx(whole / 2, rel=0.2)
    assert np.count_nonzero(pixels[:, 20:] > 120) == pytest.approx(whole / 4, rel=0.35)
