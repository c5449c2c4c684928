import numpy as np
import pytest

from edge_inspector import clock, slots
from edge_inspector.channel import Answer
from edge_inspector.records import Reason
from edge_inspector.slots import Slots
from edge_inspector.sources.arrival import Arrival, of_array
from edge_inspector.sources.intake import MAX_TICKETS, Counts, Defaults, Intake, Pool, Tickets
from edge_inspector.wire.plain import Identity

IMAGE = np.arange(16, dtype=np.uint8).reshape(4, 4)


@pytest.fixture
def pool():
    return Pool(Slots(slots.create(2, 1024), 1024, writable=True))


@pytest.fixture
def heads():
    return []


@pytest.fixture
def counts():
    return Counts()


@pytest.fixture
def intake(pool, heads, counts):
    defaults = Defaults(source="line", station="st1", camera="main", recipe="board")
    return Intake(defaults, pool, Tickets(), counts, heads.append)


def arrival(epoch="e1", **keys):
    pixels, layout = of_array(IMAGE, 100)
    return Arrival(arrived_ns=7, epoch=epoch, **{"pixels": pixels, "layout": layout, **keys})


def test_a_publishers_numbers_never_meet_arrival_numbers(intake, heads):
    for identity in (Identity(), Identity(seq=2), Identity(), Identity(seq=1)):
        intake(arrival(identity=identity))
    assert len({head.key for head in heads}) == 4
    assert [(head.numbered, head.key.seq) for head in heads] == [
        (False, 1),
        (True, 2),
        (False, 3),
        (True, 1),
    ]


def test_arrival_numbers_begin_again_with_each_connection(intake, heads):
    for epoch in ("e1", "e1", "e2"):
        intake(arrival(epoch))
    assert [head.key.seq for head in heads] == [1, 2, 1]
    assert heads[0].key.epoch != heads[2].key.epoch


def test_the_digest_is_of_the_pixels(intake, heads, pool):
    pool.give((0, 1))
    intake(arrival())
    intake(arrival())
    other, layout = of_array(IMAGE + 1, 100)
    intake(arrival(pixels=other, layout=layout))
    assert heads[0].digest == heads[1].digest != heads[2].digest
    assert [head.slot for head in heads] == [0, 1, -1]


def test_faults_are_counted_by_reason_and_once(intake, counts):
    intake(arrival(fault=Reason.CAMERA_FAULT, pixels=None))
    intake(arrival())
    intake(arrival())
    assert counts.take() == {"line.camera_fault": 1, "line.shed": 2}
    assert counts.take() == {}


def test_a_frame_larger_than_a_slot_is_bad_input(intake, heads, pool):
    pool.give((0,))
    pixels, layout = of_array(np.zeros((40, 40), np.uint8), 2000)
    intake(arrival(pixels=pixels, layout=layout))
    intake(arrival(pixels=None))
    intake(arrival())
    assert [head.fault for head in heads] == [Reason.BAD_INPUT, Reason.BAD_INPUT, None]
    assert "1600 bytes; the limit is 1 to 1024" in heads[0].detail
    assert heads[2].slot == 0


def test_pixels_that_nobody_will_inspect_are_still_known_by_their_digest(
    pool, heads, counts, intake
):
    defaults = Defaults(source="l", station="s", camera="main", recipe="bga", max_age_ms=10.0)
    old = Identity(None, None, None, captured_ns=clock.utc_ns() - 10**9)
    pool.give((0,))
    Intake(defaults, pool, Tickets(), counts, heads.append)(arrival(identity=old))
    intake(arrival())
    assert [head.fault for head in heads] == [Reason.TIMEOUT, None]
    assert heads[0].digest == 0, "so that it contradicts nothing"
    assert heads[0].given_up == heads[1].digest != 0
    assert heads[1].given_up == 0


def test_a_final_reply_is_given_once():
    tickets = Tickets()
    said: list[str] = []
    ticket = tickets.issue(lambda answer: said.append(answer.text))
    assert tickets.issue(None) == 0
    tickets.answer(Answer(ticket, "soon", final=False))
    tickets.answer(Answer(ticket, "OK"))
    tickets.answer(Answer(ticket, "OK"))
    tickets.answer(Answer(999, "OK"))
    assert said == ["soon", "OK"]


def test_peers_that_never_get_an_answer_are_forgotten():
    tickets = Tickets()
    said: list[str] = []
    issued = [
        tickets.issue(lambda answer: said.append(answer.text)) for _ in range(MAX_TICKETS + 1)
    ]
    tickets.answer(Answer(issued[0], "first"))
    tickets.answer(Answer(issued[-1], "last"))
    assert said == ["last"]
