"""The incumbent's verdicts from Modbus registers, with the test in core's place."""

import pytest

from edge_inspector.channel import Alive, IncumbentSaid, Ready, Remark, Row
from edge_inspector.observe.poller import Readings
from edge_inspector.records import Baseline, Outcome
from edge_inspector.settings import Incumbent
from tests.core_side import CoreSide
from tests.observe.registers import Controller

PASS, FAIL = Outcome.PASS, Outcome.FAIL


@pytest.fixture
def controller():
    served = Controller()
    yield served
    served.close()


class Core(CoreSide):
    """Core's side of the line to one poller."""

    peaceful = (0,)

    def __init__(self, port, **changes):
        asked = {"host": "127.0.0.1", "port": port, "trigger": 0, "outcome": 2, "poll_ms": 5}
        config = Incumbent(**(asked | changes)).model_dump_json()
        super().__init__(("-m", "edge_inspector.observe.poller"), config)
        self.started = self.message(Ready)

    def next(self, kind, seconds=10.0):
        """The next of its kind, None when none comes in time."""
        try:
            found = self.message(kind, timeout_s=seconds)
        except TimeoutError:
            return None
        assert found is not None, "the poller is gone"
        return found

    def until_polled(self, controller, times=3):
        asked = controller.asked
        while controller.asked < asked + times:
            self.next(Alive, 1)


@pytest.fixture
def poll():
    started = []

    def start(port, **changes):
        started.append(Core(port, **changes))
        return started[-1]

    yield start
    for core in started:
        core.close()


def test_each_new_verdict_is_told_once_under_its_trigger_id(controller, poll):
    controller.say(70_000, 1)
    core = poll(controller.port)
    core.until_polled(controller)
    controller.say(70_001, 1)
    assert core.next(IncumbentSaid) == IncumbentSaid(Baseline(PASS), 70_001)
    controller.say(70_002, 2)
    assert core.next(IncumbentSaid) == IncumbentSaid(Baseline(FAIL), 70_002)
    assert core.next(IncumbentSaid, 0.2) is None


def test_what_lay_in_the_registers_before_is_of_a_unit_from_before(controller, poll):
    controller.say(5, 2)
    core = poll(controller.port)
    assert core.next(IncumbentSaid, 0.3) is None


def test_the_same_trigger_id_counts_again_when_the_counter_moves(controller, poll):
    controller.say(4, 1, counter=1)
    core = poll(controller.port, counter=3)
    core.until_polled(controller)
    controller.say(4, 2, counter=2)
    assert core.next(IncumbentSaid) == IncumbentSaid(Baseline(FAIL), 4)


def test_an_outcome_that_is_none_is_uninspected_and_never_a_pass(controller, poll):
    controller.say(1, 1)
    core = poll(controller.port)
    core.until_polled(controller)
    controller.say(2, 999)
    said = core.next(IncumbentSaid)
    assert said is not None
    assert said.said.outcome is Outcome.UNINSPECTED


def test_registers_that_change_between_two_readings_are_no_verdict_yet():
    readings = Readings(Incumbent(host="plc", trigger=0, outcome=2), 0)
    assert readings.take([0, 1, 1]) is None
    assert readings.take([0, 1, 1]) is None
    assert readings.take([0, 2, 1]) is None, "the outcome may still be that of unit 1"
    assert readings.take([0, 2, 2]) is None
    assert readings.take([0, 2, 2]) == IncumbentSaid(Baseline(FAIL), 2)
    assert readings.take([0, 2, 2]) is None


@pytest.mark.parametrize("absent", [True, False])
def test_an_incumbent_that_never_answers_is_told_once_and_counted(absent, poll):
    mute = Controller(mute=True)
    if absent:
        mute.close()
    try:
        core = poll(mute.port, silent_s=0.2)
        for number in range(3):
            core.line.send(Row(number + 1, b"", 0))
        remark = core.next(Remark)
        assert remark is not None
        assert remark.event == "incumbent_silent"
        assert "3 units" in remark.detail
        assert "the limit is 0.2 s" in remark.detail
        assert core.next(Remark, 0.6) is None
        assert core.counters["incumbent_silent"] == 1
        assert core.counters["incumbent_unreachable"] >= 1
    finally:
        if not absent:
            mute.close()


def test_a_standing_line_is_no_silent_incumbent(controller, poll):
    core = poll(controller.port, silent_s=0.1)
    assert core.next(Remark, 0.6) is None


def test_a_controller_that_comes_back_is_heard_again(controller, poll):
    controller.mute = True
    core = poll(controller.port)
    core.next(Alive, 2)
    controller.mute = False
    controller.say(1, 1)
    core.until_polled(controller)
    controller.say(2, 1)
    assert core.next(IncumbentSaid) == IncumbentSaid(Baseline(PASS), 2)


def test_a_register_that_is_not_there_is_an_unreachable_incumbent(controller, poll):
    core = poll(controller.port, outcome=90)
    core.until_polled(controller, 1)
    core.next(Alive, 1)
    core.next(Alive, 1)
    assert core.counters["incumbent_unreachable"] >= 1
