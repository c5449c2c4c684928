from pathlib import Path

from edge_inspector.recipe import Recipe, Region
from edge_inspector.training.teach_recipe import classifiers_of


def test_classifiers_are_kept_and_engines_are_taught_anew():
    folders = {name: Path(name) / "1" for name in ("cell", "kinds", "unused")}
    cells = Region(name="a", rect=(0, 0, 8, 8), engine="cell", classifier="kinds")
    plain = Region(name="b", rect=(0, 0, 8, 8), engine="cell")
    recipe = Recipe(
        product="p", version=1, latency_budget_ms=5, engines=folders, regions=(cells, plain)
    )
    assert classifiers_of(recipe) == {"kinds": Path("kinds/1")}
