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


class Ingest:
    """Takes slots while it lives."""

    def __init__(self):
        self.alive = True
        self.granted = []

    def send(self, offered):
        if self.alive:
            self.granted += offered
        return self.alive


def test_every_slot_is_granted_once_until_it_comes_back():
    ingest = Ingest()
    ledger = slots.Ledger(8, ingest.send)
    assert ledger.grant()
    assert sorted(ingest.granted) == list(range(8))
    for slot in (0, 1):
        ledger.taken(slot)
        ledger.released(slot)
    assert sorted(ingest.granted[8:]) == [0, 1]


def test_slots_of_a_lost_ingest_are_granted_again_but_not_those_with_frames():
    ingest = Ingest()
    ledger = slots.Ledger(4, ingest.send)
    ledger.grant()
    ledger.taken(2)
    ingest.alive = False
    ledger.recall()
    assert not ledger.grant()
    ingest.alive, ingest.granted = True, []
    assert ledger.grant()
    assert sorted(ingest.granted) == [0, 1, 3]
    ledger.released(2)
    assert sorted(ingest.granted) == [0, 1, 2, 3]


def test_slots_released_while_ingest_is_away_are_kept_for_the_next():
    ingest = Ingest()
    ledger = slots.Ledger(4, ingest.send)
    ledger.grant()
    ledger.taken(1)
    ingest.alive = False
    ledger.recall()
    ledger.released(1)
    ingest.alive, ingest.granted = True, []
    ledger.grant()
    assert sorted(ingest.granted) == [0, 1, 2, 3]
