"""A recorded folder: what is written is read again, whatever ended the recording."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_inspector.errors import Breakage, DataError
from edge_inspector.records import Baseline, FrameHead, FrameKey, Outcome
from edge_inspector.studies.dataset import read_items
from edge_inspector.studies.recorded import COLUMNS, GIB, Recording, read_recorded

GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
DEEP = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
COLOUR = np.dstack([GREY, GREY[::-1], GREY.T])


def head(seq, **keys):
    values = {"camera": "main", "trigger_id": seq, "time_zero_ns": seq * 10} | keys
    key = FrameKey("line", "e1", seq)
    return FrameHead(key=key, station="st1", recipe="r", arrived_ns=0, **values)


def recording(folder, units=100, **limits):
    return Recording(folder, units, **({"quota_bytes": GIB, "reserve_bytes": 0} | limits))


def record(folder, *heads, pixels=GREY):
    with recording(folder) as opened:
        for one in heads:
            opened.add(one, pixels)


@pytest.mark.parametrize("pixels", [GREY, DEEP, COLOUR], ids=["mono8", "mono16", "bgr8"])
def test_pixels_come_back_as_they_were(tmp_path, pixels):
    record(tmp_path, head(1), pixels=pixels)
    again = read_recorded(tmp_path)[0].pixels()
    assert again.dtype == pixels.dtype
    assert np.array_equal(again, pixels)


def test_all_that_a_head_says_of_its_frame_comes_back(tmp_path):
    fail = Baseline(Outcome.FAIL, "bent pin, left")
    record(
        tmp_path,
        head(7, unit_id='A,"7"', captured_utc_ns=99, incumbent=fail),
        head(8, trigger_id=None, unit_id=None, camera="side", incumbent=Baseline(Outcome.PASS)),
    )
    first, second = read_recorded(tmp_path)
    assert (first.unit_id, first.trigger_id, first.seq) == ('A,"7"', 7, 7)
    assert (first.time_zero_ns, first.captured_utc_ns, first.incumbent) == (70, 99, fail)
    assert first.unit_key == "t:st1/0/7"
    assert (second.unit_id, second.trigger_id, second.captured_utc_ns) == (None, None, None)
    assert (second.camera, second.unit_key) == ("side", "f:line/e1/8")
    assert second.incumbent == Baseline(Outcome.PASS)


def test_the_table_is_labelled_images_for_train_and_calibrate(tmp_path):
    verdicts = [
        None,
        *(Baseline(outcome) for outcome in Outcome),
        Baseline(Outcome.FAIL, "scratch"),
    ]
    record(tmp_path, *(head(seq, incumbent=one) for seq, one in enumerate(verdicts, start=1)))
    items = read_items(tmp_path / "frames.csv")
    assert [item.label for item in items] == [
        *("good", "good", "incumbent-fail", "good", "incumbent-scratch"),
    ]
    assert {item.camera for item in items} == {"main"}
    assert [item.group for item in items] == [f.unit_key for f in read_recorded(tmp_path)]


def test_a_table_that_grows_keeps_its_splits(tmp_path):
    record(tmp_path, *(head(seq) for seq in range(1, 21)))
    before = read_items(tmp_path / "frames.csv")
    record(tmp_path, *(head(seq) for seq in range(21, 201)))
    after = read_items(tmp_path / "frames.csv")
    assert after[: len(before)] == before
    shares = {
        split: sum(item.split == split for item in after) for split in ("train", "val", "test")
    }
    assert 110 <= shares["train"] <= 170  # 140 expected of 200, 4.6 standard deviations of 6.5
    assert min(shares["val"], shares["test"]) >= 10


def test_frames_of_one_unit_share_a_split_and_a_failed_unit_is_not_learned_from(tmp_path):
    fail = Baseline(Outcome.FAIL)
    for unit in range(1, 41):
        record(
            tmp_path,
            head(2 * unit, trigger_id=unit, camera="top"),
            head(
                2 * unit + 1, trigger_id=unit, camera="side", incumbent=fail if unit % 2 else None
            ),
        )
    splits: dict[str, set[str]] = {}
    for item in read_items(tmp_path / "frames.csv"):
        splits.setdefault(item.group, set()).add(item.split)
    assert {len(of) for of in splits.values()} == {1}
    failed = {split for unit in range(1, 41, 2) for split in splits[f"t:st1/0/{unit}"]}
    assert failed == {"val", "test"}


def test_it_goes_on_where_the_last_one_ended(tmp_path):
    record(tmp_path, head(1), head(2))
    with recording(tmp_path, units=3) as again:
        assert (again.frames, again.units) == (2, 2)
        assert not again.wants(head(2))
        assert not again.whole({"main"})
        again.add(head(3), GREY)
        assert again.whole({"main"})
        assert not again.wants(head(4))
    assert [frame.path.name for frame in read_recorded(tmp_path)] == [
        *("000001.png", "000002.png", "000003.png"),
    ]


def test_the_last_unit_waits_for_its_other_cameras(tmp_path):
    with recording(tmp_path, units=1) as opened:
        opened.add(head(1, trigger_id=5, camera="top"), GREY)
        assert not opened.whole({"top", "side"})
        assert opened.wants(head(2, trigger_id=5, camera="side"))
        opened.add(head(2, trigger_id=5, camera="side"), GREY)
        assert opened.whole({"top", "side"})


def test_what_a_lost_process_left_half_done_is_cut_off(tmp_path):
    record(tmp_path, head(1), head(2))
    table = tmp_path / "frames.csv"
    table.write_bytes(table.read_bytes()[:-9])
    (tmp_path / "frames" / "000003.png.tmp").write_bytes(b"half")
    with recording(tmp_path) as again:
        assert again.frames == 1
        again.add(head(2), DEEP)
    assert [frame.seq for frame in read_recorded(tmp_path)] == [1, 2]
    assert read_recorded(tmp_path)[1].pixels().dtype == np.uint16
    assert not list((tmp_path / "frames").glob("*.tmp"))


def test_the_quota_is_said_with_what_is_there(tmp_path):
    with recording(tmp_path, quota_bytes=500) as opened:
        opened.add(head(1), GREY)
        with pytest.raises(DataError, match=r"quota of .* after 1 frames of 1 units; raise"):
            opened.add(head(2), np.random.default_rng(1).integers(0, 256, (64, 64), np.uint8))
    assert len(read_recorded(tmp_path)) == 1
    assert len(list((tmp_path / "frames").iterdir())) == 1


def test_the_disk_is_never_filled_to_the_brim(tmp_path):
    with (
        recording(tmp_path, reserve_bytes=2**62) as opened,
        pytest.raises(Breakage, match="0 frames of 0 units are there; free some"),
    ):
        opened.add(head(1), GREY)
    assert read_recorded(tmp_path) == ()


def test_two_recordings_do_not_share_a_folder(tmp_path):
    with recording(tmp_path), pytest.raises(DataError, match="another process records into it"):
        recording(tmp_path)
    recording(tmp_path).close()


def _table(folder: Path, *rows: str) -> None:
    (folder / "frames").mkdir()
    cv2.imwrite(str(folder / "frames" / "000001.png"), GREY)
    (folder / "frames.csv").write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("frames/000001.png,good,,u,main,,x,line,e,1,1,,", "'x'"),
        ("frames/000001.png,good,,u,main,,,line,e,1,1,,maybe", "incumbent 'maybe'"),
        ("frames/000001.png,good,,u,main,,,line,e,1", "every other column"),
        ("frames/000001.png,good,,u,main,,,line,e,1,1,,,more", "every other column"),
        ("../secret.png,good,,u,main,,,line,e,1,1,,", "path '../secret.png'"),
        ("frames/one.png,good,,u,main,,,line,e,1,1,,", "path 'frames/one.png'"),
        ("frames/000001.png,good,,u,main,,,line,e,,1,,", "''"),
    ],
)
def test_a_damaged_row_is_named_by_its_line(tmp_path, row, problem):
    _table(tmp_path, row)
    with pytest.raises(DataError, match="csv:2: a damaged row") as told:
        read_recorded(tmp_path)
    assert problem in str(told.value)


def test_pictures_that_are_gone_are_counted(tmp_path):
    record(tmp_path, head(1), head(2))
    (tmp_path / "frames" / "000002.png").unlink()
    with pytest.raises(DataError, match=r"1 of 2 pictures are missing, as 000002\.png"):
        read_recorded(tmp_path)


def test_a_foreign_folder_is_left_alone(tmp_path):
    with pytest.raises(DataError, match=r"has no frames\.csv"):
        read_recorded(tmp_path)
    foreign = tmp_path / "frames.csv"
    for text in ("path,label,split\na.png,good,train\n", "no end of line"):
        foreign.write_text(text)
        with pytest.raises(DataError, match="not of a recorded folder"):
            recording(tmp_path)
        assert foreign.read_text() == text
    with foreign.open(newline="") as file:
        assert next(csv.reader(file)) == ["no end of line"]
