import numpy as np
import pytest

from edge_inspector.errors import DataError, Misuse
from edge_inspector.training.teach_units import read_units


@pytest.fixture
def pictures(draw):
    rng = np.random.default_rng(1)
    return [draw(rng) for _ in range(60)]


def keys(units):
    return {unit.key for unit in units}


def test_each_good_unit_has_one_use(recording, pictures, tmp_path):
    units = read_units(recording(tmp_path / "r", pictures), overkill=0.01)
    parts = [keys(part) for part in (units.train, units.held_out, units.calibrate)]
    assert [len(part) for part in parts] == [26, 4, 30]
    assert len(set.union(*parts)) == 60
    assert units.good[0].name.startswith("u")


def test_the_threshold_gets_no_more_units_than_it_needs(recording, pictures, tmp_path):
    units = read_units(recording(tmp_path / "r", pictures), overkill=0.2)
    assert len(units.calibrate) == 18  # 14 would do for 20 %, three tenths are taken at least


def test_a_dropped_unit_moves_no_other(recording, pictures, tmp_path):
    folder = recording(tmp_path / "r", pictures)
    before = read_units(folder, overkill=0.01)
    gone = before.calibrate[5]
    after = read_units(folder, drop=[gone.name], overkill=0.01)
    assert keys(after.train) == keys(before.train)
    assert keys(after.calibrate) == keys(before.calibrate) - {gone.key}


def test_an_unknown_unit_to_drop_is_named(recording, pictures, tmp_path):
    folder = recording(tmp_path / "r", pictures)
    with pytest.raises(Misuse, match="--drop u600: none of 60 units"):
        read_units(folder, drop=["u600"], overkill=0.01)


def test_units_that_the_incumbent_failed_are_no_teachers(recording, pictures, tmp_path):
    said = ["pass", "fail", "pass", "uninspected"]
    folder = recording(tmp_path / "r", pictures, lambda n: said[n % 4])
    units = read_units(folder, overkill=0.01)
    assert (len(units.good), len(units.failed)) == (30, 15)
    assert any("15 units that the incumbent did not inspect" in r for r in units.remarks)


def test_an_incumbent_that_fails_everything_leaves_nothing_to_learn(recording, pictures, tmp_path):
    folder = recording(tmp_path / "r", pictures, lambda n: "fail")
    with pytest.raises(DataError, match="the incumbent failed all 60 recorded units"):
        read_units(folder, overkill=0.01)


def test_three_units_are_too_few(recording, pictures, tmp_path):
    with pytest.raises(DataError, match="3 good units of 3 recorded; teaching needs 20"):
        read_units(recording(tmp_path / "r", pictures[:3]), overkill=0.01)


def test_mixed_sizes_are_refused_with_the_sizes(recording, pictures, draw, tmp_path):
    rng = np.random.default_rng(2)
    large = [draw(rng, side=128) for _ in range(20)]
    with pytest.raises(DataError, match=r"80 units have 2 sizes, as 96 x 96 px \(60 units\)"):
        read_units(recording(tmp_path / "r", pictures + large), overkill=0.01)


def test_a_few_frames_of_another_size_are_left_out(recording, pictures, draw, tmp_path):
    rng = np.random.default_rng(2)
    units = read_units(recording(tmp_path / "r", [*pictures, draw(rng, side=128)]), overkill=0.01)
    assert len(units.good) == 60
    assert units.remarks == ("1 units whose frames are not 96 x 96 px are left out",)


def test_a_frozen_camera_gives_one_unit(recording, pictures, tmp_path):
    folder = recording(tmp_path / "r", pictures + [pictures[7]] * 30)
    units = read_units(folder, overkill=0.01)
    assert len(units.good) == 60
    told = "30 units have exactly the pixels of another and are left out; was the camera frozen?"
    assert told in units.remarks
    assert not units.repeats


def test_pictures_that_come_again_and_again_are_no_frozen_camera(recording, pictures, tmp_path):
    units = read_units(recording(tmp_path / "r", pictures + pictures[:20]), overkill=0.01)
    assert len(units.good) == 60
    assert units.repeats
    assert any("pictures repeat here, so a frozen camera" in r for r in units.remarks)


def test_a_unit_that_one_camera_missed_is_left_out(recording, pictures, tmp_path):
    folder = recording(tmp_path / "r", pictures, cameras=("top", "side"))
    table = folder / "frames.csv"
    table.write_text("\r\n".join(table.read_text().splitlines()[:-1]) + "\r\n", encoding="utf-8")
    units = read_units(folder, overkill=0.01)
    assert units.cameras == ("top", "side")
    assert len(units.good) == 59
    assert any("1 of 60 units lack a frame" in remark for remark in units.remarks)


def test_a_picture_that_cannot_be_read_is_left_out(recording, pictures, tmp_path):
    folder = recording(tmp_path / "r", pictures)
    (folder / "frames" / "000010.png").write_bytes(b"no picture")
    units = read_units(folder, overkill=0.01)
    assert len(units.good) == 59
    assert any("1 units whose pictures cannot be read" in remark for remark in units.remarks)


def test_cameras_that_the_recipe_does_not_know_are_not_looked_at(recording, pictures, tmp_path):
    folder = recording(tmp_path / "r", pictures, cameras=("top", "side"))
    units = read_units(folder, overkill=0.01).seen_by(["side"])
    assert units.cameras == ("side",)
    assert {frame.camera for unit in units.good for frame in unit.frames} == {"side"}
