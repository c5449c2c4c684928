import numpy as np
import pytest

from edge_inspector.training.teach_composed import KINDS, VISIBLE, with_defect

BOX = (20, 10, 60, 70)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("colour", [False, True])
def test_a_defect_shows_and_stays_within_the_region(kind, colour, draw):
    rng = np.random.default_rng(4)
    frame = draw(rng)
    if colour:
        frame = np.stack([frame] * 3, axis=2)
    before = frame.copy()
    marred = with_defect(frame, BOX, KINDS[kind], 8.0, rng)
    assert marred is not None
    assert np.array_equal(frame, before)
    changed = np.abs(marred.astype(int) - frame) > 0
    assert np.abs(marred.astype(int) - frame).max() >= VISIBLE - 1
    inside = np.zeros(frame.shape[:2], bool)
    inside[BOX[1] : BOX[1] + BOX[3], BOX[0] : BOX[0] + BOX[2]] = True
    assert not (changed.any(axis=2) if colour else changed)[~inside].any()


def test_sixteen_bits_stay_sixteen_bits(draw):
    rng = np.random.default_rng(4)
    frame = draw(rng).astype(np.uint16) * 257
    marred = with_defect(frame, BOX, KINDS["spot"], 8.0, rng)
    assert marred is not None
    assert marred.dtype == np.uint16
    assert np.abs(marred.astype(int) - frame).max() > 257 * VISIBLE


def test_what_would_not_show_is_not_counted():
    blank = np.full((96, 96), 90, np.uint8)
    assert with_defect(blank, BOX, KINDS["missing"], 8.0, np.random.default_rng(0)) is None


def test_the_same_seed_draws_the_same(draw):
    frame = draw(np.random.default_rng(4))
    drawn = [
        with_defect(frame, BOX, KINDS["scratch"], 8.0, np.random.default_rng(7)) for _ in range(2)
    ]
    assert drawn[0] is not None
    assert drawn[1] is not None
    assert np.array_equal(drawn[0], drawn[1])
