"""Where the station observes every verdict is advisory, and nothing else is different."""

import msgspec
import pytest

from edge_inspector.docket import Docket
from edge_inspector.docket.words import Capacity, Commit
from edge_inspector.records import Baseline, Outcome
from tests.test_docket import BUDGET_MS, GOOD, Line, only


@pytest.fixture
def observing():
    line = Line()
    line.docket = Docket("s", ("main",), BUDGET_MS * 1000, 4, "bga", 3, observe=True)
    line.act(Capacity(1))
    return line


def test_every_verdict_is_advisory_and_says_what_it_said(observing):
    head, _ = observing.offer(0, trigger_id=1)
    verdict = only(Commit, observing.answer(head, at_ms=1)).verdict
    assert (verdict.outcome, verdict.advisory, verdict.trigger_id) == (Outcome.PASS, True, 1)


def test_without_observing_a_unit_with_an_id_is_not_advisory():
    line = Line()
    head, _ = line.offer(0, trigger_id=1)
    assert not only(Commit, line.answer(head, at_ms=1)).verdict.advisory


def test_the_shadows_of_a_units_frames_add_up_to_the_worst():
    line = Line(cameras=("top", "side"), free=2)
    top, _ = line.offer(0, trigger_id=1, camera="top")
    side, _ = line.offer(0, trigger_id=1, camera="side")
    said = Baseline(Outcome.FAIL, "dent", 4.0)
    line.answer(top, msgspec.structs.replace(GOOD, shadow=Baseline(Outcome.PASS, None, 9.0)))
    verdict = only(Commit, line.answer(side, msgspec.structs.replace(GOOD, shadow=said))).verdict
    assert verdict.shadow == said
    assert verdict.outcome is Outcome.PASS
