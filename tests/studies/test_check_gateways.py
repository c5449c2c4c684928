"""What `check` says of a Modbus gateway, and which settings of one are refused."""

import socket

import pytest

pytest.importorskip("pymodbus", reason="the Modbus gateway is not tested: pymodbus is missing")

from edge_inspector.errors import DocumentError
from edge_inspector.settings import load_settings
from edge_inspector.studies.check_gateways import gateways
from edge_inspector.studies.findings import Station
from edge_inspector.studies.harness import free_port

BASE = """
station = "s1"
recipe = "recipe.toml"
[[sources]]
name = "line"
type = "{source}"
endpoint = "tcp://127.0.0.1:5574"
[[sinks]]
type = "modbus"
{keys}
"""


def settings(folder, keys, source="assured"):
    path = folder / "station.toml"
    path.write_text(BASE.format(keys=keys, source=source))
    return load_settings(path)


def told(folder, keys, source="assured"):
    return [
        (finding.level, finding.detail)
        for finding in gateways(Station(settings(folder, keys, source), None))  # type: ignore[arg-type]
    ]


def test_a_port_that_is_free_is_fine_and_one_that_is_taken_is_not(tmp_path):
    ((level, text),) = told(tmp_path, f"port = {free_port()}")
    assert level == "OK"
    assert "can be bound" in text
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ((level, text),) = told(tmp_path, f"port = {taken.getsockname()[1]}")
    assert level == "FAIL"
    assert "another port" in text


def test_frames_that_may_lack_a_trigger_id_are_a_warning(tmp_path):
    levels = [level for level, _ in told(tmp_path, f"port = {free_port()}", source="zmq-pull")]
    assert levels == ["OK", "WARN"]


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ('host = "0.0.0.0"', "every address"),
        ('host = "10.1.2.3"', "'allow'"),
        ('host = "10.1.2.3"\nallow = ["10.1.2.0/24"]', "'writer'"),
        ('host = "10.1.2.3"\nwriter = "10.1.2.4"', "'allow'"),
        ("port = 0", "port"),
        ('mode = "newest"', "mode"),
        ('allow = ["10.1.2.3/8"]', "allow"),
    ],
)
def test_a_gateway_that_would_be_open_or_cannot_be_is_refused(tmp_path, keys, wanted):
    with pytest.raises(DocumentError, match=wanted):
        settings(tmp_path, keys)
