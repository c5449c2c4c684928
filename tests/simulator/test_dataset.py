"""Composed data sets and the `compose` verb: files that every other verb reads."""

import csv

import cv2
import numpy as np
import pytest

from edge_inspector.cli.main import main
from edge_inspector.errors import DataError
from edge_inspector.simulator import package
from edge_inspector.simulator.dataset import Plan, write_dataset
from edge_inspector.simulator.parts import Variation, compose
from edge_inspector.studies.dataset import read_items

PLAN = Plan(train=3, validation=2, test_good=2, per_class=2, kinds=("missing", "scratch"))
SMALL = ["--train", "2", "--validation", "1", "--good", "1", "--per-class", "2"]


def make(rng, label):
    return compose(package.parts(), rng, Variation(), label)


def gray(path):
    pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert pixels is not None, path
    return pixels


def counts(items):
    table: dict[tuple[str, str], int] = {}
    for item in items:
        table[item.split, item.label] = table.get((item.split, item.label), 0) + 1
    return table


def test_the_table_is_what_the_studies_read(tmp_path):
    ticks = []
    table = write_dataset(make, tmp_path / "set", PLAN, 1, lambda: ticks.append(1))
    items = read_items(table)
    assert counts(items) == {
        ("train", "good"): 3,
        ("val", "good"): 2,
        ("test", "good"): 2,
        ("val", "missing"): 1,
        ("test", "missing"): 2,
        ("val", "scratch"): 1,
        ("test", "scratch"): 2,
    }
    assert len(items) == PLAN.total == len(ticks)


def test_every_image_of_a_defect_has_its_truth_and_mask(tmp_path):
    write_dataset(make, tmp_path, PLAN, 1)
    with (tmp_path / "truth.csv").open(encoding="utf-8") as text:
        rows = list(csv.DictReader(text))
    assert len(rows) == PLAN.total
    for row in rows:
        mask = tmp_path / row["path"].replace("images/", "masks/", 1)
        assert mask.is_file() == (row["label"] != "good")
        if mask.is_file():
            box = tuple(int(row[key]) for key in ("x", "y", "width", "height"))
            assert cv2.boundingRect(gray(mask)) == box


def test_a_larger_plan_begins_with_the_same_images_and_none_is_there_twice(tmp_path):
    larger = Plan(train=5, validation=2, test_good=2, per_class=4, kinds=PLAN.kinds)
    write_dataset(make, tmp_path / "small", PLAN, 7)
    write_dataset(make, tmp_path / "large", larger, 7)
    small = {p.relative_to(tmp_path / "small"): p for p in tmp_path.glob("small/images/**/*.png")}
    for name, path in small.items():
        assert path.read_bytes() == (tmp_path / "large" / name).read_bytes()
    assert len({path.read_bytes() for path in small.values()}) == len(small)


def test_another_seed_makes_other_images(tmp_path):
    for seed in (1, 2):
        write_dataset(make, tmp_path / str(seed), PLAN, seed)
    first, second = (
        cv2.imread(str(tmp_path / seed / "images/train/good/00000.png")) for seed in "12"
    )
    assert np.any(first != second)


def test_what_is_there_already_is_not_touched(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "precious.txt"):
        with pytest.raises(DataError, match="not an empty folder"):
            write_dataset(make, out, PLAN, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_an_unknown_kind_is_refused_before_anything_is_written(tmp_path):
    plan = Plan(train=1, validation=0, test_good=0, per_class=1, kinds=("missing", "crack"))
    with pytest.raises(DataError, match="unknown defect 'crack'"):
        write_dataset(make, tmp_path / "set", plan, 1)
    assert not (tmp_path / "set").exists()


def test_the_verb_composes_from_the_renderer(tmp_path, capsys):
    assert main(["compose", "--simulated", "--out", str(tmp_path / "a"), *SMALL]) == 0
    assert "16 images of 78 balls" in capsys.readouterr().out
    labels = {item.label for item in read_items(tmp_path / "a" / "data.csv")}
    assert labels == {"good", "missing", "extra", "pitch", "size"}


def test_the_verb_composes_from_photographs(tmp_path, capsys):
    photo = tmp_path / "good.png"
    cv2.imwrite(str(photo), make(np.random.default_rng(1), "good").pixels)
    arguments = ["compose", str(photo), "--out", str(tmp_path / "a"), "--kinds", "bridge", *SMALL]
    assert main(arguments) == 0
    assert "of 78 balls" in capsys.readouterr().out
    assert counts(read_items(tmp_path / "a" / "data.csv"))["test", "bridge"] == 2


def test_still_units_differ_only_where_balls_do(tmp_path):
    main(["compose", "--simulated", "--still", "--out", str(tmp_path / "a"), *SMALL])
    first, second = (gray(tmp_path / f"a/images/train/good/0000{n}.png") for n in (0, 1))
    assert np.array_equal(first[:, :40], second[:, :40])
    assert np.any(first != second)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--simulated", "--kinds", "crack"], "unknown defect 'crack'"),
        ([], "give photographs of good units, or --simulated"),
        (["--simulated", "photo.png"], "give photographs of good units, or --simulated"),
        (["nowhere.png"], "nowhere.png"),
    ],
)
def test_the_verb_says_what_is_wrong(arguments, message, tmp_path, capsys):
    assert main(["compose", *arguments, "--out", str(tmp_path / "a"), *SMALL]) == 2
    assert message in capsys.readouterr().err


def test_the_verb_names_the_photograph_that_is_blank(tmp_path, capsys):
    photo = tmp_path / "blank.png"
    cv2.imwrite(str(photo), np.full((64, 64), 90, np.uint8))
    assert main(["compose", str(photo), "--out", str(tmp_path / "a"), *SMALL]) == 2
    assert "photograph 1" in capsys.readouterr().err
