"""A running station whose golden sample is judged otherwise passes nothing, until it is right."""

import time

import cv2
import pytest

from edge_inspector import clock
from edge_inspector.cli.main import main
from edge_inspector.client import Listener, Publisher
from edge_inspector.errors import Breakage
from edge_inspector.records import Outcome, Reason
from tests.integration.conftest import BAD, GOOD, subscribed


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "known.png"
    cv2.imwrite(str(path), BAD)
    return path


def wait_for(bench, text, seconds=10.0):
    give_up = clock.now_ns() + int(seconds * 1e9)
    while text not in bench.log():
        assert clock.now_ns() < give_up, bench.log()[-2000:]
        time.sleep(0.02)


def test_a_change_halts_the_station_on_request_and_being_right_ends_it(open_bench, picture):
    sample = {"unit": "B1", "picture": str(picture), "expect": "fail"}
    bench = open_bench(recipe={"golden": [sample]})
    wait_for(bench, "1 golden samples as expected")
    with Listener(bench.verdicts) as listener, Publisher(bench.frames) as line:
        assert subscribed(bench, listener)

        def judged(unit):
            line.send(GOOD, unit_id=unit)
            (note,) = bench.collect(listener, 1)
            return note

        assert judged("u1").outcome is Outcome.PASS
        cv2.imwrite(str(picture), GOOD)
        assert main(["golden", "replay", str(bench.station.path)]) == 0
        wait_for(bench, "golden sample B1: expected fail, got pass")
        halted = judged("u2")
        assert (halted.outcome, halted.reason) == (Outcome.UNINSPECTED, Reason.MODEL_FAULT)
        assert halted.detail == "golden sample B1: expected fail, got pass"
        cv2.imwrite(str(picture), BAD)
        assert main(["golden", "replay", str(bench.station.path)]) == 0
        give_up = clock.now_ns() + 10_000_000_000
        while bench.log().count("1 golden samples as expected") < 2:
            assert clock.now_ns() < give_up
            time.sleep(0.02)
        assert judged("u3").outcome is Outcome.PASS


def test_a_station_starts_halted_where_a_verdict_changed(open_bench, picture):
    sample = {"unit": "B1", "picture": str(picture), "expect": "pass"}
    bench = open_bench(recipe={"golden": [sample]})
    with Listener(bench.verdicts) as listener, Publisher(bench.frames) as line:
        assert subscribed(bench, listener)
        line.send(GOOD, unit_id="u1")
        (note,) = bench.collect(listener, 1)
    assert note.outcome is Outcome.UNINSPECTED
    assert note.detail.startswith("golden sample B1: expected pass, got fail:unknown (engine")
    assert '"halted": true' in bench.log()


def test_a_station_whose_picture_is_missing_does_not_start(open_bench, tmp_path):
    sample = {"unit": "B1", "picture": str(tmp_path / "gone.png"), "expect": "fail"}
    with pytest.raises(Breakage, match=r"gone\.png: golden sample 'B1': No such file"):
        open_bench(recipe={"golden": [sample]})
