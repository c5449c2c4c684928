import json
import shutil
import signal
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from edge_inspector.errors import DataError, Misuse
from edge_inspector.inspector import open_inspector
from edge_inspector.recipe import load_recipe
from edge_inspector.records import Outcome
from edge_inspector.studies.calibrate_recipe import file_frame
from edge_inspector.training.teach import Wish, teach
from edge_inspector.training.teach_composed import Caught
from edge_inspector.training.teach_words import words

STEPS = 120
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def wish(**more):
    return Wish("four", steps=STEPS, overkill=0.05, **more)


def quietly(*_):
    """Nobody looks."""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def taught(recorded_units, tmp_path_factory):
    folder = tmp_path_factory.mktemp("taught")
    shutil.copytree(recorded_units, folder, dirs_exist_ok=True)
    told: list[str] = []
    report = teach(folder / "recipe.toml", folder / "recorded", wish(), told.append, quietly)
    return folder, report, told


@pytest.fixture
def copy(taught, tmp_path):
    shutil.copytree(taught[0], tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_the_recipe_in_force_observes_and_the_one_before_is_kept(taught):
    folder, report, _ = taught
    recipe = load_recipe(folder / "recipe.toml")
    assert (recipe.version, recipe.observe) == (2, True)
    assert recipe.engines["cell"] == folder / "engines" / "cell" / "1"
    assert load_recipe(folder / "recipe.v1.toml").version == 1
    assert recipe.calibration == report.calibration
    assert recipe.calibration is not None
    assert recipe.calibration.units + recipe.calibration.set_aside == report.units["calibrate"]
    assert "main" in recipe.quality


def test_it_judges_fresh_units_right_though_three_of_its_good_ones_were_not(taught, draw):
    folder, report, _ = taught
    rng = np.random.default_rng(77)
    with open_inspector(folder / "recipe.toml") as inspector:
        said = {
            defect: [
                inspector.inspect(file_frame(draw(rng, defect), "main", "four")).outcome
                for _ in range(40)
            ]
            for defect in (False, True)
        }
    assert said[True].count(Outcome.PASS) == 0
    assert said[False].count(Outcome.PASS) >= 35
    assert (report.failed["pass"], sum(report.failed.values())) == (0, 10)


def test_the_unnoticed_defects_head_the_sheet(taught):
    _, report, _ = taught
    assert {name for name, _ in report.suspicious[:3]} == {"u0", "u1", "u2"}
    assert len(report.suspicious) == 12
    sheet = cv2.imread(str(report.sheet))
    assert sheet is not None
    assert sheet.std() > 20


def test_it_says_what_it_promises_and_what_it_cannot_see(taught):
    _, report, told = taught
    text = "\n".join(words(report))
    table = report.calibration
    assert f"at most {table.promised_overkill:.2%} of good units" in text
    assert f"rests on {table.units} good units" in text
    assert "PROVISIONAL" in text
    assert "composed defects, spot: caught" in text
    assert "of 10 units that the incumbent failed" in text
    assert "OBSERVES" in text
    assert any("sensitive" in line and "common to all" in line for line in told)


def test_large_composed_defects_are_caught_more_often_than_small_ones(taught):
    _, report, _ = taught
    spots = [one for one in report.caught if one.kind == "spot"]
    assert spots[-1].caught > spots[0].caught
    assert all(one.drawn > 12 for one in spots)


def test_it_names_the_size_from_which_a_kind_is_seen_and_up_to_which_it_is_blind(taught):
    _, report, _ = taught
    counts = {"spot": (2, 12, 24), "scratch": (0, 3, 20), "moved": (15, 16, 17)}
    caught = tuple(
        Caught(kind, size, hits, 24)
        for kind, rows in counts.items()
        for size, hits in zip((3, 6, 12), rows, strict=True)
    )
    lines = [line for line in words(replace(report, caught=caught)) if "composed" in line]
    assert [line.rpartition("; ")[2] for line in lines] == [
        "from 12 px on they are seen",
        "it is BLIND to most of them up to 6 px",
        "some of each size pass",
    ]


def test_a_recipe_that_sees_next_to_nothing_is_called_so(taught):
    _, report, _ = taught

    def told(hits):
        caught = tuple(Caught("spot", size, hits, 24) for size in (3, 6))
        return "NEARLY BLIND" in "\n".join(words(replace(report, caught=caught)))

    assert (told(1), told(12)) == (True, False)


def test_regions_that_repeat_get_tools_that_share_the_promise(taught):
    folder, report, _ = taught
    recipe = load_recipe(folder / "recipe.toml")
    assert recipe.regions[0].rules == "all-tools"
    assert report.tools["all"].startswith("count")
    assert recipe.calibration is not None
    assert set(recipe.calibration.rules) == {"all-tools"}
    assert "all-r1c1 rules" in recipe.calibration.regions


def test_a_dropped_unit_of_the_threshold_keeps_the_engine(copy, taught):
    _, before, _ = taught
    dropped = next(n for n, _ in before.suspicious if n not in _learned(copy))
    report = teach(copy / "recipe.toml", copy / "recorded", wish(drop=(dropped,)), quietly, quietly)
    assert report.engines[0].again
    assert report.units["calibrate"] == before.units["calibrate"] - 1
    assert report.version == 3
    assert json.loads((copy / "taught/four/report.json").read_text())["dropped"] == [dropped]


def test_a_dropped_unit_that_taught_is_remembered_and_the_engine_made_anew(copy, taught):
    _, before, _ = taught
    dropped = next(name for name, _ in before.suspicious if name in _learned(copy))
    first, second = (
        teach(copy / "recipe.toml", copy / "recorded", wish(drop=drop), quietly, quietly)
        for drop in ((dropped,), ())
    )
    assert first.dropped == second.dropped == (dropped,)
    assert [one.engines[0].folder.name for one in (first, second)] == ["2", "2"]
    assert (first.engines[0].again, second.engines[0].again) == (False, True)


def test_what_stops_it_leaves_the_recipe_in_force(copy):
    before = (copy / "recipe.toml").read_bytes()

    def stop(stage, done, total):
        if stage == "scoring good units" and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teach(copy / "recipe.toml", copy / "recorded", wish(), quietly, stop)
    assert (copy / "recipe.toml").read_bytes() == before


def test_a_training_that_was_cut_off_goes_on(recorded_units, tmp_path):
    shutil.copytree(recorded_units, tmp_path, dirs_exist_ok=True)
    before: list[int] = []
    after: list[int] = []

    def press_ctrl_c(stage, done, total):
        if stage == "teaching 'cell'":
            before.append(done)
            if done == 30:
                handler = signal.getsignal(signal.SIGINT)
                assert callable(handler)
                handler(signal.SIGINT, None)

    def watch(stage, done, total):
        if stage == "teaching 'cell'":
            after.append(done)

    given = (tmp_path / "recipe.toml", tmp_path / "recorded", wish(), quietly)
    with pytest.raises(KeyboardInterrupt):
        teach(*given, press_ctrl_c)
    assert load_recipe(tmp_path / "recipe.toml").version == 1
    report = teach(*given, watch)
    assert (before[-1], after[0], after[-1]) == (30, 31, STEPS)
    assert report.engines[0].folder.name == "1"
    assert not (tmp_path / "engines/cell/1.part").exists()


def test_the_recipe_of_another_product_is_not_overwritten(recorded_units, tmp_path):
    shutil.copytree(recorded_units, tmp_path, dirs_exist_ok=True)
    with pytest.raises(Misuse, match="is the recipe of 'four', not of 'five'"):
        teach(tmp_path / "recipe.toml", tmp_path / "recorded", Wish("five"), quietly, quietly)


def test_a_region_that_leaves_the_frame_is_told_with_numbers(recorded_units, tmp_path):
    shutil.copytree(recorded_units, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "recipe.toml"
    path.write_text(path.read_text().replace("[2, 2, 92, 92]", "[2, 2, 92, 120]"), encoding="utf-8")
    with pytest.raises(DataError, match=r"y 62.0 to 122.0 px and leaves the frame of 96 x 96 px"):
        teach(path, tmp_path / "recorded", wish(), quietly, quietly)


def _learned(folder):
    """Names of units that the engine learned from, as another reading deals them."""
    from edge_inspector.training.teach_units import read_units

    units = read_units(folder / "recorded", overkill=0.05)
    return {unit.name for unit in (*units.train, *units.held_out)}
