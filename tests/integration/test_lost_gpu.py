"""A GPU that vanishes while the line runs: its units are rejects, then another runtime serves."""

from pathlib import Path

import pytest

from edge_inspector import clock
from edge_inspector.client import Listener, Publisher
from edge_inspector.records import Outcome, Reason
from edge_inspector.wire.telemetry import VerdictNote
from tests.integration.conftest import BAD, GOOD, subscribed

WORKERS = {"backends": ["lost_gpu:Vanishing", "openvino"]}


@pytest.mark.fault
def test_a_station_goes_on_with_the_next_runtime_when_its_gpu_vanishes(open_bench, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    bench = open_bench(workers=WORKERS)
    with Listener(bench.verdicts) as listener, Publisher(bench.frames) as line:
        assert subscribed(bench, listener)
        line.send(GOOD, unit_id="before")
        (before,) = bench.collect(listener, 1)
        assert before.outcome is Outcome.PASS

        (bench.folder / "state" / "gone").touch()
        answers: list[VerdictNote] = []
        give_up = clock.now_ns() + 20_000_000_000
        while not answers or answers[-1].outcome is not Outcome.PASS:
            assert clock.now_ns() < give_up, bench.log()
            line.send(GOOD, unit_id=f"after-{len(answers)}")
            answers += bench.collect(listener, 1)
        line.send(BAD, unit_id="bad")
        (bad,) = bench.collect(listener, 1)

    first, *others = answers
    assert (first.outcome, first.reason) == (Outcome.UNINSPECTED, Reason.MODEL_FAULT)
    assert "the GPU: an illegal address" in first.detail
    assert {note.outcome for note in others[:-1]} == {Outcome.UNINSPECTED}
    assert bad.outcome is Outcome.FAIL
    assert "on lost_gpu:Vanishing" in bench.log()
    assert "on openvino" in bench.log()
