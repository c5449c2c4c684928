"""`grr`: repeated units of the log or of a CSV; what cannot be read is named."""

import json

import pytest
import tomlkit

from edge_inspector.cli.main import main
from edge_inspector.records import Outcome
from tests.cli.test_rejects_verb import RECIPE, STATION, Reader, verdict, write

PASS, FAIL = Outcome.PASS, Outcome.FAIL


@pytest.fixture
def station(tmp_path):
    """Serial A by its code, unit B as B, B#2, B#3, and C once; B is judged both ways."""
    (tmp_path / "recipe.toml").write_text(tomlkit.dumps(RECIPE))
    path = tmp_path / "station.toml"
    path.write_text(tomlkit.dumps(STATION))
    shown: list[tuple[Outcome, dict[str, object]]] = [
        *((PASS, {"unit_id": f"u{n}", "serial": "A", "anomaly_score": 1.0 + n}) for n in range(3)),
        (FAIL, {"unit_id": "B"}),
        (PASS, {"unit_id": "B#2"}),
        (FAIL, {"unit_id": "B#3"}),
        (PASS, {"unit_id": "C"}),
        (PASS, {"unit_id": None}),
    ]
    write(tmp_path, [verdict(n, outcome, **more) for n, (outcome, more) in enumerate(shown, 1)])
    return path


@pytest.fixture
def table(tmp_path):
    def write_csv(text, name="judged.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write_csv


def test_the_log_s_repeated_units_make_a_study(station, capsys):
    assert main(["grr", str(station), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (appraiser,) = found["appraisers"]
    assert appraiser["name"] == "s1, recipe version 4"
    assert (appraiser["units"], appraiser["judgements"]) == (2, 6)
    assert appraiser["within"]["value"] == 0.5
    assert appraiser["score_spread"] is not None
    assert found["torn"] == [["B", {"fail": 2, "pass": 1}]]
    assert found["single"] == 1


def test_a_reference_gives_grades_and_the_exit_code(station, table, capsys):
    reference = table("unit,expected\nA,pass\nB,fail\nC,pass\n", "reference.csv")
    assert main(["grr", str(station), "--reference", str(reference), "--json"]) == 1
    against = json.loads(capsys.readouterr().out)["appraisers"][0]["against"]
    assert against["grade"] == "unacceptable"
    assert (against["miss"]["events"], against["miss"]["trials"]) == (1, 3)


def test_a_new_recipe_version_is_another_appraiser(station, capsys):
    more = [verdict(n, PASS, unit_id="B", recipe_version=5) for n in (20, 21)]
    write(station.parent, more)
    assert main(["grr", str(station), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["name"][-1] for one in found["appraisers"]] == ["4", "5"]
    (pair,) = found["between"]
    assert (pair["agreed"]["events"], pair["agreed"]["trials"]) == (0, 1)


def test_a_csv_of_anybody_s_is_studied_and_shown_on_a_page(table, tmp_path, capsys):
    rows = [f"U{n},{o},{who},{e}" for who in ("anna", "<b>bert</b>") for n in range(20)
            for e in (["pass", "fail"][n % 2],) for o in (e, e)]  # fmt: skip
    path = table("unit,outcome,appraiser,expected\n" + "\n".join(rows))
    out = tmp_path / "grr.html"
    assert main(["grr", str(path), "--html", str(out)]) == 0
    said = capsys.readouterr().out
    assert "anna: 40 judgements on 20 units" in said
    assert "Against the reference: acceptable" in said
    reader = Reader()
    reader.feed(out.read_text())
    assert "anna and <b>bert</b>" in reader.text
    assert "effectiveness: units judged right" in reader.text
    assert "100.0%83.2% to 100.0%" in reader.text
    assert "MSA" in said or "Measurement Systems Analysis" in said
    assert {"b", "script"} & reader.tags == set()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("unit,result\nA,pass\n", "the header lacks outcome"),
        ("unit,outcome\nA,good\n", "judged.csv:2: outcome 'good'; give pass, fail or uninspected"),
        ("unit,outcome\n,pass\n", "judged.csv:2: unit must not be empty"),
        ("unit,outcome,expected\nA,pass,pass\nA,pass,fail\n", "was expected otherwise above"),
        ("unit,outcome\nA,pass\nB,pass\n", "none of 2 units was judged twice"),
        ("unit,outcome\n", "none of 0 units"),
    ],
)
def test_a_table_that_is_none_is_named_with_its_line(text, problem, table, capsys):
    assert main(["grr", str(table(text))]) == 2
    assert problem in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(tmp_path, capsys):
    assert main(["grr", str(tmp_path / "none.csv")]) == 2
    assert "none.csv: cannot be read: No such file" in capsys.readouterr().err
