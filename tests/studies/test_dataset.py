from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_inspector.errors import DataError
from edge_inspector.manifest import Input
from edge_inspector.studies.dataset import Item, is_good, load_crop, load_crops, read_items

DATA = Path(__file__).resolve().parents[2] / "../shared/data"


def _image(path: Path, level: int = 50, shape: tuple[int, ...] = (20, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full(shape, level, np.uint8))
    return path


def _csv(folder: Path, *rows: str, header: str = "path,label,split,group") -> Path:
    path = folder / "split.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8-sig")
    return path


def test_csv_names_images_relative_to_itself(tmp_path: Path) -> None:
    a = _image(tmp_path / "images" / "a.png")
    path = _csv(tmp_path, "images/a.png,normal,train,g1")
    assert read_items(path) == [Item(a, "normal", "train", "g1")]


def test_group_and_camera_are_optional(tmp_path: Path) -> None:
    a = _image(tmp_path / "a.png")
    assert read_items(_csv(tmp_path, "a.png,good,val", header="path,label,split")) == [
        Item(a, "good", "val")
    ]
    header = "path,label,split,group,camera"
    assert read_items(_csv(tmp_path, "a.png,good,val,u1,top", header=header)) == [
        Item(a, "good", "val", "u1", "top")
    ]


def test_missing_files_are_counted_and_the_first_three_named(tmp_path: Path) -> None:
    _image(tmp_path / "a.png")
    rows = ["a.png,good,train,", *(f"no{i}.png,good,train," for i in range(5))]
    with pytest.raises(DataError, match=r"5 of 6 files.*no0\.png.*no1\.png.*no2\.png, …") as told:
        read_items(_csv(tmp_path, *rows))
    assert "no3" not in str(told.value)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("a.png,good,training,", r"csv:2: split 'training'.*train, val, test"),
        ("a.png,,train,", "csv:2: path and label"),
        (",good,train,", "csv:2: path and label"),
        ("a.png,good", "csv:2: split 'None'"),
    ],
)
def test_wrong_row_is_named_by_its_line(tmp_path: Path, row: str, problem: str) -> None:
    _image(tmp_path / "a.png")
    with pytest.raises(DataError, match=problem):
        read_items(_csv(tmp_path, row))


def test_wrong_header_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lacks path, split"):
        read_items(_csv(tmp_path, "a", header="file,label"))


def test_file_that_is_no_csv_is_told(tmp_path: Path) -> None:
    path = _image(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png"):
        read_items(path)


def test_absent_and_empty_data_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such CSV file or folder"):
        read_items(tmp_path / "nothing")
    with pytest.raises(DataError, match="no image found"):
        read_items(tmp_path)


def test_mvtec_layout_holds_good_images_out_for_validation(tmp_path: Path) -> None:
    for i in range(20):
        _image(tmp_path / "train" / "good" / f"{i:03}.png")
    _image(tmp_path / "test" / "good" / "000.png")
    _image(tmp_path / "test" / "scratch" / "000.png")
    _image(tmp_path / "ground_truth" / "scratch" / "000_mask.png")
    items = read_items(tmp_path)
    counts = Counter((item.split, item.label) for item in items)
    assert counts == {
        ("train", "good"): 17,
        ("val", "good"): 3,
        ("test", "good"): 1,
        ("test", "scratch"): 1,
    }
    assert read_items(tmp_path) == items


def test_mvtec_loco_layout_keeps_its_validation_split(tmp_path: Path) -> None:
    for name in ("train/good/0.png", "train/good/1.png", "validation/good/0.png"):
        _image(tmp_path / name)
    assert Counter(item.split for item in read_items(tmp_path)) == {"train": 2, "val": 1}


def test_one_folder_per_class_trains_on_good_images_only(tmp_path: Path) -> None:
    for i in range(20):
        _image(tmp_path / "good" / f"{i}.png")
        _image(tmp_path / "dent" / f"{i}.jpg")
    counts = Counter((item.split, item.label) for item in read_items(tmp_path))
    assert counts == {
        ("train", "good"): 14,
        ("val", "good"): 3,
        ("test", "good"): 3,
        ("val", "dent"): 10,
        ("test", "dent"): 10,
    }


def test_splits_of_a_folder_do_not_depend_on_where_it_lies(tmp_path: Path) -> None:
    for place in ("a", "b"):
        for i in range(10):
            _image(tmp_path / place / "good" / f"{i}.png")
    a, b = (
        [(item.path.name, item.split) for item in read_items(tmp_path / place)]
        for place in ("a", "b")
    )
    assert a == b


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("stored", [(20, 30), (20, 30, 3)])
def test_crop_has_the_engine_s_shape(
    tmp_path: Path, channels: int, stored: tuple[int, ...]
) -> None:
    path = _image(tmp_path / "a.png", 77, stored)
    shape = Input(height=16, width=24, channels=1 if channels == 1 else 3)
    crop = load_crop(path, shape)
    assert crop.shape == (16, 24, channels)
    assert np.abs(crop.astype(int) - 77).max() <= 1


def test_sixteen_bit_images_keep_their_brightness(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.full((20, 20), 0x8000, np.uint16))
    assert abs(int(load_crop(path, Input(height=20, width=20)).mean()) - 128) <= 1


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_broken_images_are_counted_and_the_next_one_passes(tmp_path: Path, content: bytes) -> None:
    good, broken = _image(tmp_path / "a.png"), tmp_path / "b.png"
    broken.write_bytes(content)
    items = [Item(broken, "good", "val"), Item(good, "good", "val")]
    corrupt: list[Item] = []
    found = list(load_crops(items, Input(height=8, width=8), corrupt))
    assert [item.path for item, _ in found] == [good]
    assert corrupt == items[:1]
    with pytest.raises(DataError, match=r"b\.png"):
        load_crop(broken, Input(height=8, width=8))


def test_truncated_jpeg_is_broken_or_whole_but_never_raises_another_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:200])
    corrupt: list[Item] = []
    found = list(load_crops([Item(path, "good", "val")], Input(height=8, width=8), corrupt))
    assert len(found) + len(corrupt) == 1


def test_good_labels() -> None:
    assert is_good("normal")
    assert is_good("good")
    assert not is_good("short")


@pytest.mark.skipif(not DATA.is_dir(), reason="solder_joint images are not on this machine")
def test_solder_joints_split_by_board() -> None:
    items = read_items(DATA / "solder_joint" / "split_board.csv")
    counts = Counter(item.split for item in items if is_good(item.label))
    assert counts == {"train": 2232, "val": 136, "test": 319}
    assert all(is_good(item.label) for item in items if item.split == "train")
