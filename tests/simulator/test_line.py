"""The simulated line plays the same units each time, fast enough for a load."""

from itertools import islice

import cv2
import numpy as np
import pytest

from edge_inspector import clock
from edge_inspector.errors import Misuse
from edge_inspector.simulator.defects import DEFECTS
from edge_inspector.simulator.line import KINDS, LinePlayer

FRAME_MS = 4.0


def test_units_are_numbered_and_named():
    units = list(islice(LinePlayer(seed=4), 3))
    assert [unit.trigger_id for unit in units] == [1, 2, 3]
    assert [unit.unit_id for unit in units] == ["s4-00000001", "s4-00000002", "s4-00000003"]
    assert {unit.pixels.shape for unit in units} == {(256, 256)}


def test_the_same_seed_plays_the_same_units_again_in_any_order():
    line = LinePlayer(seed=9, defect_rate=0.5)
    in_order = list(islice(line, 6))
    for unit in reversed(in_order):
        again = LinePlayer(seed=9, defect_rate=0.5).unit(unit.trigger_id)
        assert np.array_equal(again.pixels, unit.pixels)
        assert (again.label, again.box) == (unit.label, unit.box)
    other = LinePlayer(seed=10, defect_rate=0.5).unit(1)
    assert np.any(other.pixels != in_order[0].pixels)


def test_defects_come_at_the_rate_asked_for_and_of_the_kinds_asked_for():
    labels = [unit.label for unit in islice(LinePlayer(seed=2, defect_rate=0.25), 400)]
    defective = [label for label in labels if label != "good"]
    assert 70 <= len(defective) <= 130  # 100 expected, 3.5 standard deviations of 8.7
    assert set(defective) == set(KINDS)
    every = islice(LinePlayer(defect_rate=1.0, kinds=("stain",)), 5)
    assert {unit.label for unit in every} == {"stain"}
    assert {unit.label for unit in islice(LinePlayer(defect_rate=0.0), 20)} == {"good"}


def test_only_defective_units_have_a_box():
    for unit in islice(LinePlayer(seed=3, defect_rate=0.5, kinds=tuple(DEFECTS)), 40):
        assert (unit.box is None) == (unit.label == "good")


def test_a_pool_repeats_its_frames_under_new_numbers():
    pooled = LinePlayer(seed=5, defect_rate=0.5, pool=4)
    units = list(islice(pooled, 9))
    assert len({id(unit.pixels) for unit in units}) == 4
    assert units[4].pixels is units[0].pixels
    assert units[4].label == units[0].label
    assert len({unit.unit_id for unit in units}) == 9
    assert np.array_equal(units[0].pixels, LinePlayer(seed=5, defect_rate=0.5).unit(1).pixels)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"defect_rate": 1.5}, "defect rate 1.5"), ({"kinds": ("crack",)}, "unknown defect 'crack'")],
)
def test_a_wrong_wish_is_refused(options, message):
    with pytest.raises(Misuse, match=message):
        LinePlayer(**options)


def test_a_frame_takes_less_than_four_ms_of_one_core():
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    line = iter(LinePlayer(defect_rate=0.2))
    next(line)
    rounds_ms = []
    for _ in range(3):
        started = clock.cpu_ns()
        list(islice(line, 40))
        rounds_ms.append((clock.cpu_ns() - started) / 40 / clock.NS_PER_MS)
    cv2.setNumThreads(threads)
    assert min(rounds_ms) <= FRAME_MS
