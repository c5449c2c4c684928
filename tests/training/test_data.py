import cv2
import numpy as np
import pytest
import torch

from edge_inspector.errors import DataError, Misuse
from edge_inspector.training.data import DIM, moved, read_good


def folder_of(path, pictures, suffix=".png"):
    good = path / "good"
    good.mkdir()
    rows = ["path,label,split"]
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(good / f"{number}{suffix}"), picture)
        rows.append(f"good/{number}{suffix},good,train")
    csv = path / "data.csv"
    csv.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return csv


def grey(height, width, level=90):
    return np.full((height, width), level, np.uint8)


def test_only_good_units_of_train_and_val_are_taken(units):
    crops = read_good(units, 0)
    assert (len(crops.train), len(crops.held_out)) == (48, 12)
    assert crops.train.shape[1:] == (64, 64, 1)


def test_without_val_a_tenth_of_train_is_held_out_by_seed(tmp_path):
    data = folder_of(tmp_path, [grey(40, 40, level) for level in range(20, 50)])
    crops, again, other = (read_good(data, seed) for seed in (1, 1, 2))
    assert (len(crops.train), len(crops.held_out)) == (27, 3)
    assert torch.equal(crops.held_out, again.held_out)
    assert not torch.equal(crops.held_out, other.held_out)


@pytest.mark.parametrize(("count", "found"), [(0, "no image"), (1, "1 good images")])
def test_no_or_one_image_is_refused_with_the_remedy(tmp_path, count, found):
    data = folder_of(tmp_path, [grey(64, 64)] * count)
    with pytest.raises(DataError, match=found):
        read_good(data, 0)


def test_a_set_without_good_images_is_refused(tmp_path):
    data = folder_of(tmp_path, [grey(64, 64)] * 3)
    data.write_text(data.read_text().replace(",good,", ",scratch,"), encoding="utf-8")
    with pytest.raises(DataError, match=r"0 good images of split train; training needs 2 or more"):
        read_good(data, 0)


def test_broken_files_are_named_and_the_others_taken(tmp_path):
    data = folder_of(tmp_path, [grey(64, 64, level) for level in range(10, 30)])
    (tmp_path / "good" / "7.png").write_bytes(b"no image at all")
    crops = read_good(data, 0)
    assert [item.path.name for item in crops.corrupt] == ["7.png"]
    assert len(crops.train) + len(crops.held_out) == 19


def test_nothing_but_broken_files_is_refused(tmp_path):
    data = folder_of(tmp_path, [grey(64, 64)] * 3)
    for file in (tmp_path / "good").iterdir():
        file.write_bytes(b"no image at all")
    with pytest.raises(DataError, match="none of 3 images can be read"):
        read_good(data, 0)


@pytest.mark.parametrize(("side", "chosen"), [(20, 64), (120, 64), (160, 256), (900, 256)])
def test_the_size_follows_from_the_images(tmp_path, side, chosen):
    data = folder_of(tmp_path, [grey(side, side + 30)] * 3)
    assert read_good(data, 0).shape.height == chosen


def test_colour_counts_only_where_there_is_some(tmp_path):
    colour = np.zeros((64, 64, 3), np.uint8)
    colour[:, :, 2] = 60
    near_grey = np.full((64, 64, 3), (90, 92, 91), np.uint8)
    for name, pictures, channels in [("a", [colour] * 3, 3), ("b", [near_grey] * 3, 1)]:
        (tmp_path / name).mkdir()
        assert read_good(folder_of(tmp_path / name, pictures), 0).shape.channels == channels


def test_mixed_sizes_are_scaled_and_told(tmp_path):
    data = folder_of(tmp_path, [grey(30, 50), grey(200, 90), grey(64, 64), grey(61, 67)])
    crops = read_good(data, 0)
    assert crops.train.shape[1:] == (64, 64, 1)
    assert crops.remarks == (
        "images have 4 sizes, 30 x 50 to 200 x 90 px; of each, the whole of it, whatever its "
        "aspect, is scaled to 64 x 64 px",
    )
    assert "its centre square is scaled" in read_good(data, 0, square=True).remarks[0]


def test_mixed_channels_are_told(tmp_path):
    colour = np.zeros((64, 64, 3), np.uint8)
    colour[:, :, 2] = 60
    data = folder_of(tmp_path, [colour, colour, grey(64, 64), colour])
    assert read_good(data, 0).remarks == ("1 of 4 images are grey, all three channels alike",)
    told = read_good(data, 0, channels=1).remarks
    assert told == ("3 of 4 images have colour, which is not looked at",)


def test_alike_images_of_eight_bits_need_no_remark(units):
    assert read_good(units, 0).remarks == ()


def test_images_of_16_bits_are_scaled_from_their_full_range(tmp_path):
    deep = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    data = folder_of(tmp_path, [deep, deep, grey(64, 64)])
    crops = read_good(data, 0)
    assert crops.train.max() == 255
    assert crops.remarks == ("2 of 3 images have 16 bits, scaled from 0..65535 to 0..255",)


def test_images_of_12_bits_in_16_are_warned_of(tmp_path):
    dim = np.full((64, 64), DIM // 4, np.uint16)
    told = read_good(folder_of(tmp_path, [dim, dim, dim]), 0).remarks[-1]
    assert told.startswith("the brightest value in 16 bits is 4096: 16 grey levels are left")


def test_one_corrupt_file_among_thousands_is_named_and_the_rest_taken(tmp_path):
    data = folder_of(tmp_path, [grey(32, 32)])
    whole = (tmp_path / "good" / "0.png").read_bytes()
    rows = ["path,label,split"]
    for number in range(2000):
        cut_off = number == 1234
        (tmp_path / "good" / f"{number}.png").write_bytes(whole[: 40 if cut_off else None])
        rows.append(f"good/{number}.png,good,train")
    data.write_text("\n".join(rows) + "\n", encoding="utf-8")
    crops = read_good(data, 0)
    assert [item.path.name for item in crops.corrupt] == ["1234.png"]
    assert len(crops.train) + len(crops.held_out) == 1999


def test_crops_keep_the_names_of_their_files(tmp_path):
    data = folder_of(tmp_path, [grey(64, 64, level) for level in range(20, 50)])
    crops = read_good(data, 3)
    assert len(crops.names) == len(crops.train) == 27
    for name, crop in zip(crops.names, crops.train, strict=True):
        picture = cv2.imread(name, cv2.IMREAD_GRAYSCALE)
        assert picture is not None
        assert picture[0, 0] == crop[0, 0, 0]


def test_a_size_that_no_network_takes_is_refused(units):
    with pytest.raises(Misuse, match=r"--size 50; it must be a multiple of 16"):
        read_good(units, 0, size=50)


def test_small_motions_stay_small():
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(32) * 3, np.arange(32) * 3).astype(np.uint8)
    crops = torch.from_numpy(np.stack([ramp] * 8)[..., None])
    turned = moved(crops, torch.Generator().manual_seed(int(rng.integers(100))))
    change = (turned.float() - crops.float()).abs()
    assert 0 < change.max() <= 3 + 0.02 * 186 + 1
