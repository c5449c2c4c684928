from pathlib import Path

import pytest

from edge_inspector.errors import DocumentError
from edge_inspector.recipe import Calibration, Golden, Grid, Recipe, Region, Scale, load_recipe
from edge_inspector.recipe_alignment import Outline, Template
from edge_inspector.records import Outcome
from edge_inspector.studies.recipe_text import write_recipe


def full(folder: Path) -> Recipe:
    return Recipe(
        product="U12",
        version=3,
        latency_budget_ms=120,
        engines={"cell": folder / "engines/cell/1"},
        rules={"cell": folder / "rules/cell.toml"},
        alignment={
            "main": Template(method="template", image=folder / "U12.png", position=(10.5, 20)),
            "side": Outline(method="outline", size=(200, 100)),
        },
        regions=(
            Region(name="cells", rect=(1, 2, 30, 40), grid=Grid(rows=2, columns=3), engine="cell"),
            Region(
                name="side",
                camera="side",
                rect=(0, 0, 9, 9),
                engine="cell",
                rules="cell",
                fuse="both",
                ignore=(((0, 0), (1.5, 0), (0, 3)),),
            ),
            Region(name="id", rect=(5, 5, 50, 50), code="data-matrix"),
        ),
        calibration=Calibration(
            threshold=3.25,
            overkill=0.01,
            promised_overkill=0.02,
            units=150,
            backend="openvino",
            engines={"cell": "ab" * 32},
            regions={"side": Scale(center=-3.5, spread=1e-5)},
        ),
        mm_per_px={"main": 0.02},
        observe=True,
        golden=(Golden(unit="a", picture=folder / "golden/a.png", expect=Outcome.FAIL),),
    )


def test_a_written_recipe_is_read_back_as_it_was(tmp_path: Path) -> None:
    recipe = full(tmp_path.resolve())
    write_recipe(recipe, tmp_path / "recipe.toml")
    assert load_recipe(tmp_path / "recipe.toml") == recipe


def test_paths_are_written_relative_so_that_the_folder_can_move(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    write_recipe(full((tmp_path / "one").resolve()), tmp_path / "one" / "recipe.toml")
    assert str(tmp_path) not in (tmp_path / "one" / "recipe.toml").read_text()
    (tmp_path / "one").rename(tmp_path / "two")
    moved = load_recipe(tmp_path / "two" / "recipe.toml")
    assert moved == full((tmp_path / "two").resolve())


def test_the_same_recipe_is_the_same_text_and_its_tables_are_explained(tmp_path: Path) -> None:
    for name in ("a.toml", "b.toml"):
        write_recipe(full(tmp_path.resolve()), tmp_path / name)
    text = (tmp_path / "a.toml").read_text()
    assert text == (tmp_path / "b.toml").read_text()
    assert "grid = {rows = 2, columns = 3}" in text
    for place in ("[engines]", "[alignment.main]", "[[regions]]", "[[golden]]"):
        assert place in text
    assert text.count("# Where it is judged") == 1


def test_a_recipe_saved_by_a_page_of_another_version_says_what_to_do(tmp_path: Path) -> None:
    write_recipe(full(tmp_path.resolve()), tmp_path / "recipe.toml")
    text = (tmp_path / "recipe.toml").read_text()
    (tmp_path / "recipe.toml").write_text("page = 0\n" + text)
    with pytest.raises(DocumentError, match=r"recipe\.toml:1: .*version 0.*reads 1.*recipe edit"):
        load_recipe(tmp_path / "recipe.toml")
