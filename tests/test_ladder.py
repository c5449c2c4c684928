"""With less time a unit is judged by a lower step, by its own calibration, or by nobody."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tomlkit

from edge_inspector import clock
from edge_inspector.bundle import open_engine
from edge_inspector.errors import DocumentError
from edge_inspector.golden import Goldens
from edge_inspector.inspector import open_inspector
from edge_inspector.ladder import AFTER_NS, Ladder, Takes, load_steps
from edge_inspector.recipe import load_recipe
from edge_inspector.records import Frame, FrameHead, FrameKey, Outcome, Reason, Verdict
from edge_inspector.rules import rules_digest
from edge_inspector.studies.observed import unit_score
from edge_inspector.wiring import evidence
from tests.conftest import write_engine
from tests.integration.conftest import write_recipe
from tests.integration.slow_backend import LARGE_S

MS = clock.NS_PER_MS
RUNTIME = "tests.integration.slow_backend:SlowWhenLarge"
REGION = {"name": "whole", "rect": [0, 0, 32, 32]}
RULES = Path(__file__).resolve().parents[1] / "edge_inspector" / "rules" / "bga_simulated.toml"
GOOD = np.full((32, 32), 100, np.uint8)
BAD = GOOD.copy()
BAD[4:12, 4:12] = 230


def frame(pixels, budget_ms=1000):
    """A frame that has just been taken, and when its verdict is due."""
    now = clock.now_ns()
    head = FrameHead(
        key=FrameKey("line", "e", 1),
        station="s",
        camera="main",
        recipe="tiny",
        arrived_ns=now,
        time_zero_ns=now,
        unit_id="u1",
    )
    return Frame(head, pixels), now + budget_ms * MS


@pytest.fixture
def whole(tiny_engine, tmp_path):
    """A recipe of two steps: the whole one, which is slow, and `quick`; `changed` alters the second."""
    small = write_engine(tmp_path / "small" / "1", side=16)

    def written(**changed):
        folder = tmp_path / "steps"
        folder.mkdir(exist_ok=True)
        path = write_recipe(folder, small, {"engines": {"tiny": str(small)}})
        document = tomlkit.parse(path.read_text()).unwrap() | changed
        document = {name: value for name, value in document.items() if value is not None}
        (folder / "quick.toml").write_text(tomlkit.dumps(document))
        ladder = [{"name": "quick", "recipe": "steps/quick.toml"}]
        return write_recipe(tmp_path, tiny_engine, {"ladder": ladder})

    return written


@pytest.fixture
def inspector(whole):
    with open_inspector(whole(), backends=[RUNTIME]) as opened:
        opened.look(*frame(GOOD))
        yield opened


def test_with_time_the_whole_recipe_judges(inspector):
    found = inspector.look(*frame(BAD)).inspection
    assert (found.outcome, found.degraded) == (Outcome.FAIL, ())


def test_with_less_time_the_next_step_judges_and_the_verdict_says_so(inspector, tiny_engine):
    bad = inspector.look(*frame(BAD, budget_ms=50)).inspection
    good = inspector.look(*frame(GOOD, budget_ms=50)).inspection
    assert (bad.outcome, good.outcome) == (Outcome.FAIL, Outcome.PASS)
    assert bad.degraded == good.degraded == ("all but quick",)
    assert bad.engine != open_engine(tiny_engine).digest[:16]
    assert bad.stages_us["infer"] < LARGE_S * 1e6


def test_what_cannot_be_in_time_is_not_begun(tiny_engine, tmp_path):
    with open_inspector(write_recipe(tmp_path, tiny_engine), backends=[RUNTIME]) as inspector:
        inspector.look(*frame(GOOD))
        seen = inspector.look(*frame(GOOD, budget_ms=20))
        again = inspector.look(*frame(GOOD))
    found = seen.inspection
    assert (found.outcome, found.reason) == (Outcome.UNINSPECTED, Reason.TIMEOUT)
    assert "ms were left; it takes" in found.detail
    assert "infer" not in found.stages_us
    assert again.inspection.outcome is Outcome.PASS


def test_scores_of_a_step_are_not_compared_with_those_of_the_recipe(inspector):
    calibration = inspector.recipe.calibration
    for budget_ms, comparable in ((1000, True), (50, False)):
        found = inspector.look(*frame(BAD, budget_ms)).inspection
        verdict = Verdict(
            unit_key="u:s/1",
            station="s",
            frames=(),
            recipe="tiny",
            outcome=found.outcome,
            regions=found.regions,
            degraded=found.degraded,
            anomaly_score=found.anomaly_score,
        )
        assert verdict.anomaly_score is not None
        assert (unit_score(verdict, calibration) is not None) == comparable


def test_without_a_deadline_nothing_is_left_out(inspector):
    for _ in range(2):
        assert inspector.inspect(frame(GOOD)[0]).degraded == ()


def test_one_stall_puts_no_step_out_of_reach(tiny_engine, tmp_path):
    with open_inspector(write_recipe(tmp_path, tiny_engine), backends=[RUNTIME]) as inspector:
        outcomes = [inspector.look(*frame(GOOD, budget_ms=40)).inspection.outcome for _ in range(4)]
    assert outcomes == [Outcome.PASS] * 4  # each took longer than it had, and the next was tried


def test_what_is_left_out_is_tried_again_after_a_while():
    takes = Takes()
    takes.took(50 * MS)
    refused = 0
    while not takes.fits(60 * MS):
        refused += 1
    assert 10 < refused < 30
    assert takes.fits(AFTER_NS + 200 * MS, count=2)


def test_a_ladder_is_part_of_the_evidence(whole, tmp_path):
    path = whole()
    before = evidence(path, load_recipe(path))
    step = tmp_path / "steps" / "quick.toml"
    step.write_text(step.read_text().replace("threshold = 3.0", "threshold = 3.5"))
    assert evidence(path, load_recipe(path)) != before


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"calibration": None}, "it has no threshold; run 'edge-inspector calibrate'"),
        ({"product": "other"}, "it is of product 'other'"),
        (
            {"regions": [{**REGION, "engine": "tiny", "rect": [0, 0, 32, 16]}]},
            "it does not look at the same places: 'whole' differs",
        ),
        (
            {"regions": [{**REGION, "engine": "tiny", "ignore": [[[0, 0], [9, 0], [9, 9]]]}]},
            "it does not look at the same places: 'whole' differs",
        ),
        ({"ladder": [{"name": "own", "recipe": "own.toml"}]}, "it has a ladder of its own"),
        (
            {"alignment": {"main": {"method": "outline"}}},
            "its alignment is another one; give it the same [alignment]",
        ),
    ],
)
def test_a_step_that_could_pass_on_less_is_refused(changed, problem, whole):
    path = whole(**changed)
    with pytest.raises(DocumentError) as caught:
        load_steps(load_recipe(path))
    assert "quick.toml: cannot be step 'quick' of the ladder of 'tiny': " in str(caught.value)
    assert problem in str(caught.value)
    with pytest.raises(DocumentError), open_inspector(path):
        pass


def test_a_step_must_gate_the_frames_that_the_recipe_gates(whole):
    path = whole()
    gate = {"main": {"limits": {"mean": [50.0, 150.0]}}}
    document = tomlkit.parse(path.read_text()).unwrap() | {"quality": gate}
    path.write_text(tomlkit.dumps(document))
    with pytest.raises(DocumentError, match="takes frames of camera 'main' as they come"):
        load_steps(load_recipe(path))


def test_rules_are_a_step_only_with_their_own_calibration_and_challenge(whole, tmp_path):
    rules = {"regions": [{**REGION, "rules": "bga"}], "rules": {"bga": str(RULES)}}
    with pytest.raises(DocumentError, match="'bga' are not part of its calibration"):
        load_steps(load_recipe(whole(**rules)))
    document = tomlkit.parse((tmp_path / "steps" / "recipe.toml").read_text()).unwrap()
    calibrated = rules | {
        "calibration": document["calibration"] | {"rules": {"bga": rules_digest(RULES)}}
    }
    with pytest.raises(DocumentError, match="add a golden sample that passes and one that fails"):
        load_steps(load_recipe(whole(**calibrated)))
    golden = [
        {"unit": unit, "picture": f"{unit}.png", "expect": expect}
        for unit, expect in (("G1", "pass"), ("B1", "fail"))
    ]
    assert list(load_steps(load_recipe(whole(**calibrated, golden=golden)))) == ["quick"]


def test_two_steps_of_one_name_are_refused(whole):
    path = whole()
    document = tomlkit.parse(path.read_text()).unwrap()
    document["ladder"] *= 2
    path.write_text(tomlkit.dumps(document))
    with pytest.raises(DocumentError, match="another step has this name"):
        load_steps(load_recipe(path))


def test_the_golden_samples_of_a_step_halt_as_those_of_the_recipe_do(whole, tmp_path):
    samples = [{"unit": "B1", "picture": "bad.png", "expect": "fail"}]
    path = whole(golden=samples)
    cv2.imwrite(str(tmp_path / "steps" / "bad.png"), BAD)
    with open_inspector(path) as inspector:
        goldens = Goldens(inspector)
        goldens.replay()
        assert (goldens.count, goldens.halt) == (1, "")
        cv2.imwrite(str(tmp_path / "steps" / "bad.png"), GOOD)
        goldens.replay()
    assert goldens.halt == "golden sample B1: expected fail, got pass"


def test_a_ladder_without_steps_is_the_whole_recipe():
    assert Ladder().inspectors == {}


def test_rules_that_only_watch_are_left_out_where_they_would_cost_the_deadline(
    tiny_engine, tmp_path
):
    watched = {"rules": {"bga": str(RULES)}, "baseline": "bga"}
    with open_inspector(write_recipe(tmp_path, tiny_engine, watched)) as inspector:
        shown, due_ns = frame(GOOD)
        found = inspector.look(shown, due_ns).inspection
        early = inspector.watch(shown, found, due_ns)
        late = inspector.watch(shown, found, clock.now_ns() + AFTER_NS)
    assert early.baseline is not None
    assert "baseline" in early.stages_us
    assert late == found
