"""Which sinks drive nothing, in one place; and what check says of it."""

from pathlib import Path

import pytest

from edge_inspector.observe.quiet import observing, quiet, quieted, told, watches
from edge_inspector.recipe import Recipe
from edge_inspector.settings import Settings
from edge_inspector.studies import check_observe
from edge_inspector.studies.findings import Station
from tests.observe.registers import Controller

GATE = {"type": "assured", "endpoint": "tcp://127.0.0.1:5571"}
SHOW = {"type": "zmq", "endpoint": "tcp://127.0.0.1:5572"}
ACTS = {"type": "a.b:C", "actuates": True}
LOGS = {"type": "a.b:D"}


def settings(*sinks, **changes):
    source = {"type": "zmq-pull", "name": "a", "endpoint": "tcp://127.0.0.1:5599"}
    values = {"station": "s", "recipe": Path("r.toml"), "sources": [source], "sinks": sinks}
    return Settings.model_validate(values | changes)


def recipe(**changes):
    region = {"name": "a", "rect": (0, 0, 8, 8), "engine": "e"}
    values = {"product": "p", "version": 1, "latency_budget_ms": 9, "engines": {"e": "e/1"}}
    return Recipe.model_validate({**values, "regions": [region], **changes})


def types(given):
    return [(sink.type, sink.observe) for sink in given.sinks]


def test_nothing_is_quiet_where_nothing_observes():
    given = settings(GATE, SHOW, ACTS, LOGS)
    assert quieted(given, recipe()) == given
    assert told(given, recipe()) == ""
    assert not watches(given, recipe())


@pytest.mark.parametrize(("station", "product"), [({"observe": True}, {}), ({}, {"observe": True})])
def test_a_station_that_observes_opens_no_sink_that_acts(station, product):
    given, asked = settings(GATE, SHOW, ACTS, LOGS, **station), recipe(**product)
    assert observing(given, asked)
    assert watches(given, asked)
    assert types(quieted(given, asked)) == [("assured", True), ("zmq", False), ("a.b:D", False)]
    assert told(given, asked).endswith("not opened: a.b:C; nothing is driven")


def test_a_sink_that_observes_is_quiet_alone():
    given = settings(GATE, {**ACTS, "observe": True}, {**ACTS, "type": "a.b:E"})
    assert types(quieted(given, recipe())) == [("assured", False), ("a.b:E", False)]
    assert [quiet(sink, given, recipe()) for sink in given.sinks] == [False, True, False]
    assert "still driving: assured, a.b:E" in told(given, recipe())


@pytest.mark.parametrize(
    "sink",
    [
        {"type": "modbus"},
        {"type": "discrete", "host": "io", "delay_ms": 100, "window_ms": 50},
        {"type": "memory", "actuates": True},
        ACTS,
    ],
)
def test_every_kind_of_sink_that_acts_can_observe(sink):
    assert settings(sink).sinks[0].actuates
    assert quieted(settings(sink), recipe(observe=True)).sinks == ()
    assert quieted(settings({**sink, "observe": True}), recipe()).sinks == ()
    assert len(quieted(settings(sink), recipe()).sinks) == 1


def findings(check, given, asked=None):
    return [(f.level, f.detail) for f in check(Station(given, asked or recipe()))]


def test_check_warns_of_a_station_that_drives_nothing():
    assert findings(check_observe.observing, settings(GATE)) == []
    ((level, detail),) = findings(check_observe.observing, settings(GATE, observe=True))
    assert level == "WARN"
    assert "nothing is driven" in detail
    assert "promote" in detail


def test_check_asks_the_incumbents_controller():
    plc = Controller()
    asked = {"host": "127.0.0.1", "port": plc.port, "trigger": 0, "outcome": 2}
    given = settings(incumbent=asked)
    try:
        assert findings(check_observe.incumbent, given)[0][0] == "OK"
    finally:
        plc.close()
    ((level, detail),) = findings(check_observe.incumbent, given)
    assert level == "WARN"
    assert f"127.0.0.1:{plc.port}: nobody answers" in detail


def test_check_reads_the_shadow(tmp_path):
    ((level, detail),) = findings(
        check_observe.shadow, settings(), recipe(shadow=tmp_path / "gone.toml")
    )
    assert level == "FAIL"
    assert "gone.toml" in detail


def test_registers_that_do_not_come_in_one_reading_are_refused():
    with pytest.raises(ValueError, match="registers 0 to 200 do not come in one reading"):
        settings(incumbent={"host": "plc", "trigger": 0, "outcome": 200})
