"""A unit whose verdict is fixed: judged otherwise it lets nothing through, until it is right."""

import shutil
import threading

import cv2
import msgspec
import numpy as np
import pytest

from edge_inspector import channel
from edge_inspector.channel import Done, Recheck, Rechecked, Stop
from edge_inspector.errors import DocumentError
from edge_inspector.golden import Goldens, rejudge
from edge_inspector.inspector import open_inspector
from edge_inspector.recipe import load_recipe
from edge_inspector.records import Outcome, Reason
from edge_inspector.worker import serve
from tests.integration.conftest import BAD, GOOD, write_recipe
from tests.test_worker import MAX_PIXELS, memory, put

__all__ = ["memory"]
GOOD_UNIT = {"unit": "G1", "picture": "good.png", "expect": "pass"}
BAD_UNIT = {"unit": "B1", "picture": "bad.png", "expect": "fail", "defect_class": "unknown"}
SAID_WRONG = "golden sample B1: expected fail:unknown, got pass"


@pytest.fixture
def inspector(tiny_engine, tmp_path):
    """Of a recipe with one golden sample that passes and one that fails; pictures beside it."""
    cv2.imwrite(str(tmp_path / "good.png"), GOOD)
    cv2.imwrite(str(tmp_path / "bad.png"), BAD)
    path = write_recipe(tmp_path, tiny_engine, {"golden": [GOOD_UNIT, BAD_UNIT]})
    with open_inspector(path) as opened:
        yield opened


@pytest.fixture
def mended(tmp_path):
    """Call it to make the picture of B1 show the defect again."""
    shutil.copyfile(tmp_path / "bad.png", tmp_path / "kept.png")
    return lambda: shutil.copyfile(tmp_path / "kept.png", tmp_path / "bad.png")


def test_samples_as_expected_halt_nothing(inspector):
    goldens = Goldens(inspector)
    goldens.replay()
    assert goldens.halt == ""
    assert goldens.report() == Rechecked("2 golden samples as expected", False)


def test_a_changed_verdict_halts_and_says_which_and_how(inspector, tmp_path):
    cv2.imwrite(str(tmp_path / "bad.png"), GOOD)
    goldens = Goldens(inspector)
    goldens.replay()
    assert goldens.halt == SAID_WRONG
    assert goldens.report() == Rechecked(SAID_WRONG, True)


def test_a_good_unit_that_fails_now_halts_with_what_was_found(inspector, tmp_path):
    cv2.imwrite(str(tmp_path / "good.png"), BAD)
    goldens = Goldens(inspector)
    goldens.replay()
    assert goldens.halt.startswith("golden sample G1: expected pass, got fail:unknown (engine: ")


def test_another_class_than_the_fixed_one_is_a_change(inspector):
    good, bad = inspector.recipe.golden
    assert rejudge(inspector, bad).as_expected
    other = bad.model_copy(update={"defect_class": "missing"})
    found = rejudge(inspector, other)
    assert not found.as_expected
    assert found.sentence.startswith("golden sample B1: expected fail:missing, got fail:unknown")
    assert rejudge(inspector, bad.model_copy(update={"defect_class": None})).as_expected
    assert rejudge(inspector, good).as_expected


@pytest.mark.parametrize("content", [None, b"", b"no picture at all"])
def test_a_missing_or_damaged_picture_is_refused_with_its_name(content, inspector, tmp_path):
    (tmp_path / "bad.png").unlink()
    if content is not None:
        (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(DocumentError, match=r"bad\.png: golden sample 'B1': .*put the picture"):
        Goldens(inspector).replay()


class Worker:
    """The worker's loop in a thread, with core's end of its line."""

    def __init__(self, inspector, memory, goldens):
        self.memory = memory
        self.core, socket = channel.pair()
        self.line = channel.Channel(socket)
        given = (self.line, inspector, memory[1], None, MAX_PIXELS, goldens)
        self.thread = threading.Thread(target=serve, args=given, daemon=True)
        self.thread.start()

    def judge(self, pixels, slot=0):
        self.core.send(put(self.memory, slot, pixels))
        return self.next(Done).inspection

    def recheck(self):
        self.core.send(Recheck())
        return self.next(Rechecked)

    def next(self, kind):
        while (message := self.core.receive()) is not None:
            if isinstance(message, kind):
                return message
        raise AssertionError(f"the line closed before a {kind.__name__}")

    def close(self):
        self.core.send(Stop())
        self.thread.join(timeout=5)
        self.core.close()
        self.line.close()
        assert not self.thread.is_alive()


@pytest.fixture
def worker(inspector, memory):
    started = []

    def start():
        goldens = Goldens(inspector)
        goldens.replay()
        started.append(Worker(inspector, memory, goldens))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_while_halted_every_unit_is_uninspected_with_the_reason(worker, tmp_path):
    cv2.imwrite(str(tmp_path / "bad.png"), GOOD)
    running = worker()
    for pixels in (GOOD, BAD, GOOD):
        found = running.judge(pixels)
        assert (found.outcome, found.reason) == (Outcome.UNINSPECTED, Reason.MODEL_FAULT)
        assert found.detail == SAID_WRONG


def test_on_request_a_change_halts_and_being_right_again_ends_it(worker, mended, tmp_path):
    running = worker()
    assert running.judge(GOOD).outcome is Outcome.PASS
    cv2.imwrite(str(tmp_path / "bad.png"), GOOD)
    assert running.judge(GOOD).outcome is Outcome.PASS, "nobody asked yet"
    assert running.recheck() == Rechecked(SAID_WRONG, True)
    assert running.judge(GOOD).outcome is Outcome.UNINSPECTED
    mended()
    assert running.recheck() == Rechecked("2 golden samples as expected", False)
    assert running.judge(GOOD).outcome is Outcome.PASS


def test_a_picture_that_is_gone_on_request_halts_and_does_not_end_the_worker(worker, tmp_path):
    running = worker()
    (tmp_path / "bad.png").unlink()
    assert running.recheck().halted
    assert "golden sample 'B1': No such file" in running.judge(GOOD).detail


def test_jobs_that_wait_go_before_the_samples_that_are_left(inspector, memory):
    goldens = Goldens(inspector)
    goldens.replay()
    core, socket = channel.pair()
    line = channel.Channel(socket)
    core.send(Recheck())
    for slot in range(3):
        core.send(put(memory, slot, GOOD))
    core.send(Stop())
    serve(line, inspector, memory[1], None, MAX_PIXELS, goldens)
    line.close()
    said = []
    while (message := core.receive()) is not None:
        said.append(type(message))
    core.close()
    assert said.count(Done) == 3
    assert Rechecked not in said, "core stopped before there was time"


def test_the_recipe_takes_pass_fail_and_uninspected_only(tmp_path, tiny_engine):
    path = write_recipe(tmp_path, tiny_engine, {"golden": [{**GOOD_UNIT, "expect": "good"}]})
    with pytest.raises(DocumentError, match=r"golden\.0\.expect"):
        load_recipe(path)


def test_a_sample_of_uint16_pixels_is_judged_as_the_line_judges_it(inspector, tmp_path):
    deep = np.round(GOOD.astype(np.float64) * 65535 / 255).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "good.png"), deep)
    found = rejudge(inspector, inspector.recipe.golden[0]).inspection
    assert msgspec.structs.replace(found, stages_us={}).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("samples", "problem"),
    [
        ([{**GOOD_UNIT, "camera": "mian"}], "no region has camera 'mian'; did you mean 'main'"),
        ([GOOD_UNIT, GOOD_UNIT], "two golden samples are named 'G1'"),
    ],
)
def test_a_sample_that_makes_no_sense_is_refused(samples, problem, tmp_path, tiny_engine):
    with pytest.raises(DocumentError, match=problem):
        load_recipe(write_recipe(tmp_path, tiny_engine, {"golden": samples}))
