"""Pixels written by one process are read by another; a slot cannot reach its neighbour."""

import os

import numpy as np
import pytest

from edge_inspector import slots


@pytest.fixture
def memory():
    fd = slots.create(4, 1000)
    yield fd
    os.close(fd)


def test_what_one_mapping_writes_another_reads(memory):
    writer = slots.Slots(memory, 1000, writable=True)
    reader = slots.Slots(memory, 1000, writable=False)
    writer.view(2, 10)[:] = np.arange(10)
    assert reader.view(2, 10).tolist() == list(range(10))
    assert reader.view(1, 1000).sum() == 0
    assert len(reader) == 4


def test_a_reader_cannot_write(memory):
    view = slots.Slots(memory, 1000, writable=False).view(0, 5)
    with pytest.raises(ValueError, match="read-only"):
        view[:] = 1


@pytest.mark.parametrize(("slot", "size"), [(4, 1), (-1, 1), (0, 1001), (0, -1)])
def test_a_view_outside_its_slot_is_refused(memory, slot, size):
    with pytest.raises(ValueError, match="there are 4 slots of 1000"):
        slots.Slots(memory, 1000, writable=False).view(slot, size)
