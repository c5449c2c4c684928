"""A rejected region gets its class from a classifier, when there is time, and no other outcome."""

import numpy as np
import pytest

from edge_inspector import clock
from edge_inspector.bundle import open_engine
from edge_inspector.engines import whole
from edge_inspector.errors import EngineRefused
from edge_inspector.inspector import open_inspector
from edge_inspector.naming import Naming, Told
from edge_inspector.recipe import Region, Scale
from edge_inspector.records import Frame, FrameHead, FrameKey, Outcome, Pose, Reason
from edge_inspector.scorers.classifier import ClassifierScorer
from tests.conftest import write_class_engine
from tests.integration.conftest import write_recipe

REGION = {"name": "whole", "rect": [0, 0, 32, 32], "engine": "tiny", "classifier": "kinds"}
HEAD = FrameHead(
    key=FrameKey("line", "e", 1),
    station="s",
    camera="main",
    recipe="tiny",
    arrived_ns=0,
    time_zero_ns=0,
    unit_id="u1",
)


def marked(*levels, height=32, width=32, size=8):
    """A frame of level 100 with a square mark of each level, the first at x 4, y 4."""
    pixels = np.full((height, width), 100, np.uint8)
    for number, level in enumerate(levels):
        x = 4 + 12 * number
        pixels[4 : 4 + size, x : x + size] = level
    return Frame(HEAD, pixels)


@pytest.fixture
def open_named(tiny_engine, tiny_classifier, tmp_path):
    """Opens a recipe with the tiny engine and the tiny classifier beside it, with changes."""

    def opened(classifier=tiny_classifier, **changes):
        engines = {"engines": {"tiny": str(tiny_engine), "kinds": str(classifier)}}
        changes = {"regions": [REGION], **engines, **changes}
        return open_inspector(write_recipe(tmp_path, tiny_engine, changes))

    return opened


@pytest.mark.parametrize(("level", "kind"), [(230, "bright"), (0, "dark")])
def test_what_the_engine_rejects_is_named_with_its_probability_and_place(level, kind, open_named):
    with open_named() as inspector:
        seen = inspector.look(marked(level))
    found = seen.inspection
    (region,) = found.regions
    assert (found.outcome, found.defect_class, found.degraded) == (Outcome.FAIL, kind, ())
    assert (region.defect_class, region.box) == (kind, (4, 4, 8, 8))
    assert region.probability == pytest.approx(1.0, abs=1e-3)
    assert f"engine: {kind} (probability 1) in 'whole' at x 4, y 4, 8 x 8 px" in found.detail
    assert found.stages_us["classify"] > 0
    (score,) = seen.scores
    assert score.class_map is not None
    assert np.unravel_index(score.class_map.argmax(), score.class_map.shape) == (1, 1)


def test_marks_of_both_kinds_at_once_are_of_no_known_kind(open_named):
    with open_named() as inspector:
        found = inspector.inspect(marked(230, 0))
    assert (found.outcome, found.defect_class) == (Outcome.FAIL, "unknown")
    assert found.regions[0].probability is not None


def test_a_faint_mark_that_the_classifier_takes_for_good_is_an_unknown_defect(open_named):
    with open_named() as inspector:
        found = inspector.inspect(marked(115, size=20))
    assert (found.outcome, found.defect_class) == (Outcome.FAIL, "unknown")


def test_a_region_that_passes_is_named_only_where_the_recipe_asks_always(open_named):
    small = marked(230, size=2)
    with open_named() as inspector:
        quiet = inspector.inspect(small)
    with open_named(regions=[{**REGION, "classify": "always"}]) as inspector:
        told, calm = inspector.inspect(small), inspector.inspect(marked())
    stages = ["classify" in found.stages_us for found in (quiet, told, calm)]
    assert stages == [False, True, True]
    for found in (quiet, told, calm):
        assert (found.outcome, found.defect_class, found.detail) == (Outcome.PASS, None, "")
    assert (quiet.regions[0].defect_class, quiet.regions[0].probability) == (None, None)
    assert told.regions[0].defect_class == "bright"
    assert told.regions[0].probability == pytest.approx(1.0, abs=1e-3)
    assert (calm.regions[0].defect_class, calm.regions[0].probability) == (None, None)


def test_only_the_cells_that_fail_are_named(open_named):
    cells = {**REGION, "rect": [0, 0, 64, 32], "grid": {"rows": 1, "columns": 2}}
    with open_named(regions=[cells]) as inspector:
        seen = inspector.look(marked(0, width=64))
    assert [region.defect_class for region in seen.inspection.regions] == ["dark", None]
    assert [score.class_map is None for score in seen.scores] == [False, True]


def test_without_time_a_reject_has_no_class_and_says_so(open_named):
    with open_named() as inspector:
        inspector.warm_up()
        bad = marked(230)
        found = inspector.look_whole(bad, clock.now_ns() + 1_000_000).inspection
        good = inspector.look_whole(marked(), clock.now_ns() + 1_000_000).inspection
        later = inspector.look_whole(bad, clock.now_ns() + 10_000_000_000).inspection
    assert (found.outcome, found.defect_class, found.degraded) == (
        Outcome.FAIL,
        None,
        ("classifier",),
    )
    assert found.regions[0].defect_class is None
    assert found.detail.startswith("engine: defect in 'whole' at x 4, y 4")
    assert (good.outcome, good.degraded) == (Outcome.PASS, ())
    assert (later.defect_class, later.degraded) == ("bright", ())


class Session:
    """Answers for one crop of two classes, after a while, and not always with numbers."""

    def __init__(self):
        self.wait_ns = 0
        self.probability = 1.0
        self.runs = 0

    def run(self, batch):
        until = clock.now_ns() + self.wait_ns
        while clock.now_ns() < until:
            pass
        self.runs += 1
        count = len(batch)
        return {
            "score": np.zeros(count, np.float32),
            "anomaly_map": np.zeros((count, 8, 8), np.uint8),
            "probabilities": np.full((count, 3), [0.0, self.probability, 0.0], np.float32),
            "novelty": np.zeros(count, np.float32),
        }

    def close(self):
        pass


@pytest.fixture
def session():
    return Session()


@pytest.fixture
def naming(session, tiny_classifier):
    engine = open_engine(tiny_classifier)
    challenge = whole(engine.bad)
    scorer = ClassifierScorer(session, engine.manifest)
    return Naming(scorer, challenge, {"whole": challenge.roi}, frozenset())


@pytest.fixture
def rejected(open_named):
    """What the inspector says of a bad frame."""
    with open_named() as inspector:
        return inspector.inspect(marked(230))


def told_in(naming, inspection, ms):
    told = Told()
    naming.tell(told, marked(230), Pose(), inspection, clock.now_ns() + ms * clock.NS_PER_MS)
    return told


def test_a_classifier_that_was_slow_once_is_tried_again(naming, session, rejected):
    session.wait_ns = 100 * clock.NS_PER_MS
    naming.warm_up(2)
    session.wait_ns = 0
    assert told_in(naming, rejected, 150).degraded == {"classifier"}
    assert session.runs == 2
    tries = next(n for n in range(200) if told_in(naming, rejected, 150).named)
    assert tries > 5
    assert any(told_in(naming, rejected, 150).named for _ in range(5))


def test_an_answer_that_is_no_number_takes_the_class_and_not_the_outcome(
    naming, session, rejected, open_named
):
    session.probability = float("nan")
    told = told_in(naming, rejected, 1000)
    assert (told.named, told.left_out, told.degraded) == ({}, {"whole"}, {"classifier fault"})


def test_a_square_classifier_looks_at_the_middle_and_its_map_is_drawn_there(open_named, tmp_path):
    square = write_class_engine(tmp_path / "square" / "1", square=True)
    wide = {**REGION, "rect": [0, 0, 64, 32]}
    bad = marked(width=64)
    bad.pixels[4:12, 40:48] = 0
    bad.pixels[4:12, 0:8] = 255  # beyond the middle square: the engine sees it, the classifier not
    with open_named(square, regions=[wide]) as inspector:
        seen = inspector.look(bad)
    assert seen.inspection.defect_class == "dark"
    (score,) = seen.scores
    assert score.class_map.shape == (8, 16)
    rows, columns = np.nonzero(score.class_map)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 2, 10, 11)


def test_a_classifier_alone_judges_and_names_what_it_rejects(open_named):
    with open_named() as inspector:
        recipe = inspector.recipe
    alone = Region(name="whole", rect=(0, 0, 32, 32), engine="kinds")
    scales = {"regions": {"whole": Scale(center=0.0, spread=0.1)}}
    calibration = recipe.calibration.model_copy(update=scales)
    changes = {"regions": (alone,), "calibration": calibration}
    with open_inspector(recipe.model_copy(update=changes)) as inspector:
        good, bad = inspector.inspect(marked()), inspector.inspect(marked(0))
    assert (good.outcome, good.defect_class, good.degraded) == (Outcome.PASS, None, ())
    assert (bad.outcome, bad.defect_class) == (Outcome.FAIL, "dark")
    assert bad.regions[0].probability == pytest.approx(1.0, abs=1e-3)


def test_without_a_threshold_nothing_is_named(open_named, tmp_path):
    with open_named() as inspector:
        recipe = inspector.recipe.model_copy(update={"calibration": None})
    with open_inspector(recipe) as inspector:
        found = inspector.inspect(marked(230))
    assert (found.outcome, found.reason) == (Outcome.UNINSPECTED, Reason.MODEL_FAULT)
    assert found.degraded == ()


@pytest.mark.parametrize(
    ("engine", "classifier", "words"),
    [
        ("tiny", "tiny", "classifier 'tiny' is an anomaly engine"),
        ("kinds", "kinds", "engine 'kinds' is a classifier, which names what it rejects itself"),
    ],
)
def test_engines_in_each_others_place_are_refused(engine, classifier, words, open_named):
    region = {**REGION, "engine": engine, "classifier": classifier}
    with pytest.raises(EngineRefused, match=words), open_named(regions=[region]):
        pass


def test_a_classifier_that_the_recipe_was_not_calibrated_with_is_refused(open_named):
    with open_named() as inspector:
        known = inspector.recipe.calibration.model_dump(mode="json", exclude_none=True)
    other = known | {"engines": {"tiny": known["engines"]["tiny"]}}
    with (
        pytest.raises(EngineRefused, match=r"'kinds' has digest.*calibrate"),
        open_named(calibration=other),
    ):
        pass
