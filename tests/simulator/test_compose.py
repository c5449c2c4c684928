"""Synthesis from photographs: balls and body are found, and put together again."""

import cv2
import numpy as np
import pytest

from edge_inspector.errors import DataError
from edge_inspector.simulator import package
from edge_inspector.simulator.compose import compose, segment
from edge_inspector.simulator.defects import DEFECTS
from edge_inspector.simulator.parts import Variation
from tests.simulator.conftest import POSTER, find_balls

STILL = Variation(0, 0, 0, 0, 0, 0)


def drawn(seed=1):
    return compose(package.parts(), np.random.default_rng(seed)).pixels


def photograph():
    """The poster's good unit, else a rendered one."""
    path = POSTER / "good.jpg"
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path.is_file() else drawn()


@pytest.fixture(scope="module", params=["rendered", "photographed"])
def photo(request):
    return drawn() if request.param == "rendered" else request.getfixturevalue("poster")


def test_every_ball_is_found_where_it_is(photo):
    parts = segment([photo])
    _, centres = find_balls(photo)
    gaps = np.hypot(*(centres[:, None] - parts.centres[None]).transpose(2, 0, 1))
    assert len(parts.centres) == len(parts.patches) == 78
    assert gaps.min(1).max() < 1.0
    assert abs(parts.radius_px - package.RADIUS_PX) < 0.6


def test_the_body_has_no_balls_left(photo):
    parts = segment([photo])
    assert len(find_balls(parts.body.astype(np.uint8))[0]) == 0
    columns, rows = np.rint(parts.centres).astype(int).T
    assert parts.body[rows, columns].max() < 120


def test_put_together_again_it_is_the_photograph(photo):
    parts = segment([photo])
    again = compose(parts, np.random.default_rng(1), STILL).pixels
    assert len(find_balls(again)[0]) == 78
    assert abs(float(again.mean()) - float(photo.mean())) < 3
    assert np.abs(again.astype(float) - photo).mean() < 6  # every ball shows another one


def test_several_photographs_give_more_balls_to_choose_from():
    parts = segment([drawn(1), drawn(2)])
    assert (len(parts.centres), len(parts.patches)) == (78, 156)


@pytest.mark.parametrize("kind", DEFECTS)
def test_defects_show_on_photographs(kind):
    parts = segment([photograph()])
    for seed in range(5):
        good = compose(parts, np.random.default_rng(seed))
        bad = compose(parts, np.random.default_rng(seed), defect=kind)
        assert np.abs(bad.pixels.astype(int) - good.pixels)[bad.mask > 0].max() >= 12
        assert bad.box is not None


@pytest.mark.parametrize(("kind", "count"), [("good", 78), ("missing", 77), ("extra", 79)])
def test_balls_of_composed_photographs_are_counted(kind, count):
    parts = segment([photograph()])
    for seed in range(8):
        pixels = compose(parts, np.random.default_rng(seed), defect=kind).pixels
        assert len(find_balls(pixels)[0]) == count


def test_close_neighbours_are_not_part_of_a_ball():
    photo = np.full((120, 120), 40, np.uint8)
    for x in range(20, 110, 13):
        for y in range(20, 110, 13):
            cv2.circle(photo, (x, y), 5, 240, -1, cv2.LINE_AA)
    parts = segment([photo])
    pixels = compose(parts, np.random.default_rng(1), STILL, "missing")
    assert pixels.box is not None
    x, y, width, height = pixels.box
    hole = pixels.pixels[y + height // 2, x + width // 2]
    assert len(parts.centres) == 49
    assert hole < 60
    assert max(width, height) <= 13


@pytest.mark.parametrize(
    ("photos", "message"),
    [
        ([], "no photograph was given"),
        ([np.full((256, 256), 40, np.uint8)], "photograph 1: 0 balls"),
        ([np.zeros((64, 64), np.uint8), np.zeros((64, 65), np.uint8)], "crop them to one size"),
    ],
)
def test_photographs_that_cannot_be_used_are_refused(photos, message):
    with pytest.raises(DataError, match=message):
        segment(photos)
