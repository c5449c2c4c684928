"""Pictures in files as a line: their truth, a rate, one size, a motion; an incumbent that errs."""

from collections import Counter
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_inspector.errors import DataError, Misuse
from edge_inspector.studies.played import Exposure, drawn, incumbent_said, pictures

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
CARD = np.zeros((40, 60), np.uint8)
CARD[10:30, 20:40] = 200


@pytest.fixture
def folder(tmp_path):
    for name in ("1_test.png", "1_temp.png", "2_temp.png", "3_temp.png"):
        cv2.imwrite(str(tmp_path / name), CARD)
    return tmp_path


def test_a_folder_says_by_its_names_which_pictures_are_good(folder):
    found = pictures(folder, good="*_temp.png")
    assert [(one.path.name, one.label) for one in found] == [
        ("1_temp.png", "good"),
        ("1_test.png", "defective"),
        ("2_temp.png", "good"),
        ("3_temp.png", "good"),
    ]
    assert {one.label for one in pictures(folder)} == {None}


def test_a_table_says_it_itself(folder):
    table = folder / "split.csv"
    rows = ["1_temp.png,normal,train", "1_test.png,crack,test", "2_temp.png,good,test"]
    table.write_text("\n".join(["path,label,split", *rows]))
    assert [one.label for one in pictures(table)] == ["good", "crack", "good"]
    assert [one.path.name for one in pictures(table, split="test")] == ["1_test.png", "2_temp.png"]
    with pytest.raises(DataError, match="no picture of split 'val'"):
        pictures(table, split="val")
    with pytest.raises(Misuse, match="says itself which pictures are good"):
        pictures(table, good="*")
    with pytest.raises(Misuse, match="has no split 'test'"):
        pictures(folder, split="test")


def test_each_kind_is_shown_all_through_before_again(folder):
    found = pictures(folder, good="*_temp.png")
    shown = list(islice(drawn(found, seed=4, defect_rate=0.25), 400))
    assert shown == list(islice(drawn(found, seed=4, defect_rate=0.25), 400))
    assert 65 <= sum(one.label == "defective" for one in shown) <= 135  # 100, 4 of 8.7
    good = [one.path.name for one in shown if one.label == "good"]
    assert all(len(set(good[i : i + 3])) == 3 for i in range(0, len(good) - 2, 3))


def test_a_rate_needs_both_kinds(folder):
    for found, rate in ((pictures(folder), 0.1), (pictures(folder, good="*"), 0.1)):
        with pytest.raises(DataError, match="needs both, and labels"):
            next(drawn(found, 1, rate))
    assert next(drawn(pictures(folder, good="*"), 1, 0)).label == "good"


def test_pictures_are_scaled_and_moved_the_same_for_a_seed(folder):
    path = folder / "1_temp.png"
    assert Exposure().take(path, np.random.default_rng(1)) == path.read_bytes()
    exposure = Exposure(size=(30, 20), jitter_px=2)
    one, again = (exposure.take(path, np.random.default_rng(1)) for _ in range(2))
    assert isinstance(one, np.ndarray)
    assert one.shape == (20, 30)
    assert np.array_equal(one, again)
    other = exposure.take(path, np.random.default_rng(2))
    assert np.any(other != one)
    bright = np.argwhere(one > 100).mean(axis=0)
    assert np.abs(bright - (9.5, 14.5)).max() <= 2.6  # px: the square's middle, moved by up to 2


def test_grey_that_is_stored_thrice_is_shown_once(tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), np.dstack([CARD] * 3))
    cv2.imwrite(str(tmp_path / "red.png"), np.dstack([CARD, CARD, CARD // 2]))
    shapes = []
    for name in ("grey.png", "red.png"):
        taken = Exposure(jitter_px=1).take(tmp_path / name, np.random.default_rng(1))
        assert isinstance(taken, np.ndarray)
        shapes.append(taken.shape)
    assert shapes == [(40, 60), (40, 60, 3)]


def test_pictures_of_sixteen_bits_stay_so(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), CARD.astype(np.uint16) * 257)
    taken = Exposure(jitter_px=1).take(tmp_path / "a.png", np.random.default_rng(1))
    assert isinstance(taken, np.ndarray)
    assert taken.dtype == np.uint16
    assert taken.max() > 45_000


def test_a_file_that_is_no_picture_is_named(folder):
    (folder / "1_temp.png").write_bytes(b"")
    for exposure in (Exposure(), Exposure(size=(4, 4))):
        with pytest.raises(DataError, match=r"1_temp\.png"):
            exposure.take(folder / "1_temp.png", np.random.default_rng(1))


def test_the_incumbent_is_right_but_for_its_errors():
    said = Counter(incumbent_said("good", 0.02, 5, number) for number in range(2000))
    assert said.keys() == {"pass", "fail"}
    assert 18 <= said["fail"] <= 65  # 40 expected, 4 standard deviations of 6.3
    said = Counter(incumbent_said("crack", 0.02, 5, number) for number in range(2000))
    assert said.keys() == {"fail:crack", "pass"}
    assert 18 <= said["pass"] <= 65
    assert incumbent_said(None, 0.0, 5, 1) is None
    assert incumbent_said("good", 0.5, 5, 7) == incumbent_said("good", 0.5, 5, 7)


def test_the_boards_of_deeppcb_play_as_good_and_defective():
    folder = DATA / "deeppcb_frames" / "44000"
    if not folder.is_dir():
        pytest.skip("the frames of DeepPCB are not there: nothing real to play")
    found = pictures(folder, good="*_temp.jpg")
    assert Counter(one.label for one in found) == {"good": 100, "defective": 100}
    taken = Exposure(jitter_px=2).take(found[0].path, np.random.default_rng(1))
    assert isinstance(taken, np.ndarray)
    assert taken.shape[:2] == (640, 640)
