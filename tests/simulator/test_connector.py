"""The connector is a product of its own: the same units for a seed, defects where the truth says."""

from itertools import islice

import numpy as np
import pytest

from edge_inspector.errors import Misuse
from edge_inspector.simulator.connector import KINDS, USUAL, ConnectorLine, compose


def rng(number):
    return np.random.default_rng([8, number])


def test_the_same_seed_draws_the_same_unit():
    assert np.array_equal(compose(rng(1)).pixels, compose(rng(1)).pixels)
    assert np.any(compose(rng(1)).pixels != compose(rng(2)).pixels)
    assert compose(rng(1)).pixels.shape == (224, 320)


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_shows_where_its_mask_is_and_nowhere_else(kind):
    for number in range(12):
        good, marred = compose(rng(number)), compose(rng(number), USUAL, kind)
        far = np.abs(good.pixels.astype(int) - marred.pixels) > 10
        assert marred.box is not None
        assert (marred.mask > 0).sum() >= 8
        assert not (far & (marred.mask == 0)).any()
        assert far.any()


def test_good_units_have_no_box_and_lie_differently():
    made = [compose(rng(number)) for number in range(20)]
    assert {one.box for one in made} == {None}
    dark = [np.argwhere(one.pixels < 100).mean(axis=0) for one in made]
    assert np.ptp(dark, axis=0).min() > 2  # px, of 1.6 px of shift and half a degree


def test_a_line_plays_every_kind():
    units = list(islice(ConnectorLine(seed=3, defect_rate=0.5), 120))
    assert {unit.label for unit in units} == {"good", *KINDS}
    again = ConnectorLine(seed=3, defect_rate=0.5).unit(7)
    assert np.array_equal(again.pixels, units[6].pixels)


def test_an_unknown_kind_is_refused():
    with pytest.raises(Misuse, match="unknown defect 'bridge'; known: missing_pin"):
        ConnectorLine(kinds=("bridge",))
    with pytest.raises(Misuse, match="unknown defect 'bridge'"):
        compose(rng(1), USUAL, "bridge")
