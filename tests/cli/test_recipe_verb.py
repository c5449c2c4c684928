import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_inspector.cli.main import main
from edge_inspector.page.recipe_page import saved_recipe
from edge_inspector.recipe import load_recipe
from edge_inspector.simulator import package
from edge_inspector.simulator.parts import Variation, compose
from edge_inspector.studies.recorded import COLUMNS

STILL = Variation(jitter_px=0.2, shift_px=0, rotation_deg=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "frames").mkdir()
    for number in range(5):
        pixels = compose(package.parts(), np.random.default_rng([9, number]), STILL).pixels
        cv2.imwrite(str(tmp_path / "frames" / f"{number}.png"), pixels)
    return tmp_path


def run(*words: object) -> int:
    return main([str(word) for word in words])


def new(folder: Path, *more: object) -> int:
    out = folder / "recipe.toml"
    return run("recipe", "new", folder / "frames", "--product", "p", "--out", out, *more)


def test_new_writes_a_recipe_that_loads_and_a_page_and_says_why(folder: Path, capsys) -> None:
    assert new(folder, "--html", folder / "recipe.html") == 0
    told = capsys.readouterr().out
    assert "camera 'main': the product stays within" in told
    assert "regions whole (whole)" in told
    recipe = load_recipe(folder / "recipe.toml")
    assert recipe.engines == {"whole": (folder / "engines/whole/1").resolve()}
    assert "data:image/jpeg;base64," in (folder / "recipe.html").read_text()


def test_new_leaves_a_recipe_that_is_there_alone(folder: Path, capsys) -> None:
    (folder / "recipe.toml").write_text("mine")
    assert new(folder) == 2
    assert "recipe.toml exists; give another --out" in capsys.readouterr().err
    assert (folder / "recipe.toml").read_text() == "mine"


def test_new_takes_recorded_frames_but_those_that_the_incumbent_failed(folder: Path) -> None:
    with (folder / "frames.csv").open("w", newline="") as file:
        rows = csv.DictWriter(file, COLUMNS, restval="")
        rows.writeheader()
        for number in range(5):
            row = {"path": f"frames/{number}.png", "label": "good", "camera": "top"}
            row |= {"source": "s", "epoch": "1", "seq": str(number + 1), "group": f"u{number}"}
            row |= {"time_zero_ns": "1", "incumbent": "fail" if number == 4 else "pass"}
            rows.writerow(row)
    cv2.imwrite(str(folder / "frames" / "4.png"), np.zeros((9, 9), np.uint8))
    assert run("recipe", "new", folder, "--product", "p", "--out", folder / "r.toml") == 0
    assert load_recipe(folder / "r.toml").cameras == ("top",)


def test_new_of_too_few_frames_or_none_says_so(folder: Path, capsys) -> None:
    for number in (3, 4):
        (folder / "frames" / f"{number}.png").unlink()
    assert new(folder) == 2
    assert "has 3 frames; at least 4" in capsys.readouterr().err
    assert not (folder / "recipe.toml").exists()
    assert run("recipe", "new", folder / "absent", "--product", "p") == 2
    assert "there is no such" in capsys.readouterr().err


def test_show_draws_a_picture_and_fails_for_a_region_that_leaves_the_frame(folder: Path, capsys):
    new(folder)
    frame = folder / "frames" / "0.png"
    assert run("recipe", "show", folder / "recipe.toml", frame, "--out", folder / "a.png") == 0
    assert cv2.imread(str(folder / "a.png")) is not None
    cv2.imwrite(str(frame), np.zeros((200, 256), np.uint8))
    assert run("recipe", "show", folder / "recipe.toml", frame, "--out", folder / "b.png") == 1
    told = capsys.readouterr().out
    assert "'whole' lies at x 0.0 to 256.0, y 0.0 to 256.0 px and leaves the frame" in told
    assert (folder / "b.png").exists()


def test_edit_writes_a_page_of_the_next_version(folder: Path, capsys) -> None:
    new(folder)
    frame, page = folder / "frames" / "0.png", folder / "edit.html"
    assert run("recipe", "edit", folder / "recipe.toml", frame, "--html", page) == 0
    assert "recipe version 2" in page.read_text()
    assert run("recipe", "edit", folder / "recipe.toml", frame, frame, "--html", page) == 2
    assert "2 frames for the cameras main" in capsys.readouterr().err


def test_a_page_is_no_recipe_and_take_gets_the_recipe_out_of_it(folder: Path, capsys) -> None:
    new(folder, "--html", folder / "recipe.html")
    frame = folder / "frames" / "0.png"
    assert run("recipe", "show", folder / "recipe.html", frame) == 2
    assert "is a page, not a recipe" in capsys.readouterr().err
    assert run("recipe", "take", folder / "recipe.html", "--out", folder / "t.toml") == 2
    assert "press 'Save page'" in capsys.readouterr().err
    text = (folder / "recipe.html").read_text()
    toml = 'product = \\"p\\"\\nversion = 3\\nlatency_budget_ms = 9\\nrules = {a = \\"a\\"}\\n'
    toml += '[[regions]]\\nname = \\"r\\"\\nrect = [0, 0, 9, 9]\\nrules = \\"a\\"\\n'
    (folder / "kept.html").write_text(
        text.replace('{"page": 1,', f'{{"toml": "{toml}", "page": 1,')
    )
    assert saved_recipe(folder / "kept.html").startswith('product = "p"')
    assert run("recipe", "take", folder / "kept.html", "--out", folder / "t.toml") == 0
    assert load_recipe(folder / "t.toml").version == 3
    assert run("recipe", "take", folder / "kept.html", "--out", folder / "t.toml") == 2
