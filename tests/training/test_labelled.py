import cv2
import numpy as np
import pytest
import torch

from edge_inspector.errors import DataError, Misuse
from edge_inspector.studies.dataset import read_items
from edge_inspector.training.labelled import read_labelled, with_generated


def picture(path, level=90, shape=(40, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full(shape, level, np.uint8))


def data_of(folder, rows):
    """A CSV of plain images, a row each of label, split and group; their levels differ."""
    lines = ["path,label,split,group"]
    for number, (label, split, group) in enumerate(rows):
        picture(folder / f"{number}.png", number % 250)
        lines.append(f"{number}.png,{label},{split},{group}")
    (folder / "data.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "data.csv"


def rows(**counts):
    """`label_split=count` as rows without groups."""
    return [(*name.split("_"), "") for name, count in counts.items() for _ in range(count)]


WHOLE = rows(good_train=6, good_val=2, scratch_train=4, scratch_val=1, dent_train=3, dent_val=1)


def refusal_of(data):
    """What is said of labelled images that cannot be learned from."""
    with pytest.raises(DataError) as refused:
        read_labelled([data], 0)
    return str(refused.value)


def test_splits_are_obeyed_and_the_good_class_comes_first(tmp_path):
    crops = read_labelled([data_of(tmp_path, WHOLE)], 0, size=32)
    assert crops.classes == ("good", "dent", "scratch")
    assert crops.train.shape == (13, 32, 32, 1)
    assert crops.train_labels.tolist() == [0] * 6 + [2] * 4 + [1] * 3
    assert crops.val_labels.tolist() == [0, 0, 2, 1]
    levels = [int(crop[0, 0, 0]) for crop in crops.val]
    assert levels == [6, 7, 12, 16]
    assert [name.rsplit("/", 1)[1] for name in crops.val_names] == [
        "6.png",
        "7.png",
        "12.png",
        "16.png",
    ]


def test_several_sets_are_learned_from_together(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = data_of(tmp_path / "a", WHOLE)
    reviewed = data_of(tmp_path / "b", rows(scratch_train=5, crack_train=2))
    crops = read_labelled([first, reviewed], 0, size=32)
    assert crops.classes == ("good", "crack", "dent", "scratch")
    assert len(crops.train) == 20
    assert any("no image of split val shows 'crack'" in remark for remark in crops.remarks)


def test_rows_without_a_split_are_dealt_by_group_with_every_class_in_train(tmp_path):
    given = [(label, "", f"{label}{n // 3}") for label in ("good", "dent") for n in range(150)]
    data = data_of(tmp_path, [*given, ("crack", "", "one"), ("crack", "", "one")])
    items = read_items(data, every_class=True)
    splits: dict[str, set[str]] = {}
    for item in items:
        splits.setdefault(item.group, set()).add(item.split)
    assert all(len(of_group) == 1 for of_group in splits.values())
    for label in ("good", "dent"):
        count = sum(item.label == label and item.split == "train" for item in items)
        assert 80 <= count <= 125
    assert splits["one"] == {"train"}
    assert {i.split for i in read_items(data) if i.label == "dent"} == {"val", "test"}


def test_folders_of_classes_give_every_split_its_share(tmp_path):
    for label in ("normal", "dent"):
        for number in range(20):
            picture(tmp_path / label / f"{number}.png", number)
    items = read_items(tmp_path, every_class=True)
    for label in ("normal", "dent"):
        of_class = [item.split for item in items if item.label == label]
        assert {s: of_class.count(s) for s in set(of_class)} == {"train": 14, "val": 3, "test": 3}


def test_folders_of_splits_are_read_as_they_are(tmp_path):
    for number in range(4):
        picture(tmp_path / "train" / "good" / f"{number}.png", number)
        picture(tmp_path / "train" / "dent" / f"{number}.png", 100 + number)
    picture(tmp_path / "validation" / "dent" / "9.png", 200)
    crops = read_labelled([tmp_path], 0, size=32)
    assert (len(crops.train), len(crops.val), crops.classes) == (8, 1, ("good", "dent"))


def test_without_val_a_tenth_of_each_class_is_held_out_by_group(tmp_path):
    given = [(label, "train", f"{label}{n // 2}") for label in ("good", "dent") for n in range(40)]
    crops, again = (read_labelled([data_of(tmp_path, given)], 3, size=32) for _ in range(2))
    assert torch.bincount(crops.val_labels).tolist() == [4, 4]
    assert torch.bincount(crops.train_labels).tolist() == [36, 36]
    pairs = [int(name.rsplit("/", 1)[1][:-4]) // 2 for name in crops.val_names]
    assert all(pairs.count(pair) == 2 for pair in pairs)
    assert crops.digest == again.digest


def test_an_empty_class_is_refused_by_its_folder(tmp_path):
    picture(tmp_path / "good" / "1.png")
    (tmp_path / "dent").mkdir()
    assert "the class 'dent' has 0 images; put images there, or remove it" in refusal_of(tmp_path)


def test_labels_that_differ_in_case_are_refused_with_their_numbers(tmp_path):
    data = data_of(tmp_path, [*WHOLE, *rows(Dent_train=2)])
    assert "'Dent' (2 images) and 'dent' (4 images) differ in case or spaces only" in refusal_of(
        data
    )


def test_names_that_mean_something_else_are_refused(tmp_path):
    unknown = data_of(tmp_path, [*WHOLE, *rows(unknown_train=2)])
    assert "label 'unknown' (2 images) is" in refusal_of(unknown)
    both = data_of(tmp_path, [*WHOLE, *rows(normal_train=2)])
    assert "'good' and 'normal' both name" in refusal_of(both)
    other = data_of(tmp_path, rows(Normal_train=3, dent_train=3))
    assert "the good class is written 'normal'; write it so" in refusal_of(other)


def test_a_class_of_val_that_train_lacks_is_refused(tmp_path):
    data = data_of(tmp_path, [*WHOLE, *rows(crack_val=3)])
    assert "images of split val are of classes that split train lacks: 'crack' (3)" in refusal_of(
        data
    )


def test_a_class_of_test_that_train_lacks_is_told_and_left_to_unknown(tmp_path):
    crops = read_labelled([data_of(tmp_path, [*WHOLE, *rows(crack_test=3)])], 0, size=32)
    assert "crack" not in crops.classes
    assert any("'crack' (3); no engine" in remark for remark in crops.remarks)


def test_one_image_per_class_is_refused(tmp_path):
    data = data_of(tmp_path, rows(good_train=1, dent_train=1))
    assert (
        "too few images to learn from: 'good' 1, 'dent' 1; each class needs 2 or more"
        in refusal_of(data)
    )


def test_one_class_is_refused_with_the_remedy(tmp_path):
    told = refusal_of(data_of(tmp_path, rows(good_train=5, dent_test=5)))
    assert (
        "images of split train are of 1 class (good), of 2 in all; a classifier needs 2 or more"
        in told
    )


def test_a_class_whose_files_are_all_broken_is_refused(tmp_path):
    data = data_of(tmp_path, WHOLE)
    for number in (13, 14, 15):
        (tmp_path / f"{number}.png").write_bytes(b"no image")
    assert "too few images to learn from: 'dent' 0 (3 broken)" in refusal_of(data)


def test_a_broken_file_among_many_is_set_apart_with_its_label(tmp_path):
    data = data_of(tmp_path, rows(good_train=600, dent_train=400, good_val=3, dent_val=3))
    (tmp_path / "700.png").write_bytes(b"no image")
    crops = read_labelled([data], 0, size=32)
    assert [item.path.name for item in crops.corrupt] == ["700.png"]
    assert torch.bincount(crops.train_labels).tolist() == [600, 399]
    assert len(crops.train) == len(crops.train_names) == 999


def test_mixed_sizes_and_channels_are_brought_together_and_told(tmp_path):
    data = data_of(tmp_path, WHOLE)
    picture(tmp_path / "0.png", shape=(80, 50))
    cv2.imwrite(str(tmp_path / "1.png"), np.full((40, 40, 3), (0, 90, 250), np.uint8))
    crops = read_labelled([data], 0)
    assert crops.train.shape[1:] == (64, 64, 1)
    told = " ".join(crops.remarks)
    assert "images have 2 sizes, 40 x 40 to 80 x 50 px" in told
    assert "1 of 17 images have colour" in told


def test_groups_in_two_splits_are_told(tmp_path):
    torn = [("good", "train", "u1"), ("good", "val", "u1"), ("dent", "train", "u2")]
    crops = read_labelled([data_of(tmp_path, [*WHOLE, *torn])], 0)
    assert any("1 of 2 groups, as 'u1', lie in more than one split" in r for r in crops.remarks)


def test_a_size_that_no_network_takes_is_refused(tmp_path):
    with pytest.raises(Misuse, match="--size 20"):
        read_labelled([data_of(tmp_path, WHOLE)], 0, size=20)
    assert read_labelled([data_of(tmp_path, WHOLE)], 0, size=33).shape.height == 33


def test_without_a_good_class_it_is_told(tmp_path):
    crops = read_labelled([data_of(tmp_path, rows(a_train=3, b_train=3))], 0)
    assert crops.good is None
    assert any("every crop is taken to be defective" in remark for remark in crops.remarks)


def test_generated_images_come_last_and_change_the_digest(tmp_path):
    crops = read_labelled([data_of(tmp_path, WHOLE)], 0, size=32)
    drawn = torch.full((2, 32, 32, 1), 7, dtype=torch.uint8)
    mixed = with_generated(crops, drawn, torch.tensor([1, 1]))
    assert mixed.generated == 2
    assert torch.equal(mixed.train[-2:], drawn)
    assert mixed.train_labels[-2:].tolist() == [1, 1]
    assert torch.equal(mixed.val, crops.val)
    assert mixed.digest != crops.digest
    assert len(mixed.train_names) == len(crops.train)
