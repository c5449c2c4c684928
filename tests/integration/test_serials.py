"""A code on the product through a real station: its text is in telemetry, log and reject report."""

import json

import cv2
import numpy as np
import pytest

from edge_inspector.cli.main import main
from edge_inspector.client import Listener, Publisher
from edge_inspector.outbox.log import Log
from edge_inspector.records import Outcome, Reason
from tests.integration.conftest import BAD, GOOD, subscribed

zxingcpp = pytest.importorskip("zxingcpp", reason="codes are read with the package zxing-cpp")

REGIONS = [
    {"name": "whole", "rect": [0, 0, 32, 32], "engine": "tiny"},
    {"name": "id", "rect": [40, 0, 80, 80], "code": "data-matrix"},
]


def product(face, text=None):
    """The face that the engine judges, and beside it the code."""
    pixels = np.full((80, 120), 220, np.uint8)
    pixels[:32, :32] = face
    if text is not None:
        code = zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.DataMatrix)
        drawn = np.asarray(code.to_image(scale=4, add_quiet_zones=False))
        pixels[12 : 12 + drawn.shape[0], 52 : 52 + drawn.shape[1]] = drawn
    return pixels


def test_the_serial_goes_with_the_verdict_to_telemetry_log_and_report(open_bench, capsys):
    bench = open_bench(recipe={"regions": REGIONS})
    with Listener(bench.verdicts) as listener, Publisher(bench.frames) as line:
        assert subscribed(bench, listener)
        line.send(product(GOOD, "SN-0001"), unit_id="u1")
        line.send(product(BAD, "SN-0002"), unit_id="u2")
        line.send(product(GOOD), unit_id="u3")
        notes = {note.unit_id: note for note in bench.collect(listener, 3)}
    assert (notes["u1"].outcome, notes["u1"].serial) == (Outcome.PASS, "SN-0001")
    assert (notes["u2"].outcome, notes["u2"].serial) == (Outcome.FAIL, "SN-0002")
    assert (notes["u3"].outcome, notes["u3"].reason) == (Outcome.UNINSPECTED, Reason.BAD_INPUT)
    log = Log(bench.folder / "state")
    assert {row.verdict.serial for row in log.read(1, 10)} == {"SN-0001", "SN-0002", ""}
    log.close()
    bench.station.stop()
    assert main(["rejects", str(bench.station.path), "--unit", "SN-0002", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["rejects"]
    assert found["unit_id"] == "u2"
    assert cv2.imread(found["pictures"][0]) is not None
