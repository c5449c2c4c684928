"""The runner of the results tables, on commands that take no time."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the results tables train networks")

from bench import results_run
from bench.folds import dealt
from bench.results_columns import COLUMNS
from bench.results_confusions import summed
from bench.results_page import write_page
from bench.results_units import read_spec, units, with_borrowed

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
        "name": "trial",
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
    return tmp_path


class Options:
    data = Path()
    only: tuple[str, ...] = ()
    seeds: int | None = None
    minutes_each = 1.0
    again = False
    rescore = False


def run(spec):
    """Run what is not kept; the kept results by row and data."""
    file = Path("kept.jsonl")
    missed = results_run.run_all(spec, file, Options())
    return missed, {(key[1], key[2]): r for key, r in results_run.read_kept(file).items()}


def sound():
    return WRITE % json.dumps(REPORT).replace("{", "{{").replace("}", "}}")


def test_a_row_keeps_its_report_its_commands_and_where_it_ran(place):
    missed, kept = run(spec_of(sound()))
    result = kept["five", "tiles"]
    assert result["outcome"] == "ok"
    assert result["report"] == REPORT
    assert "results/trial/t/tiles/five/0/five.json" in result["commands"][0]
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
    assert {unit.seed for unit in units(spec, Path(), seeds=1)} == {4}


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
    return Path("docs/results-trial.md").read_text(encoding="utf-8")


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


def test_goals_over_all_rows_take_their_mean_or_the_worst(place):
    _, kept = run(spec_of(sound()))
    one = kept["five", "tiles"]
    other = {**one, "row": "six", "report": {**REPORT, "auroc": 0.25}}
    goal = {"table": "t", "data": "tiles", "rows": ["five", "six"], "figure": "auroc"}
    spec = spec_of(sound())
    spec["goal"] = [
        {**goal, "says": "mean", "at_least": 0.5, "over": "mean"},
        {**goal, "says": "worst", "at_least": 0.5, "over": "worst"},
        {**goal, "says": "lowest", "at_most": 0.5},
    ]
    text = page(spec, [one, other])
    assert "| mean | Tiles | at least 0.5 | 0.500 (2 of 2 rows) | met |" in text
    assert "| worst | Tiles | at least 0.5 | 0.250 (six) | missed |" in text
    assert "| lowest | Tiles | at most 0.5 | 0.250 (six) | met |" in text


NAMED: dict[str, Any] = {
    "macro_f1": 0.5,
    "labels": ["good", "dent", "stain"],
    "confusion": [[18, 2, 0], [1, 5, 4], [0, 0, 10]],
    "per_class": {
        "good": {"precision": 0.947, "recall": 0.9, "f1": 0.923, "support": 20},
        "dent": {"precision": 0.714, "recall": 0.5, "f1": 0.588, "support": 10},
        "stain": {"precision": 0.714, "recall": 1.0, "f1": None, "support": 10},
    },
}


def figure(name, report):
    return COLUMNS[name][1]({"report": report})


def test_a_defect_told_by_another_defects_name_is_caught():
    assert figure("caught", NAMED) == 19 / 20
    assert figure("precise", NAMED) == 19 / 21
    assert figure("apart", NAMED) == 37 / 40


def test_a_recall_counts_for_its_goal_only_at_the_precision_wanted():
    assert figure("caught_precisely", NAMED) == 19 / 20
    sloppy = {**NAMED, "confusion": [[10, 10, 0], *NAMED["confusion"][1:]]}
    assert figure("caught_precisely", sloppy) == 0


def test_the_point_where_no_defect_of_val_escapes_counts_too():
    points = {"detection": {"no_escape_of_val": {"recall": 1.0, "precision": 0.92}}}
    assert figure("caught_precisely", {**NAMED, **points}) == 1.0
    points["detection"]["no_escape_of_val"]["precision"] = 0.8
    assert figure("caught_precisely", {**NAMED, **points}) == 19 / 20


def test_a_set_without_a_good_class_has_no_recall_of_defects():
    assert figure("caught", {**NAMED, "labels": ["bent", "dent", "stain"]}) is None


def test_the_page_tells_a_classifier_class_by_class(place):
    _, kept = run(spec_of(sound()))
    spec = spec_of(sound())
    spec["table"]["t"]["columns"] = ["macro_f1", "px", "weights", "seeds"]
    result = {
        **kept["five", "tiles"],
        "report": NAMED,
        "commands": ["train --size 64", "evaluate"],
        "training": {"weights": "from scratch", "steps": 3, "ended": "time"},
    }
    text = page(spec, [result])
    assert "| five | 0.500 | 64 | from scratch | 1 |" in text
    assert "| dent | 0.71 / 0.50 / 0.59 |" in text
    assert "| stain | 0.71 / 1.00 / - |" in text


def test_confusions_of_several_runs_are_counted_together():
    other = {"labels": ["dent", "stain", "good"], "confusion": [[1, 0, 0], [0, 2, 0], [0, 0, 3]]}
    labels, counts = summed([NAMED, other])
    assert labels == ["good", "dent", "stain"]
    assert counts.diagonal().tolist() == [21, 6, 12]


def test_a_row_of_another_table_is_shown_again_and_not_run_again(place):
    spec = spec_of(sound())
    spec["run"].append({"table": "again", "name": "five", "data": ["tiles"], "from": "t"})
    assert [unit.table for unit in units(spec, Path())] == ["t", "t"]
    _, kept = run(spec)
    borrowed = with_borrowed(spec, list(kept.values()))[len(kept) :]
    assert [(r["table"], r["row"], r["data"]) for r in borrowed] == [("again", "five", "tiles")]


def test_a_run_trains_by_several_commands_and_stops_at_the_first_that_fails(place):
    first = "python -c \"open('{out}/one', 'w')\""
    broken = 'python -c "import sys; sys.exit(3)"'
    spec = spec_of(sound(), train=[first, broken, first.replace("one", "two")])
    _, kept = run(spec)
    assert kept["five", "tiles"]["outcome"] == "failed: it said nothing (exit 3)"
    assert len(kept["five", "tiles"]["commands"]) == 4
    assert [path.name for path in Path("results").rglob("[a-z]*") if path.is_file()] != []
    assert list(Path("results").rglob("one"))
    assert not list(Path("results").rglob("two"))


def test_a_run_with_labels_stands_for_one_run_each(place):
    text = """
    [data.tiles]
    title = "Tiles"
    needs = "tiles.csv"
    [[run]]
    table = "t"
    name = "{label} held out"
    labels = ["dent", "stain"]
    data = ["tiles"]
    train = ["hold {csv} --label {label}"]
    """
    Path("results_trial.toml").write_text(text, encoding="utf-8")
    spec = read_spec(Path("results_trial.toml"))
    assert spec["name"] == "trial"
    assert [(u.name, u.commands(u.name)[0]) for u in units(spec, Path())] == [
        ("dent held out", "hold tiles.csv --label dent"),
        ("stain held out", "hold tiles.csv --label stain"),
    ]


def rows_of(groups):
    return [
        {"path": f"{group}-{n}.png", "label": label, "split": "", "group": group}
        for group, label, count in groups
        for n in range(count)
    ]


def test_folds_keep_groups_whole_and_classes_in_balance():
    groups = [(f"n{n}", "normal", 1 + n % 4) for n in range(60)]
    groups += [(f"d{n}", "dent", 2) for n in range(10)]
    rows = rows_of(groups)
    fold_of = dealt(rows)
    assert set(fold_of) == {group for group, *_ in groups}
    for fold in range(5):
        here = [row["label"] for row in rows if fold_of[row["group"]] == fold]
        assert here.count("dent") == 4
        assert abs(here.count("normal") - 30) <= 1


def test_folds_are_the_same_whatever_the_order_of_the_rows():
    rows = rows_of([(f"g{n}", "ab"[n % 2], 1 + n % 3) for n in range(40)])
    assert dealt(rows) == dealt(rows[::-1])


@pytest.mark.parametrize("name", ["anomaly", "classifiers"])
def test_the_tables_in_the_repository_can_be_read(name):
    spec = read_spec(results_run.ROOT / f"bench/results_{name}.toml")
    assert spec["name"] in results_run.DRAWN
    for unit in units(spec, Path("data")):
        assert unit.table in spec["table"]
        assert unit.out.parts[:2] == ("results", name)
        for row in unit.rows:
            assert all("{" not in command for command in unit.commands(row))
    rows = {(run["table"], row) for run in spec["run"] for row in run.get("rows", [run["name"]])}
    for goal in spec["goal"]:
        assert {(goal["table"], row) for row in goal["rows"]} <= rows
