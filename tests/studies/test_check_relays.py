"""What `check` says of relays: reached or not, and whether verdicts are in time for the gate."""

import socket

import pytest

from edge_inspector.settings import DiscreteSink
from edge_inspector.studies.check_relays import relays
from edge_inspector.studies.harness import free_port
from tests.studies.test_check import levels, station

pytest.importorskip("pymodbus", reason="the discrete sink is not tested: pymodbus is missing")


def relay(port, delay_ms=1500.0):
    values = {"type": "discrete", "host": "127.0.0.1", "port": port}
    return DiscreteSink.model_validate({**values, "delay_ms": delay_ms, "window_ms": 50})


def test_a_coupler_that_answers_and_a_gate_behind_the_budget_are_fine():
    with socket.create_server(("127.0.0.1", 0)) as coupler:
        sink = relay(coupler.getsockname()[1])
        assert levels(relays(station(sinks=(sink,)))) == ["OK", "OK"]


def test_one_that_does_not_answer_is_told_with_what_follows():
    unreached, _ = relays(station(sinks=(relay(free_port()),)))
    assert unreached.level == "WARN"
    assert "every part is rejected until it does" in unreached.detail


def test_a_gate_before_the_end_of_the_budget_is_told_with_both_numbers():
    _, late = relays(station(sinks=(relay(free_port(), delay_ms=400.0),)))
    assert late.level == "WARN"
    assert "400 ms behind" in late.detail
    assert "budget is 1000 ms" in late.detail


def test_a_station_without_relays_is_not_asked():
    assert levels(relays(station())) == []
