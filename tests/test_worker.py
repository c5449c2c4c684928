"""The worker: one answer per job, whatever lies in the slot."""

import json
import os
import threading

import cv2
import numpy as np
import pytest
import xxhash

from edge_inspector import channel, clock, slots
from edge_inspector.channel import Done, Job, Stop
from edge_inspector.inspector import open_inspector
from edge_inspector.records import FrameHead, FrameKey, Outcome, Reason
from edge_inspector.sinks.archive import RejectArchive
from edge_inspector.slots import Slots
from edge_inspector.worker import inspect_slot, serve
from tests.integration.conftest import BAD, GOOD, write_recipe

MAX_PIXELS = 1_000_000
SLOT_BYTES = 64 * 1024
FAR_NS = 10_000_000_000


@pytest.fixture
def memory():
    """Four slots to write, as ingest has them, and the same to read, as a worker has them."""
    fd = slots.create(4, SLOT_BYTES)
    ours, theirs = Slots(fd, SLOT_BYTES, writable=True), Slots(fd, SLOT_BYTES, writable=False)
    yield ours, theirs
    ours.close()
    theirs.close()
    os.close(fd)


@pytest.fixture
def inspector(tiny_engine, tmp_path):
    with open_inspector(write_recipe(tmp_path, tiny_engine)) as opened:
        yield opened


def put(memory, slot, content, **head):
    """A job whose pixels or image file lie in the slot."""
    raw = np.frombuffer(content, np.uint8) if isinstance(content, bytes) else content.reshape(-1)
    memory[0].view(slot, len(raw))[:] = raw
    if isinstance(content, bytes):
        head = {"codec": "png"} | head
    else:
        head = {"height": content.shape[0], "width": content.shape[1], "channels": 1} | head
    values = {
        "key": FrameKey("line", "e", slot),
        "station": "s",
        "camera": "main",
        "recipe": "tiny",
        "arrived_ns": 0,
        "time_zero_ns": 0,
        "unit_id": f"u{slot}",
        "slot": slot,
        "size": len(raw),
        "digest": xxhash.xxh3_64_intdigest(raw.data),
    }
    return Job(FrameHead(**(values | head)), clock.now_ns() + FAR_NS)


def answer(inspector, memory, job):
    return inspect_slot(inspector, memory[1], job, MAX_PIXELS).inspection


def png(pixels):
    return bytes(cv2.imencode(".png", pixels)[1])


def test_pixels_of_a_slot_get_their_answer_and_stage_times(inspector, memory):
    found = answer(inspector, memory, put(memory, 0, GOOD))
    assert found.outcome is Outcome.PASS
    assert list(found.stages_us) == ["decode", "cut", "infer", "decide"]
    assert answer(inspector, memory, put(memory, 1, BAD)).outcome is Outcome.FAIL
    assert answer(inspector, memory, put(memory, 2, png(GOOD))).outcome is Outcome.PASS


def test_pixels_that_are_not_those_that_arrived_are_bad_input(inspector, memory):
    job = put(memory, 0, GOOD)
    memory[0].view(0, 1)[0] ^= 1
    found = answer(inspector, memory, job)
    assert (found.outcome, found.reason) == (Outcome.UNINSPECTED, Reason.BAD_INPUT)
    assert found.detail == "the pixels are not those that arrived"
    assert found.regions == ()


def test_a_late_job_is_a_timeout_and_not_worked_on(inspector, memory):
    job = put(memory, 0, GOOD)
    found = answer(inspector, memory, Job(job.head, clock.now_ns()))
    assert (found.outcome, found.reason) == (Outcome.UNINSPECTED, Reason.TIMEOUT)
    assert found.stages_us == {}


HOSTILE = {
    "a truncated file": png(GOOD)[:60],
    "a damaged middle": png(GOOD).replace(b"IDAT", b"JDAT"),
    "more pixels than allowed": png(np.zeros((1024, 1024), np.uint8)),
    "only a signature": b"\x89PNG\r\n\x1a\n",
    "nothing at all": b"",
    "zeros": bytes(4096),
    "a header that lies": png(GOOD)[:19] + b"\x10" + png(GOOD)[20:],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_image_is_bad_input_and_says_why(name, inspector, memory):
    found = answer(inspector, memory, put(memory, 0, HOSTILE[name]))
    assert (found.outcome, found.reason) == (Outcome.UNINSPECTED, Reason.BAD_INPUT)
    assert len(found.detail) > 10
    assert answer(inspector, memory, put(memory, 1, GOOD)).outcome is Outcome.PASS


@pytest.mark.parametrize("head", [{"height": 64}, {"pixel_format": "float64"}, {"size": 512}])
def test_a_head_that_does_not_fit_its_pixels_is_bad_input(head, inspector, memory):
    found = answer(inspector, memory, put(memory, 0, GOOD, **head))
    assert (found.outcome, found.reason) == (Outcome.UNINSPECTED, Reason.BAD_INPUT)


def test_jobs_are_answered_in_order_and_rejects_leave_a_picture(inspector, memory, tmp_path):
    core, socket = channel.pair()
    line = channel.Channel(socket)
    archive = RejectArchive(tmp_path / "rejects", 10)
    worker = threading.Thread(
        target=serve, args=(line, inspector, memory[1], archive, MAX_PIXELS), daemon=True
    )
    worker.start()
    jobs = [put(memory, 0, GOOD), put(memory, 1, BAD), put(memory, 2, b"no image")]
    for job in jobs:
        core.send(job)
    answers = [core.receive() for _ in jobs]
    core.send(Stop())
    worker.join(timeout=5)
    archive.close()
    core.close()
    line.close()
    assert not worker.is_alive()
    done = [answer for answer in answers if isinstance(answer, Done)]
    assert len(done) == len(answers)
    assert [one.head for one in done] == [job.head for job in jobs]
    assert [one.inspection.outcome.value for one in done] == ["pass", "fail", "uninspected"]
    (facts,) = (tmp_path / "rejects").glob("*.json")
    assert json.loads(facts.read_text())["head"]["unit_id"] == "u1"
    assert facts.with_suffix(".png").is_file()


def test_a_worker_whose_core_is_gone_leaves(inspector, memory):
    core, socket = channel.pair()
    line = channel.Channel(socket)
    core.send(put(memory, 0, GOOD))
    core.close()
    serve(line, inspector, memory[1], None, MAX_PIXELS)
    assert line.receive() is None
    line.close()
