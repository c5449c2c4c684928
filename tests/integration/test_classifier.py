"""A station with an anomaly engine and a classifier: what is rejected has a class, if there is time."""

from pathlib import Path

import cv2
import pytest

pytest.importorskip("pymodbus", reason="classes at the PLC are not tested: pymodbus is missing")

from edge_inspector.client import FrameSource, Listener
from edge_inspector.outbox.log import Log
from edge_inspector.records import Outcome
from edge_inspector.studies.harness import free_port
from edge_inspector.wire.codes import NO_CLASS
from tests.gateways.conftest import Plc
from tests.integration.conftest import BAD, GOOD, subscribed
from tests.integration.test_assured_faults import until

DARK = GOOD.copy()
DARK[4:12, 20:28] = 0
STRANGE = BAD.copy()
STRANGE[20:28, 4:12] = 0
CODES = ("dark", "bright", "unknown")


@pytest.fixture
def start(open_bench, tiny_engine, tiny_classifier):
    """Starts a station that tells verdicts as telemetry and to a PLC."""

    def started(**changes):
        region = {"name": "whole", "rect": [0, 0, 32, 32], "engine": "tiny", "classifier": "kinds"}
        recipe = {
            "engines": {"tiny": str(tiny_engine), "kinds": str(tiny_classifier)},
            "regions": [region],
            "defect_classes": list(CODES),
        }
        heard, registers = free_port(), free_port()
        sinks = [
            {"type": "zmq", "endpoint": f"tcp://127.0.0.1:{heard}"},
            {"type": "modbus", "host": "127.0.0.1", "port": registers, "mode": "latest"},
        ]
        bench = open_bench(source="assured", sinks=sinks, recipe=recipe, **changes)
        return bench, f"tcp://127.0.0.1:{heard}", registers

    return started


def judged(bench, endpoint, units, seen=lambda trigger_id: None):
    """What is heard of units offered one by one; `seen` is called after each."""
    notes = []
    with Listener(endpoint) as heard, FrameSource(bench.frames, name="line") as source:
        assert subscribed(bench, heard)
        until(lambda: source.link)
        for trigger_id, pixels in enumerate(units, start=1):
            source.offer(pixels, trigger_id=trigger_id)
            notes += bench.collect(heard, 1)
            seen(trigger_id)
    assert [note.trigger_id for note in notes] == list(range(1, len(units) + 1))
    return notes


def test_each_reject_has_its_class_at_the_listener_at_the_plc_in_the_log_and_in_its_picture(start):
    bench, endpoint, port = start()
    plc = Plc(port)
    numbers = []

    def read(trigger_id):
        plc.until(lambda block: block[5] << 16 | block[6] == trigger_id)
        numbers.append(plc.result().defect_class)

    notes = judged(bench, endpoint, [GOOD, DARK, BAD, STRANGE], read)
    plc.client.close()
    assert [note.defect_class for note in notes] == [None, "dark", "bright", "unknown"]
    assert numbers == [NO_CLASS, 1, 2, 3]
    good, dark, _, strange = notes
    assert (good.outcome, dark.outcome, strange.outcome) == (
        Outcome.PASS,
        Outcome.FAIL,
        Outcome.FAIL,
    )
    assert dark.rois[0].probability > 0.99
    assert dark.rois[0].box == (20, 4, 8, 8)
    assert "dark (probability 1) in 'whole'" in dark.detail
    assert dark.stages_us["classify"] > 0
    assert all(note.deadline_met and not note.degraded for note in notes)
    bench.station.stop()
    rows = Log(bench.folder / "state").read(1, 10)
    stored = [row.verdict.regions[0] for row in rows]
    assert [region.defect_class for region in stored] == [None, "dark", "bright", "unknown"]
    pictures = [cv2.imread(str(path)) for path in (bench.folder / "rejects").glob("*.png")]
    widths = [picture.shape[1] for picture in pictures if picture is not None]
    assert widths == [3 * 256 + 2 * 4] * 3


def test_a_classifier_that_takes_too_long_is_left_out_and_no_verdict_is_late(start, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    bench, endpoint, _ = start(workers={"backends": ["slow_backend:SlowToName"]})
    notes = judged(bench, endpoint, [BAD, GOOD, DARK])
    assert [note.outcome for note in notes] == [Outcome.FAIL, Outcome.PASS, Outcome.FAIL]
    assert all(note.deadline_met for note in notes)
    assert [note.degraded for note in notes] == [("classifier",), (), ("classifier",)]
    assert {note.defect_class for note in notes} == {None}
