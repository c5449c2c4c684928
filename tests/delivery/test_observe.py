"""Delivery where the station observes, and what a controller tells of the incumbent."""

import pytest

from edge_inspector.channel import IncumbentSaid
from edge_inspector.records import Baseline, Outcome
from edge_inspector.wire.assured import Incumbent, Replay
from edge_inspector.wire.codes import Flag, Type


def incumbent(**fields):
    return Incumbent(**({"station": "st1", "outcome": Outcome.FAIL} | fields))


def test_what_a_controller_says_of_the_incumbent_is_told_to_core(core, connect):
    plc = connect()
    plc.subscribe()
    plc.say(Type.INCUMBENT, incumbent(trigger_id=7, defect_class="dent"))
    assert core.message(IncumbentSaid) == IncumbentSaid(Baseline(Outcome.FAIL, "dent"), 7)
    plc.say(Type.INCUMBENT, incumbent(unit_id="a", outcome=Outcome.PASS))
    assert core.message(IncumbentSaid) == IncumbentSaid(Baseline(Outcome.PASS), None, "a")


def test_the_incumbents_verdict_of_no_unit_or_another_station_is_refused(core, connect):
    plc = connect()
    plc.subscribe()
    plc.say(Type.INCUMBENT, incumbent())
    nack = plc.hear("Nack")
    assert nack.why == "BAD_HEADER"
    assert "give its trigger_id or unit_id" in nack.detail
    plc.say(Type.INCUMBENT, incumbent(station="other", trigger_id=1))
    assert plc.hear("Nack").why == "NOT_ALLOWED"


@pytest.mark.parametrize(("observe", "flag"), [(True, Flag.TEST), (False, Flag(0))])
def test_every_verdict_is_flagged_in_each_lane_where_the_station_observes(
    observe, flag, store, start_delivery, connect
):
    store.commit(3)
    core = start_delivery(observe=observe)
    plc = connect()
    plc.subscribe(start=1)
    core.commit(2)
    plc.until(lambda: len(plc.live) == 2 and len(plc.history) == 3)
    plc.ack(5, 5)
    plc.say(Type.REPLAY, Replay(1, 1))
    plc.until(lambda: len(plc.again) == 1)
    assert {message.header.flags for message in plc.live} == {flag}
    assert {message.header.flags for message in plc.history} == {flag | Flag.HISTORICAL}
    assert {message.header.flags for message in plc.again} == {flag | Flag.REPLAY}
