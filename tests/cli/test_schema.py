import json
from pathlib import Path

import pytest

from edge_inspector.cli.main import main
from edge_inspector.cli.schema import DOCUMENTS

CHECKED_IN = Path(__file__).resolve().parents[2] / "docs" / "schema"


def test_the_schemas_in_the_repository_are_up_to_date(capsys):
    assert main(["schema", "--check", "--out", str(CHECKED_IN)]) == 0, capsys.readouterr().err


def test_a_schema_that_differs_is_found(tmp_path, capsys):
    assert main(["schema", "--out", str(tmp_path)]) == 0
    assert main(["schema", "--check", "--out", str(tmp_path)]) == 0
    recipe = tmp_path / "recipe.json"
    recipe.write_text(recipe.read_text().replace("latency_budget_ms", "budget_ms"))
    (tmp_path / "manifest.json").unlink()
    assert main(["schema", "--check", "--out", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "recipe.json is not up to date" in told
    assert "manifest.json is not up to date" in told
    assert "station.json" not in told


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_key_of_a_document_is_in_its_schema_and_no_other_is_allowed(name):
    found = json.loads((CHECKED_IN / f"{name}.json").read_text())
    assert set(found["properties"]) == set(DOCUMENTS[name].model_fields)
    assert found["additionalProperties"] is False
