import numpy as np
import pytest

from edge_inspector.manifest import Input
from edge_inspector.training.teach_choice import choose, common, crop_shape

SHAPE = Input(height=64, width=64, channels=1)


@pytest.fixture
def alike(draw):
    rng = np.random.default_rng(1)
    return [draw(rng) for _ in range(40)]


@pytest.fixture
def grain():
    rng = np.random.default_rng(1)
    return [
        np.kron(rng.integers(80, 160, (16, 16)), np.ones((6, 6))).astype(np.uint8)
        for _ in range(40)
    ]


def test_parts_that_lie_the_same_way_have_most_in_common(alike):
    assert common(alike) > 0.9


def test_surfaces_have_nothing_in_common_and_few_of_them_no_more(grain):
    assert common(grain) < 0.1
    assert common(grain[:5]) < 0.2


def test_a_blank_region_has_nothing_in_common():
    assert common([np.full((64, 64), 90, np.uint8)] * 5) == 0


def test_the_model_follows_what_the_crops_have_in_common(alike, grain):
    assert choose(alike, SHAPE, 4, 100).model == "sensitive"
    chosen = choose(grain, SHAPE, 4, 100)
    assert (chosen.model, "varies" in chosen.why) == ("sure", True)


def test_a_backbone_that_would_not_keep_the_time_is_not_chosen(grain):
    large = Input(height=256, width=256, channels=1)
    chosen = choose(grain, large, 8, 100)
    assert chosen.model == "sensitive"
    assert "8 crops would take it 104 ms of the 100 ms" in chosen.why


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 0, 60, 60), (64, 64)),
        ((0, 0, 400, 380), (256, 256)),
        ((9, 9, 300, 100), (128, 256)),
        ((0, 0, 50, 70), (96, 64)),
    ],
)
def test_crops_are_about_as_large_as_their_regions_and_keep_their_aspect(box, expected):
    shape = crop_shape([box], np.zeros((500, 500), np.uint8))
    assert (shape.height, shape.width, shape.channels) == (*expected, 1)


def test_only_frames_with_colour_give_crops_with_colour():
    grey = np.full((100, 100, 3), 90, np.uint8)
    red = grey.copy()
    red[..., 2] = 200
    assert crop_shape([(0, 0, 60, 60)], grey).channels == 1
    assert crop_shape([(0, 0, 60, 60)], red).channels == 3
