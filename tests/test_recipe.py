from pathlib import Path

import pytest

from edge_inspector.errors import DocumentError
from edge_inspector.recipe import Recipe, load_recipe
from edge_inspector.recipe_alignment import Template

RECIPE = """\
product = "bga"
version = 3
latency_budget_ms = 20.5
[engines]
balls = "../engines/bga/1"
[rules]
old = "rules.toml"
[alignment.main]
method = "template"
image = "patch.png"
position = [10.0, 12.5]
[[regions]]
name = "left"
rect = [0, 0, 64, 64]
engine = "balls"
grid = {rows = 2, columns = 3}
[[regions]]
name = "right"
rect = [64, 0, 64, 64]
camera = "side"
rules = "old"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def refusal(folder: Path, text: str) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        load_recipe(write(folder, text))
    return caught.value


def test_paths_start_at_the_recipe(tmp_path):
    recipe = load_recipe(write(tmp_path, RECIPE))
    assert recipe.engines["balls"] == tmp_path / "../engines/bga/1"
    assert recipe.rules["old"] == tmp_path / "rules.toml"
    alignment = recipe.alignment["main"]
    assert isinstance(alignment, Template)
    assert alignment.image == tmp_path / "patch.png"


def test_a_unit_consists_of_the_cameras_of_its_regions(tmp_path):
    recipe = load_recipe(write(tmp_path, RECIPE))
    assert recipe.cameras == ("main", "side")
    assert recipe.budget_us == 20_500


def test_a_region_is_judged_or_read(tmp_path):
    error = refusal(tmp_path, RECIPE.replace('rules = "old"', ""))
    assert error.line == 17
    assert "region 'right' needs 'engine', 'rules' or both, or else 'code'" in error.problem
    code = 'rules = "old"\ncode = "data-matrix"'
    error = refusal(tmp_path, RECIPE.replace('rules = "old"', code))
    assert "region 'right' needs" in error.problem


def test_both_kinds_of_evidence_are_needed_to_ask_for_both(tmp_path):
    paired = 'rules = "old"\nengine = "balls"\nfuse = "both"'
    assert load_recipe(write(tmp_path, RECIPE.replace('rules = "old"', paired))).regions[1].engine
    error = refusal(tmp_path, RECIPE.replace('rules = "old"', 'rules = "old"\nfuse = "both"'))
    assert "fuse = \"both\" needs 'engine' and 'rules'" in error.problem


def test_a_classifier_names_what_an_engine_rejects(tmp_path):
    beside = 'engine = "balls"\nclassifier = "balls"\nclassify = "always"'
    region = load_recipe(write(tmp_path, RECIPE.replace('engine = "balls"', beside))).regions[0]
    assert (region.classifier, region.classify) == ("balls", "always")
    error = refusal(
        tmp_path, RECIPE.replace('rules = "old"', 'rules = "old"\nclassifier = "balls"')
    )
    assert "region 'right': 'classifier' names what an engine rejects, so it needs 'engine'" in str(
        error
    )
    always = 'engine = "balls"\nclassify = "always"'
    error = refusal(tmp_path, RECIPE.replace('engine = "balls"', always))
    assert "classify = \"always\" needs 'classifier'" in error.problem
    unknown = 'engine = "balls"\nclassifier = "bals"'
    error = refusal(tmp_path, RECIPE.replace('engine = "balls"', unknown))
    assert error.problem == (
        "region 'left': no engine 'bals' under [engines]; did you mean 'balls'?"
    )


def test_a_region_with_an_unknown_engine_is_refused_with_its_line(tmp_path):
    error = refusal(tmp_path, RECIPE.replace('engine = "balls"', 'engine = "bals"'))
    assert error.line == 12
    assert error.problem == (
        "region 'left': no engine 'bals' under [engines]; did you mean 'balls'?"
    )


def test_a_region_or_a_baseline_with_unknown_rules_is_refused(tmp_path):
    error = refusal(tmp_path, RECIPE.replace('rules = "old"', 'rules = "new"'))
    assert (error.line, error.problem) == (17, "region 'right': no rules 'new' under [rules]")
    error = refusal(tmp_path, 'baseline = "older"\n' + RECIPE)
    assert error.line == 1
    assert "baseline: no rules 'older' under [rules]; did you mean 'old'?" in error.problem


def test_two_regions_of_one_name_are_refused(tmp_path):
    error = refusal(tmp_path, RECIPE.replace('name = "right"', 'name = "left"'))
    assert (error.line, error.problem) == (17, "two regions are named 'left'")


def test_a_fault_in_an_alignment_names_its_method_only(tmp_path):
    error = refusal(tmp_path, RECIPE.replace("position =", "positions ="))
    assert error.line == 8
    assert error.problem == (
        "key 'alignment.main.position' is missing; "
        "unknown key 'alignment.main.positions'; did you mean 'position'?"
    )


def test_an_alignment_needs_a_known_method(tmp_path):
    error = refusal(tmp_path, RECIPE.replace('method = "template"', 'method = "templat"'))
    assert "did you mean 'template'?" in error.problem
    error = refusal(tmp_path, RECIPE.replace('method = "template"', ""))
    assert error.problem == "'alignment.main' needs the key 'method'"


def test_a_key_of_an_inline_table_is_found(tmp_path):
    error = refusal(tmp_path, RECIPE.replace("columns =", "colums ="))
    assert error.line == 16
    assert "unknown key 'regions.0.grid.colums'; did you mean 'columns'?" in error.problem


def test_a_recipe_without_regions_is_refused(tmp_path):
    error = refusal(tmp_path, RECIPE.split("[[regions]]", maxsplit=1)[0])
    assert error.problem == "key 'regions' is missing"


def test_a_recipe_cannot_be_changed(tmp_path):
    recipe = load_recipe(write(tmp_path, RECIPE))
    with pytest.raises(ValueError, match="frozen"):
        recipe.version = 4  # type: ignore[misc]


def test_an_outline_without_level_chooses_its_own():
    alignment = {"main": {"method": "outline"}}
    region = {"name": "a", "rect": (0, 0, 8, 8), "engine": "e"}
    values = {"product": "p", "version": 1, "latency_budget_ms": 5, "regions": [region]}
    recipe = Recipe.model_validate({**values, "alignment": alignment})
    assert recipe.alignment["main"].method == "outline"


def test_quality_is_of_a_camera_that_there_is_and_its_limits_are_in_order(tmp_path):
    asked = "[quality.side]\nrefuse_repeats = true\n[quality.side.limits]\nmean = [90, 110.5]\n"
    quality = load_recipe(write(tmp_path, RECIPE + asked)).quality
    assert quality["side"].limits == {"mean": (90, 110.5)}
    assert quality["side"].refuse_repeats
    strange = refusal(tmp_path, RECIPE + asked.replace("side", "sida"))
    assert "[quality.sida]: no region has this camera" in str(strange)
    assert str(strange).count("side") == 1
    assert strange.line == RECIPE.count("\n") + 1
    turned = refusal(tmp_path, RECIPE + asked.replace("[90, 110.5]", "[110.5, 90]"))
    assert "limits of 'mean': 110.5 is not below 90" in str(turned)
    assert "mean" in str(refusal(tmp_path, RECIPE + asked.replace("mean", "meen")))
