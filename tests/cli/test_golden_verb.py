"""`golden`: what is added is judged first, and a station is asked only where one runs."""

import json

import cv2
import numpy as np
import pytest

from edge_inspector.cli.main import main
from edge_inspector.outbox.log import Lock
from edge_inspector.recipe import load_recipe
from edge_inspector.records import FrameHead, FrameKey, Outcome
from edge_inspector.studies.audit import family, rows
from edge_inspector.studies.dataset import read_image
from edge_inspector.studies.recorded import Recording
from edge_inspector.wiring import evidence
from tests.integration.conftest import BAD, GOOD, write_recipe


@pytest.fixture
def recipe(tmp_path, tiny_engine):
    cv2.imwrite(str(tmp_path / "bad unit.png"), BAD)
    cv2.imwrite(str(tmp_path / "good.bmp"), GOOD)
    return write_recipe(tmp_path, tiny_engine)


def head(seq, unit):
    return FrameHead(
        key=FrameKey("line", "e", seq),
        station="s",
        camera="main",
        recipe="tiny",
        arrived_ns=0,
        time_zero_ns=0,
        unit_id=unit,
        trigger_id=seq,
    )


def golden(*given):
    return main(["golden", *(str(one) for one in given)])


def test_a_picture_is_copied_beside_the_recipe_and_its_verdict_fixed(recipe, capsys):
    recipe.write_text("# a word of the user\n" + recipe.read_text())
    assert golden("add", recipe, recipe.parent / "bad unit.png", "--expect", "fail:unknown") == 0
    assert golden("add", recipe, recipe.parent / "good.bmp", "--expect", "pass", "--name", "G") == 0
    bad, good = load_recipe(recipe).golden
    assert (bad.unit, bad.expect, bad.defect_class) == ("bad_unit", Outcome.FAIL, "unknown")
    assert (good.unit, good.expect, good.camera) == ("G", Outcome.PASS, "main")
    assert np.array_equal(read_image(good.picture), GOOD)
    assert bad.picture == recipe.parent.resolve() / "golden" / "bad_unit-main.png"
    assert recipe.read_text().startswith("# a word of the user")
    assert golden("run", recipe) == 0
    assert "2 golden samples, 0 judged otherwise" in capsys.readouterr().out


def test_run_finds_a_changed_verdict(recipe, capsys):
    golden("add", recipe, recipe.parent / "bad unit.png", "--expect", "fail")
    cv2.imwrite(str(load_recipe(recipe).golden[0].picture), GOOD)
    assert golden("run", recipe) == 1
    assert "bad_unit: expected fail, got pass" in capsys.readouterr().out
    assert golden("run", recipe, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["changed"], report["samples"][0]["got"]) == (1, "pass")


def test_a_sample_that_would_halt_the_line_is_added_on_demand_only(recipe, capsys):
    given = ("add", recipe, recipe.parent / "good.bmp", "--expect", "fail:scratch")
    before = recipe.read_text()
    assert golden(*given) == 1
    assert recipe.read_text() == before
    assert "expected fail:scratch, got pass" in (said := capsys.readouterr().out)
    assert "nothing was added" in said
    assert golden(*given, "--anyway") == 0
    assert load_recipe(recipe).golden[0].defect_class == "scratch"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["nowhere.png", "--expect", "pass"], "nowhere.png: there is no such picture"),
        (["PICTURE", "--expect", "good"], "must be one of pass, fail, uninspected, or fail:CLASS"),
        (["PICTURE", "--expect", "pass:x"], "--expect 'pass:x'"),
        (["PICTURE", "--expect", "pass", "--camera", "mian"], "did you mean 'main'"),
    ],
)
def test_what_cannot_be_added_is_misuse(given, problem, recipe, capsys):
    words = [str(recipe.parent / "good.bmp") if word == "PICTURE" else word for word in given]
    assert golden("add", recipe, *words) == 2
    assert problem in capsys.readouterr().err


def test_one_name_is_given_once(recipe, capsys):
    given = ("add", recipe, recipe.parent / "good.bmp", "--expect", "pass")
    assert [golden(*given), golden(*given)] == [0, 2]
    assert "has a golden sample 'good' already" in capsys.readouterr().err


def test_a_missing_picture_is_told_by_run_and_by_check(recipe, capsys, tmp_path):
    golden("add", recipe, tmp_path / "good.bmp", "--expect", "pass")
    load_recipe(recipe).golden[0].picture.unlink()
    assert golden("run", recipe) == 2
    assert "golden sample 'good': No such file or directory; put" in capsys.readouterr().err
    source = '[[sources]]\ntype = "zmq-sub"\nname = "a"\nendpoint = "tcp://127.0.0.1:5598"\n'
    station = tmp_path / "station.toml"
    station.write_text('station = "s"\nrecipe = "recipe.toml"\n' + source)
    assert main(["check", str(station), "--json"]) == 1
    (found,) = [
        finding
        for finding in json.loads(capsys.readouterr().out)["findings"]
        if finding["subject"] == "golden"
    ]
    assert found["level"] == "FAIL"
    assert "golden sample 'good': No such file" in found["detail"]


def test_without_samples_or_daemon_there_is_nothing_to_replay(recipe, capsys, tmp_path):
    station = tmp_path / "station.toml"
    source = '[[sources]]\ntype = "zmq-sub"\nname = "a"\nendpoint = "tcp://127.0.0.1:5598"\n'
    station.write_text('station = "s"\nrecipe = "recipe.toml"\nstore = "state"\n' + source)
    assert golden("run", recipe) == 2
    assert golden("replay", station) == 2
    assert "add one with 'golden add'" in capsys.readouterr().err
    golden("add", recipe, tmp_path / "good.bmp", "--expect", "pass")
    assert golden("replay", station) == 2
    (tmp_path / "state").mkdir()
    Lock(tmp_path / "state").release()
    assert golden("replay", station) == 2
    lock = Lock(tmp_path / "state")  # as a recording has it; the signal would end this process
    assert golden("replay", station) == 2
    lock.release()
    assert capsys.readouterr().err.count("no daemon that is ready runs on") == 3


def test_a_recorded_unit_is_added_by_its_id(recipe, tmp_path, capsys):
    recorded = tmp_path / "frames"
    with Recording(recorded, 10, quota_bytes=10**9, reserve_bytes=0) as recording:
        recording.add(head(1, "U1"), GOOD)
        recording.add(head(2, "U2"), BAD)
    given = ("add", recipe, "U2", "--from", recorded, "--expect", "fail")
    assert golden(*given) == 0
    (sample,) = load_recipe(recipe).golden
    assert (sample.unit, sample.camera) == ("U2", "main")
    assert np.array_equal(read_image(sample.picture), BAD)
    assert golden("add", recipe, "U3", "--from", recorded, "--expect", "fail") == 2
    assert "has no unit 'U3'; did you mean 'U" in capsys.readouterr().err
    assert golden("add", recipe, "1", "--from", recorded, "--expect", "pass", "--name", "T1") == 0


def test_a_station_stands_for_its_recipe_and_what_was_recorded_beside_it(recipe, tmp_path, capsys):
    source = '[[sources]]\ntype = "zmq-sub"\nname = "a"\nendpoint = "tcp://127.0.0.1:5598"\n'
    station = tmp_path / "station.toml"
    station.write_text('station = "s"\nrecipe = "recipe.toml"\n' + source)
    assert golden("add", station, "U2", "--expect", "fail") == 2
    assert "there is no such picture; for a unit by its id" in capsys.readouterr().err
    with Recording(tmp_path / "recorded", 10, quota_bytes=10**9, reserve_bytes=0) as recording:
        recording.add(head(2, "U2"), BAD)
    assert golden("add", station, "U2", "--expect", "fail") == 0
    assert golden("add", station, tmp_path / "good.bmp", "--expect", "pass") == 0
    assert [one.unit for one in load_recipe(recipe).golden] == ["U2", "good"]
    assert golden("run", station) == 0


def test_what_a_station_observed_goes_on_to_count(recipe, tmp_path):
    station = tmp_path / "station.toml"
    station.write_text(
        'station = "s"\nrecipe = "recipe.toml"\n[[sources]]\ntype = "folder"\nname = "f"\n'
        'uri = "file:///nowhere"\n',
        encoding="utf-8",
    )
    (tmp_path / "state").mkdir()
    before = evidence(recipe, load_recipe(recipe))
    version = load_recipe(recipe).version
    assert golden("add", station, tmp_path / "good.bmp", "--expect", "pass", "--by", "me") == 0
    after = load_recipe(recipe)
    (row,) = rows(tmp_path / "state")
    assert (row.what, row.by, row.figures) == ("golden", "me", {"units": ["good"]})
    assert (after.version, len(after.golden)) == (version + 1, 1)
    assert family(evidence(recipe, after), [row]) == {before, evidence(recipe, after)}
