"""`inspect` says of each image what the line would, or what an engine alone sees in it."""

import json

import cv2
import numpy as np
import pytest

from edge_inspector.cli.main import main
from tests.integration.conftest import BAD, GOOD, write_recipe


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name, pixels in (("good", GOOD), ("bad", BAD)):
        cv2.imwrite(str(folder / f"{name}.png"), pixels)
    return folder


@pytest.fixture
def recipe(tiny_engine, tiny_classifier, tmp_path):
    """The tiny engine, and the tiny classifier beside it."""
    engines = {"tiny": str(tiny_engine), "kinds": str(tiny_classifier)}
    region = {"name": "whole", "rect": [0, 0, 32, 32], "engine": "tiny", "classifier": "kinds"}
    return write_recipe(tmp_path, tiny_engine, {"engines": engines, "regions": [region]})


def told(capsys, *words):
    status = main(["inspect", *map(str, words)])
    return status, capsys.readouterr().out


def test_a_reject_is_told_with_its_class_and_drawn_with_both_maps(recipe, images, tmp_path, capsys):
    drawn = tmp_path / "drawn"
    status, said = told(capsys, recipe, images / "bad.png", "--pictures", drawn)
    assert status == 1
    assert "fail, raw score" in said
    assert "bright (probability 1) in 'whole' at x 20, y 4" in said
    picture = cv2.imread(str(drawn / "bad-whole.png"))
    assert picture is not None
    assert picture.shape[1] == 3 * 256 + 2 * 4


def test_json_holds_class_and_probability_of_each_region(recipe, images, capsys):
    status, said = told(capsys, recipe, images / "good.png", images / "bad.png", "--json")
    good, bad = (json.loads(line) for line in said.splitlines())
    assert (status, good["outcome"], bad["outcome"]) == (1, "pass", "fail")
    assert (good["defect_class"], bad["defect_class"]) == (None, "bright")
    assert good["regions"][0]["probability"] is None
    assert bad["regions"][0]["defect_class"] == "bright"
    assert bad["regions"][0]["probability"] == pytest.approx(1.0, abs=1e-3)
    assert bad["degraded"] == []


def test_a_classifier_alone_names_what_it_sees_and_judges_nothing(tiny_classifier, images, capsys):
    status, said = told(capsys, tiny_classifier, images / "bad.png")
    assert status == 0
    assert "not calibrated, raw score 1, bright (probability 1)" in said


def test_an_image_that_cannot_be_judged_says_why(recipe, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((8, 8), np.uint8))
    status, said = told(capsys, recipe, tmp_path / "small.png")
    assert status == 1
    assert "uninspected, raw score nan region 'whole'" in said
