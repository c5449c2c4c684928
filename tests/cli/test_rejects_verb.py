"""`rejects`: every unit that was not passed, once, with its place in px and mm and its pictures."""

import base64
import json
import re
import threading
from datetime import datetime, timezone
from html.parser import HTMLParser

import cv2
import msgspec
import numpy as np
import pytest
import tomlkit

from edge_inspector import clock
from edge_inspector.cli.main import main
from edge_inspector.outbox import Outbox
from edge_inspector.records import (
    Crop,
    FrameHead,
    FrameKey,
    Inspection,
    Outcome,
    Reason,
    RegionVerdict,
    Roi,
    Score,
    Verdict,
)
from edge_inspector.sinks.archive import RejectArchive

HOSTILE = "<script>alert('x')</script>"
BOX = (120, 80, 14, 9)
FAILED = RegionVerdict("pads-r2c1", Outcome.FAIL, 7.25, "missing", BOX, "engine")
CALM = RegionVerdict("pads-r1c1", Outcome.PASS, 0.5)
DETAIL = "engine: missing in 'pads-r2c1' at x 120, y 80, 14 x 9 px, score 7.25"
RECIPE = {
    "product": "board",
    "version": 4,
    "latency_budget_ms": 100,
    "rules": {"bga": "rules.toml"},
    "mm_per_px": {"main": 0.05},
    "regions": [
        {"name": "pads", "rect": [0, 0, 64, 64], "rules": "bga", "grid": {"rows": 2, "columns": 1}}
    ],
}
STATION = {
    "station": "s1",
    "recipe": "recipe.toml",
    "store": "state",
    "archive": {"path": "rejects"},
    "sources": [{"type": "zmq-sub", "name": "a", "endpoint": "tcp://127.0.0.1:5598"}],
}


def verdict(number, outcome=Outcome.FAIL, **changes):
    values = {
        "unit_key": f"t:s1/0/{number}",
        "station": "s1",
        "outcome": outcome,
        "frames": (FrameKey("line", "e", number),),
        "recipe": "board",
        "recipe_version": 4,
        "trigger_id": number,
        "unit_id": f"U{number}",
    }
    if outcome is Outcome.FAIL:
        values |= {"defect_class": "missing", "anomaly_score": 7.25, "threshold": 5.0}
        values |= {"regions": (CALM, FAILED), "detail": DETAIL}
    elif outcome is Outcome.UNINSPECTED:
        values |= {"reason": Reason.NO_IMAGE, "detail": "no image of camera 'main'"}
    return Verdict(**values | changes)


def write(folder, verdicts):
    done = threading.Semaphore(0)
    outbox = Outbox(folder / "state")
    outbox.open(on_batch=lambda _, rows: done.release(len(rows)), on_fault=lambda _: done.release())
    for one in verdicts:
        outbox.commit(one)
    for _ in verdicts:
        assert done.acquire(timeout=10)
    outbox.close()


def keep_picture(folder, one):
    head = FrameHead(
        key=one.frames[0],
        station="s1",
        camera="main",
        recipe="board",
        arrived_ns=0,
        time_zero_ns=0,
        trigger_id=one.trigger_id,
        unit_id=one.unit_id,
    )
    crop = Crop(Roi("pads-r2c1", "main", (0, 32, 64, 32)), np.full((32, 64), 90, np.uint8), BOX)
    inspection = Inspection(outcome=Outcome.FAIL, regions=(FAILED,), anomaly_score=7.25)
    archive = RejectArchive(folder / "rejects", 10)
    archive.add(head, inspection, [crop], [Score(1.0, np.zeros((8, 16), np.uint8))])
    archive.close()


@pytest.fixture
def station(tmp_path):
    """A pass, a fail with a picture, a unit without image, and one with a hostile name."""
    (tmp_path / "recipe.toml").write_text(tomlkit.dumps(RECIPE))
    (tmp_path / "station.toml").write_text(tomlkit.dumps(STATION))
    hostile = verdict(4, unit_id=HOSTILE, serial="SN-4", detail=HOSTILE)
    failed = verdict(2)
    write(
        tmp_path,
        [verdict(1, Outcome.PASS), failed, verdict(3, Outcome.UNINSPECTED), hostile],
    )
    keep_picture(tmp_path, failed)
    return tmp_path / "station.toml"


@pytest.fixture
def report(station, capsys):
    def read(*given):
        assert main(["rejects", str(station), "--json", *given]) == 0
        return json.loads(capsys.readouterr().out)

    return read


def test_rejects_come_newest_first_and_the_passes_are_only_counted(report):
    found = report()
    assert [one["trigger_id"] for one in found["rejects"]] == [4, 3, 2]
    assert (found["units"], found["rejected"]) == (4, 3)
    assert found["causes"] == {"missing": 2, "no_image": 1}


def test_a_reject_has_its_place_in_px_and_mm_and_its_picture(report, tmp_path):
    (found,) = report("--unit", "U2")["rejects"]
    (place,) = found["regions"]
    assert (place["region"], place["camera"]) == ("pads-r2c1", "main")
    assert place["box_px"] == list(BOX)
    assert place["box_mm"] == [6.0, 4.0, 0.7, 0.45]
    assert (place["score"], place["threshold"]) == (7.25, 5.0)
    assert found["detail"] == DETAIL
    (picture,) = found["pictures"]
    assert cv2.imread(picture) is not None


@pytest.mark.parametrize("name", ["U2", "2", "t:s1/0/2"])
def test_a_unit_is_found_by_each_of_its_names(name, report):
    assert [one["vseq"] for one in report("--unit", name)["rejects"]] == [2]


def test_a_unit_is_found_by_its_serial(report):
    assert [one["vseq"] for one in report("--unit", "SN-4")["rejects"]] == [4]


def test_a_unit_that_passed_is_no_reject_and_one_that_never_came_is_misuse(report, station, capsys):
    found = report("--unit", "U1")
    assert (found["units"], found["rejects"]) == (1, [])
    assert main(["rejects", str(station), "--unit", "U99"]) == 2
    assert "no verdict of a unit 'U99'" in capsys.readouterr().err


def test_since_leaves_out_what_came_before(station, report):
    now = datetime.fromtimestamp(clock.utc_ns() / 1e9, tz=timezone.utc)
    write(station.parent, [verdict(5)])
    assert [one["trigger_id"] for one in report("--since", now.isoformat())["rejects"]] == [5]
    assert len(report("--since", "1h")["rejects"]) == 4


@pytest.mark.parametrize("text", ["yesterday", "5", "1y", "-3h"])
def test_a_time_that_is_none_is_misuse(text, station, capsys):
    assert main(["rejects", str(station), f"--since={text}"]) == 2
    assert "give 90s, 30m, 1h, 2d" in capsys.readouterr().err


def test_the_limit_shortens_what_is_shown_and_not_what_is_counted(report):
    found = report("--limit", "1")
    assert [one["trigger_id"] for one in found["rejects"]] == [4]
    assert (found["rejected"], found["causes"]["missing"]) == (3, 2)


class Reader(HTMLParser):
    """The text and the pictures of a page; every element that opens must close."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.images, self.tags = [], "", [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attrs)["src"])
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_holds_all_of_it_and_nothing_from_elsewhere(station, tmp_path, capsys):
    out = tmp_path / "rejects.html"
    assert main(["rejects", str(station), "--html", str(out), "--since", "1h"]) == 0
    assert f"{out} shows 3 of them" in capsys.readouterr().out
    page = out.read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    assert "script" not in reader.tags
    assert HOSTILE in reader.text
    assert "x 120, y 80 px (6, 4 mm)" in reader.text
    assert "14 x 9 px (0.7 x 0.45 mm)" in reader.text
    assert "fail (missing), score 7.25 against 5" in reader.text
    assert "3 of 4 units were not passed (75.00%)" in reader.text
    (image,) = reader.images
    content = base64.b64decode(image.removeprefix("data:image/jpeg;base64,"))
    assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) is not None
    assert not re.findall(r"https?://", page)


def test_lines_say_the_same_and_no_control_character_reaches_the_terminal(station, capsys):
    write(station.parent, [verdict(6, detail="cleared \x1b[2J screen")])
    assert main(["rejects", str(station)]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "pads-r2c1: missing  x 120, y 80 px (6, 4 mm)  14 x 9 px (0.7 x 0.45 mm)" in said
    assert "4 of 5 units were not passed: missing 3, no_image 1" in said


def test_what_a_classifier_said_is_told_with_its_probability_and_where_it_had_no_time(
    station, report, tmp_path, capsys
):
    named = msgspec.structs.replace(FAILED, defect_class="scratch", probability=0.875)
    unnamed = msgspec.structs.replace(FAILED, defect_class=None)
    write(
        tmp_path,
        [
            verdict(8, regions=(named,), defect_class="scratch"),
            verdict(9, regions=(unnamed,), defect_class=None, degraded=("classifier",)),
        ],
    )
    late, told = report("--limit", "2")["rejects"]
    assert (late["defect_class"], late["regions"][0]["defect_class"]) == (None, "unnamed")
    assert (late["degraded"], told["degraded"]) == (["classifier"], [])
    assert (told["regions"][0]["defect_class"], told["regions"][0]["probability"]) == (
        "scratch",
        0.875,
    )
    assert report()["causes"] == {"missing": 2, "scratch": 1, "unnamed": 1, "no_image": 1}
    out = tmp_path / "rejects.html"
    assert main(["rejects", str(station), "--html", str(out), "--since", "1h"]) == 0
    assert "pads-r2c1: scratch (probability 0.875)  x 120" in capsys.readouterr().out
    reader = Reader()
    reader.feed(out.read_text(encoding="utf-8"))
    assert "scratch (probability 0.875)" in reader.text
    assert "left out: classifier" in reader.text


def test_a_damaged_file_or_no_folder_of_pictures_hides_no_reject(station, report):
    for facts in (station.parent / "rejects").glob("*.json"):
        facts.write_text("{")
    assert [one["pictures"] for one in report()["rejects"]] == [[], [], []]
    station.write_text(tomlkit.dumps({k: v for k, v in STATION.items() if k != "archive"}))
    assert len(report()["rejects"]) == 3


def test_a_station_that_never_ran_says_so(tmp_path, station, capsys):
    station.write_text(tomlkit.dumps(STATION | {"store": "other"}))
    assert main(["rejects", str(station)]) == 3
    assert "give the store of a station that has run" in capsys.readouterr().err
