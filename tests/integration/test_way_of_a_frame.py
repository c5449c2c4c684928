"""A published frame becomes one committed, received verdict, whatever comes beside it."""

import json
import struct
import zlib

import cv2
import numpy as np
import pytest
import zmq

from edge_inspector.client import Listener, Publisher
from edge_inspector.outbox.log import Log
from edge_inspector.records import Outcome, Reason
from tests.integration.conftest import BAD, GOOD, subscribed


def bomb() -> bytes:
    """A PNG of 256 megapixels in some 250 KB of zeros, with all its checksums right."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    side = 16384
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + side)
    rows = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def test_a_good_unit_passes_and_a_bad_one_fails_with_its_place(bench, listener, publisher):
    publisher.send(GOOD, unit_id="good")
    publisher.send(BAD, unit_id="bad")
    notes = {note.unit_id: note for note in bench.collect(listener, 2)}
    assert notes["good"].outcome is Outcome.PASS
    assert notes["bad"].outcome is Outcome.FAIL
    assert notes["bad"].defect_class == "unknown"
    x, y, width, height = notes["bad"].rois[0].box
    assert abs(x - 20) <= 4
    assert abs(y - 4) <= 4
    assert 4 <= width <= 12
    assert 4 <= height <= 12
    assert notes["bad"].deadline_met
    assert {"arrival", "decode", "cut", "infer", "decide"} <= notes["bad"].stages_us.keys()
    assert notes["good"].recipe_version == 3


def test_a_verdict_is_in_the_log_when_it_is_heard(bench, listener, publisher):
    for number in range(50):
        publisher.send(GOOD, unit_id=f"u{number}")
        (note,) = bench.collect(listener, 1)
        (row,) = Log(bench.folder / "state").read(note.vseq, 1)
        assert row.verdict.unit_id == f"u{number}"


def test_the_log_is_gap_free_and_its_chain_holds_after_a_clean_stop(bench, listener, publisher):
    for number in range(200):
        publisher.send(BAD if number % 7 == 0 else GOOD, unit_id=f"u{number}")
    notes = bench.collect(listener, 200)
    assert bench.station.stop() == 0
    assert sorted(note.vseq for note in notes) == list(range(1, 201))
    verified = Log(bench.folder / "state").verify()
    assert (verified.rows, verified.problems) == (200, ())


def test_a_unit_offered_again_keeps_its_verdict_and_other_pixels_change_nothing(
    bench, listener, publisher
):
    publisher.send(GOOD, unit_id="a", seq=1)
    assert bench.collect(listener, 1)[0].outcome is Outcome.PASS
    publisher.send(GOOD, unit_id="a", seq=1)
    publisher.send(BAD, unit_id="a", seq=2)
    publisher.send(GOOD, unit_id="b", seq=3)
    notes = bench.collect(listener, 1)
    assert [note.unit_id for note in notes if note.fresh] == ["b"]
    assert Log(bench.folder / "state").head() == 2


def test_a_frame_without_ids_is_advisory(bench, listener):
    with zmq.Context() as context, context.socket(zmq.PUSH) as line:
        line.connect(bench.frames)
        line.send_json({"dtype": "uint8", "shape": [32, 32]}, zmq.SNDMORE)
        line.send(GOOD.tobytes())
        (note,) = bench.collect(listener, 1)
    assert (note.outcome, note.advisory) == (Outcome.PASS, True)


HOSTILE = {
    "no metadata at all": [b"x"],
    "metadata that is not JSON": [b"{nonsense", GOOD.tobytes()],
    "an unknown dtype": [b'{"dtype":"float64","shape":[32,32]}', bytes(8192)],
    "a shape that lies": [b'{"dtype":"uint8","shape":[64,64]}', GOOD.tobytes()],
    "a negative shape": [b'{"dtype":"uint8","shape":[-1,32]}', GOOD.tobytes()],
    "five parts": [b"t", b'{"dtype":"uint8","shape":[32,32]}', GOOD.tobytes(), b"", b""],
    "an unknown camera": [
        b'{"dtype":"uint8","shape":[32,32],"camera":"nobody"}',
        GOOD.tobytes(),
    ],
    "a truncated JPEG": [b"{}", bytes(cv2.imencode(".jpg", GOOD)[1])[:200]],
    "a picture of 256 megapixels": [b"{}", bomb()],
    "a GIF": [b"{}", b"GIF89a" + bytes(100)],
    "a frame larger than a slot": [
        b'{"dtype":"uint8","shape":[1024,1100]}',
        bytes(1024 * 1100),
    ],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_bad_input_is_answered_and_the_next_unit_passes_untouched(name, bench, listener):
    with zmq.Context() as context, context.socket(zmq.PUSH) as line:
        line.connect(bench.frames)
        line.send_multipart(HOSTILE[name])
        too_large = name == "a frame larger than a slot"
        notes = bench.collect(listener, 1, seconds=1.0 if too_large else 10.0)
    with Publisher(bench.frames) as publisher:
        publisher.send(GOOD, unit_id="next")
        (after,) = bench.collect(listener, 1)
    for note in notes:
        assert (note.outcome, note.reason) == (Outcome.UNINSPECTED, Reason.BAD_INPUT)
        assert len(note.detail) > 10
    assert notes or too_large
    assert (after.unit_id, after.outcome) == ("next", Outcome.PASS)


def test_a_region_outside_the_frame_is_bad_input_not_a_guess(bench, listener, publisher):
    publisher.send(GOOD[:20], unit_id="small")
    (note,) = bench.collect(listener, 1)
    assert (note.outcome, note.reason) == (Outcome.UNINSPECTED, Reason.BAD_INPUT)
    assert "whole" in note.detail


def test_two_cameras_make_one_unit(open_bench):
    sides = [
        {"name": camera, "rect": [0, 0, 32, 32], "engine": "tiny", "camera": camera}
        for camera in ("top", "side")
    ]
    bench = open_bench(recipe={"regions": sides, "latency_budget_ms": 300.0})
    with Listener(bench.verdicts) as heard, Publisher(bench.frames) as line:
        assert subscribed(bench, heard)
        line.send(GOOD, unit_id="1", camera="top")
        line.send(BAD, unit_id="1", camera="side")
        line.send(GOOD, unit_id="2", camera="top")
        line.send(GOOD, unit_id="2", camera="side")
        line.send(GOOD, unit_id="3", camera="top")
        notes = {note.unit_id: note for note in bench.collect(heard, 3)}
    assert notes["1"].outcome is Outcome.FAIL
    assert [roi.name for roi in notes["1"].rois] == ["top", "side"]
    assert notes["2"].outcome is Outcome.PASS
    assert (notes["3"].outcome, notes["3"].reason) == (Outcome.UNINSPECTED, Reason.NO_IMAGE)
    assert "side" in notes["3"].detail


def test_a_request_publisher_waits_for_the_journal_or_for_the_verdict(open_bench):
    for reply, words in (("ok", "OK"), ("verdict", '"outcome":"pass"')):
        bench = open_bench(source="zmq-rep", reply=reply)
        with Publisher(bench.frames, "req") as line:
            answer = line.send(GOOD, unit_id="a")
        assert words in (answer or "").replace(" ", "")


def test_a_reject_leaves_its_picture(bench, listener, publisher):
    publisher.send(BAD, unit_id="bad")
    bench.collect(listener, 1)
    bench.station.stop()
    (facts,) = (bench.folder / "rejects").glob("*.json")
    assert json.loads(facts.read_text())["inspection"]["outcome"] == "fail"
    assert np.any(cv2.imread(str(facts.with_suffix(".png"))))


def test_overload_is_shed_openly_and_every_unit_is_answered(open_bench):
    bench = open_bench(recipe={"max_queue": 1}, frames={"max_bytes": 1024 * 1024, "slots": 2})
    with Listener(bench.verdicts) as heard, Publisher(bench.frames) as line:
        assert subscribed(bench, heard)
        for number in range(600):
            line.send(GOOD, unit_id=str(number))
        notes = bench.collect(heard, 600)
    told = {note.unit_id: note for note in notes}
    assert len(told) == 600
    assert {note.reason for note in notes} <= {None, Reason.SHED}
    assert any(note.outcome is Outcome.PASS for note in notes)
