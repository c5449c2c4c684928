"""Rejects leave a picture with the reason; the quota and the queue are bounds, never a wait."""

import json

import cv2
import numpy as np
import pytest

from edge_inspector.records import (
    Crop,
    Finding,
    FrameHead,
    FrameKey,
    Inspection,
    Outcome,
    RegionVerdict,
    Roi,
    Score,
)
from edge_inspector.sinks.archive import RejectArchive, draw_reject

HEAD = FrameHead(
    key=FrameKey("line", "e", 1),
    station="s",
    camera="main",
    recipe="r",
    arrived_ns=0,
    time_zero_ns=0,
    unit_id="a/../b",
)


def reject(*names):
    regions = tuple(RegionVerdict(n, Outcome.FAIL, float(i)) for i, n in enumerate(names))
    return Inspection(outcome=Outcome.FAIL, regions=regions, anomaly_score=1.0, threshold=0.5)


def crops(*names):
    return [
        Crop(Roi(n, "main", (0, 0, 64, 64)), np.full((64, 64), 90, np.uint8), (0, 0, 64, 64))
        for n in names
    ]


def scores(count):
    hot = np.zeros((16, 16), np.uint8)
    hot[4, 4] = 255
    return [Score(1.0, hot, (16, 16, 4, 4))] * count


@pytest.mark.parametrize(("spoke", "shade"), [("engine", 90), ("tools+engine", 200)])
def test_where_two_judge_a_region_the_picture_is_of_the_one_that_decided(spoke, shade, tmp_path):
    region = RegionVerdict("pad", Outcome.FAIL, 7.0, spoke=spoke)
    found = Inspection(outcome=Outcome.FAIL, regions=(region,), anomaly_score=7.0, threshold=5.0)
    seen = [
        Crop(Roi("pad", "main", (0, 0, 64, 64)), np.full((64, 64), level, np.uint8), (0, 0, 64, 64))
        for level in (90, 200)
    ]
    by_tools = Score(2.0, findings=(Finding("position", 2.0, (4, 4, 8, 8), "off its place"),))
    archive = RejectArchive(tmp_path, 10)
    archive.add(HEAD, found, seen, [Score(1.0), by_tools])
    archive.close()
    (picture,) = tmp_path.glob("*.png")
    drawn = cv2.imread(str(picture))
    assert drawn is not None
    assert drawn[10, 10].tolist() == [shade] * 3


def test_the_worst_region_of_a_reject_is_kept_with_its_facts(tmp_path):
    archive = RejectArchive(tmp_path, 10)
    archive.add(HEAD, reject("calm", "bad"), crops("calm", "bad"), scores(2))
    archive.close()
    (picture,) = tmp_path.glob("*.png")
    assert picture.stem.endswith("-bad")
    drawn = cv2.imread(str(picture))
    assert drawn is not None
    assert drawn.shape[0] > 64
    facts = json.loads(picture.with_suffix(".json").read_text())
    assert facts["inspection"]["outcome"] == "fail"
    assert facts["head"]["unit_id"] == "a/../b"


def test_names_of_units_cannot_leave_the_folder(tmp_path):
    archive = RejectArchive(tmp_path / "in", 10)
    archive.add(HEAD, reject("x"), crops("x"), scores(1))
    archive.close()
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_the_oldest_go_when_the_quota_is_full(tmp_path):
    archive = RejectArchive(tmp_path, 1)
    noise = np.random.default_rng(0).integers(0, 255, (256, 256), dtype=np.uint8)
    busy = [Crop(Roi("x", "main", (0, 0, 256, 256)), noise, (0, 0, 256, 256))]
    for _ in range(12):
        archive.add(HEAD, reject("x"), busy, scores(1))
    archive.close()
    kept = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert 0 < kept <= 1024 * 1024


def test_a_reject_without_evidence_leaves_no_picture(tmp_path):
    archive = RejectArchive(tmp_path, 1)
    archive.add(HEAD, Inspection(outcome=Outcome.UNINSPECTED), (), ())
    archive.close()
    assert list(tmp_path.iterdir()) == []


def test_where_a_classifier_named_the_defect_its_map_stands_third():
    seen = np.zeros((16, 16), np.uint8)
    seen[12, 12] = 255
    score = Score(1.0, scores(1)[0].anomaly_map, class_map=seen)
    picture = draw_reject(np.full((64, 64), 90, np.uint8), score, ("a", "b"))
    plain, by_score, by_class = (picture[:256, at : at + 256] for at in (0, 260, 520))
    assert picture.shape[1] == 776
    assert np.all(plain == 90)
    hottest = [np.unravel_index(v[:, :, 2].argmax(), v.shape[:2]) for v in (by_score, by_class)]
    assert [(int(row) // 16, int(column) // 16) for row, column in hottest] == [(4, 4), (12, 12)]


def test_the_class_map_of_a_unit_that_is_held_is_in_memory_of_its_own(tmp_path):
    seen = np.full((16, 16), 200, np.uint8)
    archive = RejectArchive(tmp_path, 10)
    archive.add(HEAD, reject("x"), crops("x"), [Score(1.0, class_map=seen)])
    seen[:] = 0
    archive.close()
    (picture,) = tmp_path.glob("*.png")
    drawn = cv2.imread(str(picture))
    assert drawn is not None
    assert drawn[100, 620, 2] > drawn[100, 100, 2]


def test_the_map_shows_on_the_right_half_only():
    score = Score(1.0, scores(1)[0].anomaly_map)
    picture = draw_reject(np.full((64, 64), 90, np.uint8), score, ("a", "b"))
    width = picture.shape[1] // 2 - 2
    left, right = picture[:256, :width], picture[:256, -width:]
    assert np.all(left == 90)
    assert np.any(right != 90)
