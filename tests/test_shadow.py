"""A second recipe judges the same frames, and costs no verdict its deadline."""

import msgspec
import pytest

from edge_inspector import clock
from edge_inspector.errors import DocumentError
from edge_inspector.inspector import Inspector, open_inspector
from edge_inspector.recipe import load_recipe
from edge_inspector.records import Outcome
from edge_inspector.studies.recipe_text import write_recipe as write_whole
from tests.integration.conftest import write_recipe
from tests.test_inspector import frame, good, marked

BAD = marked(slice(4, 12), slice(20, 28))


@pytest.fixture
def inspector(tiny_engine, tmp_path):
    (tmp_path / "old").mkdir()
    blind = write_recipe(tmp_path / "old", tiny_engine)
    text = blind.read_text(encoding="utf-8").replace("threshold = 3.0", "threshold = 9000.0")
    blind.write_text(text, encoding="utf-8")
    with open_inspector(write_recipe(tmp_path, tiny_engine, {"shadow": "old/recipe.toml"})) as made:
        yield made


def test_the_shadow_says_what_its_own_threshold_says(inspector):
    seen = inspector.watch(frame(BAD), inspector.inspect(frame(BAD)))
    assert seen.outcome is Outcome.FAIL
    assert seen.shadow.outcome is Outcome.PASS
    assert seen.shadow.score == pytest.approx(seen.anomaly_score)
    assert seen.stages_us["shadow"] > 0


def test_it_is_left_out_when_the_deadline_is_near(inspector):
    inspection = inspector.inspect(frame(good()))
    spent = msgspec.structs.replace(inspection, stages_us={"infer": 20_000})
    now_ns = clock.now_ns()
    assert inspector.watch(frame(good()), spent, now_ns + 70_000_000).shadow is None
    far_ns = clock.now_ns() + 10_000_000_000
    assert inspector.watch(frame(good()), spent, far_ns).shadow is not None


def test_a_frame_that_it_cannot_judge_is_uninspected_there_alone(inspector):
    small = good(20, 20)
    seen = inspector.watch(frame(small), inspector.inspect(frame(small)))
    assert seen.shadow.outcome is Outcome.UNINSPECTED


def test_a_shadow_that_is_not_there_is_told_when_the_recipe_is_opened(tiny_engine, tmp_path):
    path = write_recipe(tmp_path, tiny_engine, {"shadow": "gone.toml"})
    with pytest.raises(DocumentError, match=r"gone\.toml"), open_inspector(path):
        pass


def test_a_recipe_that_is_its_own_shadow_opens_once_more_and_no_further(tiny_engine, tmp_path):
    with open_inspector(write_recipe(tmp_path, tiny_engine, {"shadow": "recipe.toml"})) as made:
        assert made.shadow is not None
        inner = made.shadow.inspector
        assert isinstance(inner, Inspector)
        assert inner.shadow is None


def test_the_shadows_path_starts_at_the_recipes_folder_also_when_it_is_written(
    tiny_engine, tmp_path
):
    recipe = load_recipe(write_recipe(tmp_path, tiny_engine, {"shadow": "old/recipe.toml"}))
    assert recipe.shadow == tmp_path / "old/recipe.toml"
    (tmp_path / "new").mkdir()
    write_whole(recipe, tmp_path / "new" / "recipe.toml")
    assert 'shadow = "../old/recipe.toml"' in (tmp_path / "new/recipe.toml").read_text("utf-8")
