"""The runner of the results tables, on commands that take no time."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the results tables train networks")

from bench import results_run, results_units
from bench.results_page import write_page
from bench.results_units import units

REPORT = {
    "auroc": 0.75,
    "per_class": {"dent": {"auroc": 0.75, "recall": 0.5}, "stain": {"auroc": 0.8, "recall": 0.6}},
    "recall_at_overkill": {
        "0.005": {"overall": 0.5, "overkill_rate": 0.004, "per_class": {"dent": 0.5, "stain": 0.6}}
    },
    "best_f1": {"f1": 0.625},
    "latency_ms": {"p50": 1.25},
}
WRITE = "python -c \"import pathlib, sys; pathlib.Path(sys.argv[2]).write_text(sys.argv[3])\" - {report} '%s'"


def spec_of(evaluate, **run):
    return {
        "title": "Results",
        "intro": "All of it.",
        "data": {
            "tiles": {"title": "Tiles", "needs": "tiles.csv"},
            "bolts": {"title": "Bolts", "needs": "bolts.csv"},
        },
        "table": {"t": {"title": "Table", "text": "Text.", "columns": ["auroc", "f1", "ms"]}},
        "run": [
            {"table": "t", "name": "five", "data": ["tiles", "bolts"], "evaluate": evaluate, **run}
        ],
    }


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A repository with one of two data sets."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "tiles.csv").write_text("path,label,split\na.png,good,test\n", encoding="utf-8")
    (tmp_path / "a.png").write_bytes(b"pixels")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(results_run, "KEPT", tmp_path / "kept.jsonl")
    return tmp_path


class Options:
    data = Path()
    only: tuple[str, ...] = ()
    minutes_each = 1.0
    again = False
    rescore = False


def run(spec):
    """Run what is not kept; the kept results by row and data."""
    missed = results_run.run_all(spec, results_run.read_kept(), Options())
    return missed, {(key[1], key[2]): r for key, r in results_run.read_kept().items()}


def sound():
    return WRITE % json.dumps(REPORT).replace("{", "{{").replace("}", "}}")


def test_a_row_keeps_its_report_its_commands_and_where_it_ran(place):
    missed, kept = run(spec_of(sound()))
    result = kept["five", "tiles"]
    assert result["outcome"] == "ok"
    assert result["report"] == REPORT
    assert "results/anomaly/t/tiles/five/0/five.json" in result["commands"][0]
    assert len(result["digest"]) == 64
    assert missed == 1
    assert kept["five", "bolts"]["outcome"] == "not run: its data are not here"


def test_a_kept_row_is_not_run_again_until_its_images_change(place):
    spec = spec_of(sound())
    _, first = run(spec)
    _, again = run(spec)
    assert again["five", "tiles"] is not None
    assert again["five", "tiles"] == first["five", "tiles"]
    (place / "a.png").write_bytes(b"other pixels")
    _, changed = run(spec)
    assert changed["five", "tiles"]["digest"] != first["five", "tiles"]["digest"]


def test_engines_that_are_there_can_be_scored_again_without_training(place, monkeypatch):
    spec = spec_of(sound(), train="python -c \"open('{out}/trained', 'a').write('x')\"")
    run(spec)
    monkeypatch.setattr(Options, "rescore", True)
    run(spec)
    (trained,) = Path("results").rglob("trained")
    assert trained.read_text(encoding="utf-8") == "x"


def test_a_row_that_fails_says_why_and_the_next_is_run(place):
    spec = spec_of("python -c \"import sys; sys.exit('the network tells nothing apart')\"")
    spec["run"].append({**spec["run"][0], "name": "six", "evaluate": sound()})
    missed, kept = run(spec)
    assert kept["five", "tiles"]["outcome"] == "failed: the network tells nothing apart (exit 1)"
    assert kept["six", "tiles"]["outcome"] == "ok"
    assert missed == 3


def test_a_row_that_takes_too_long_is_ended(place, monkeypatch):
    monkeypatch.setattr(Options, "minutes_each", 0.01)
    _, kept = run(spec_of('python -c "import time; time.sleep(50)"'))
    assert kept["five", "tiles"]["outcome"] == "failed: took more than 0.01 minutes"


def test_the_first_seed_of_every_row_comes_before_the_second(place):
    spec = spec_of(sound(), seeds=[4, 5])
    spec["run"].append({**spec["run"][0], "name": "six"})
    order = [(u.name, u.seed) for u in units(spec, Path()) if u.data == "tiles"]
    assert order == [("five", 4), ("six", 4), ("five", 5), ("six", 5)]


def test_rows_are_chosen_by_table_row_and_data_in_the_order_asked_for(place):
    spec = spec_of(sound())
    spec["run"].append({**spec["run"][0], "name": "six"})

    def names(*only):
        return [(u.name, u.data) for u in results_run.chosen_of(units(spec, Path()), only)]

    assert names("t/six/bolts", "t/five") == [
        ("six", "bolts"),
        ("five", "tiles"),
        ("five", "bolts"),
    ]
    assert len(names()) == len(names("t")) == 4
    assert names("t/seven") == []


def page(spec, results):
    write_page(spec, results)
    return Path("docs/results-anomaly.md").read_text(encoding="utf-8")


def test_the_page_names_every_row_whatever_became_of_it(place):
    spec = spec_of(sound())
    spec["run"].append({**spec["run"][0], "name": "six"})
    _, kept = run(spec_of(sound()))
    text = page(spec, list(kept.values()))
    assert "| five | 0.750 | 0.625 | 1.25 |" in text
    assert "| five | not run: its data are not here | - | - |" in text
    assert text.count("| six | not run | - | - |") == 2
    assert kept["five", "tiles"]["commands"][0] in text


def test_seeds_are_told_as_mean_and_deviation(place):
    _, kept = run(spec_of(sound()))
    one = kept["five", "tiles"]
    other = {**one, "seed": 1, "report": {**REPORT, "auroc": 0.85}}
    assert "| five | 0.800 ± 0.071 | 0.625 ± 0.000 |" in page(spec_of(sound()), [one, other])


def test_goals_are_told_met_or_missed(place):
    _, kept = run(spec_of(sound()))
    goal = {"table": "t", "data": "tiles", "rows": ["five"]}
    spec = spec_of(sound())
    spec["goal"] = [
        {**goal, "says": "good enough", "figure": "auroc", "at_least": 0.7},
        {**goal, "says": "too slow", "figure": "ms", "at_most": 1},
        {**goal, "says": "each class", "figure": "recall", "classes": ["dent"], "at_least": 0.55},
        {**goal, "says": "as good", "figure": "f1", "above": ["five"]},
        {**goal, "says": "open", "figure": "f1", "rows": ["six"], "at_least": 0.5},
    ]
    text = page(spec, list(kept.values()))
    assert "| good enough | Tiles | at least 0.7 | 0.750 | met |" in text
    assert "| too slow | Tiles | at most 1 | 1.250 | missed |" in text
    assert "| each class | Tiles | at least 0.55 | 0.500 | missed |" in text
    assert "| as good | Tiles | at least 0.625 | 0.625 | met |" in text
    assert "| open | Tiles | at least 0.5 | not run | - |" in text


def test_the_tables_in_the_repository_can_be_read():
    root = Path(results_run.SPEC).parent.parent
    spec = results_run.read_spec()
    assert results_units.OUT.parts[0] == "results"
    for unit in units(spec, Path("data")):
        assert unit.table in spec["table"]
        for row in unit.rows:
            assert all("{" not in command for command in unit.commands(row))
    assert (root / "bench/results_anomaly.toml").is_file()
