import json

import pytest
import structlog

from edge_inspector import logs


@pytest.fixture(autouse=True)
def _defaults_afterwards():
    yield
    structlog.reset_defaults()


def test_an_event_is_one_line_of_json(capsys):
    logs.configure("info", json=True)
    structlog.get_logger().info("unit", unit="a\nb", latency_us=12)
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    event = json.loads(line)
    assert (event["event"], event["unit"], event["latency_us"]) == ("unit", "a\nb", 12)
    assert event["level"] == "info"
    assert event["timestamp"].endswith("Z")


def test_an_exception_stays_on_its_line(capsys):
    logs.configure("info", json=True)
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("fault")
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "ValueError: broken" in json.loads(line)["exception"]


def test_what_is_below_the_level_is_not_written(capsys):
    logs.configure("warning", json=True)
    structlog.get_logger().info("unit")
    assert capsys.readouterr().err == ""


def test_stored_text_cannot_forge_a_line_or_a_colour_on_the_console(capsys):
    logs.configure("info", json=False)
    structlog.get_logger().info("unit", unit="a\nforged\x1b[2J\u2028")
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "\x1b[2J" not in line
    assert r"a\nforged\x1b[2J\u2028" in line


def test_without_a_terminal_it_is_json(capsys):
    logs.configure("info")
    structlog.get_logger().info("unit")
    assert json.loads(capsys.readouterr().err)["event"] == "unit"


def test_printable_text_is_left_alone():
    assert logs.printable("Prüfling 7 µm") == "Prüfling 7 µm"
