"""The rendered package looks like the one on the poster."""

import numpy as np
import pytest

from edge_inspector.simulator import package
from edge_inspector.simulator.parts import Variation, compose
from tests.simulator.conftest import find_balls

STILL = Variation(0, 0, 0, 0, 0, 0)


def rendered(seed=1, **options):
    return compose(package.parts(), np.random.default_rng(seed), **options).pixels


def test_seventy_eight_balls_are_found_again_where_they_were_drawn():
    areas, centres = find_balls(rendered(variation=STILL))
    drawn = package.parts().centres
    gaps = np.hypot(*(drawn[:, None] - centres[None]).transpose(2, 0, 1))
    assert len(centres) == len(drawn) == 78
    assert sorted(gaps.argmin(1)) == list(range(78))
    assert gaps.min(1).max() < 0.5
    assert abs(np.sqrt(np.median(areas) / np.pi) - package.RADIUS_PX) < 0.25


def test_rows_have_their_pitch_and_columns_their_places():
    _, centres = find_balls(rendered(variation=STILL))
    rows = np.sort(centres[:, 1]).reshape(package.ROWS, 6).mean(1)
    columns = np.sort(centres[:, 0]).reshape(6, package.ROWS).mean(1)
    assert np.diff(rows) == pytest.approx(package.ROW_PITCH_PX, abs=0.4)
    assert columns == pytest.approx(package.COLUMNS_PX, abs=0.4)


def test_good_units_vary_but_keep_all_their_balls():
    for seed in range(20):
        assert len(find_balls(rendered(seed))[0]) == 78
    assert np.any(rendered(1) != rendered(2))


def test_a_larger_scale_shows_the_same_package():
    large = compose(package.parts(scale=2), np.random.default_rng(1), STILL).pixels
    assert large.shape == (512, 512)
    reduced = large.reshape(256, 2, 256, 2).mean((1, 3))
    assert abs(reduced.mean() - rendered(variation=STILL).mean()) < 4
    assert len(find_balls(reduced.astype(np.uint8))[0]) == 78


def test_it_resembles_the_photograph(poster):
    drawn = rendered()
    photo_areas, photo_centres = find_balls(poster)
    areas, centres = find_balls(drawn)
    assert len(areas) == len(photo_areas) == 78
    assert abs(areas.mean() - photo_areas.mean()) < 0.15 * photo_areas.mean()
    assert abs(drawn.mean() - poster.mean()) < 8
    assert (
        np.abs(np.percentile(drawn, (10, 50, 90)) - np.percentile(poster, (10, 50, 90))).max() < 15
    )
    assert np.abs(centres.min(0) - photo_centres.min(0)).max() < 4
    assert np.abs(centres.max(0) - photo_centres.max(0)).max() < 4
