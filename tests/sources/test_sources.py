"""Folder and camera sources, run in this process."""

import threading

import cv2
import numpy as np
import pytest
import zmq

from edge_inspector import clock, settings
from edge_inspector.errors import Misuse
from edge_inspector.importer import choose
from edge_inspector.records import Reason
from edge_inspector.sources import SOURCES
from edge_inspector.sources.arrival import Arrival, Surroundings
from edge_inspector.sources.camera import CameraSource
from edge_inspector.sources.folder import FolderSource, unit_id_of
from edge_inspector.sources.pace import Pace
from edge_inspector.wire.layout import Layout


@pytest.fixture
def around():
    with zmq.Context() as context:
        yield Surroundings(
            context=context,
            recipe="board",
            cameras=frozenset({"main"}),
            recipes=frozenset({"board"}),
            max_bytes=1_000_000,
            max_pixels=100_000,
            count=lambda source, kind: None,
        )


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "line.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 50, (64, 48))
    for level in (10, 90, 170):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    return path


def folder_source(around, path, **keys):
    values = {"type": "folder", "name": "f", "uri": path.as_uri(), "rate_hz": 200, **keys}
    return FolderSource(settings.FolderSource(**values), around)


def camera_source(around, uri, **keys):
    values = {"type": "camera", "name": "c", "uri": uri, "reconnect_ms": 10, **keys}
    return CameraSource(settings.CameraSource(**values), around)


def all_of(source):
    """What a source offers until it ends by itself."""
    arrivals: list[Arrival] = []
    source.run(arrivals.append)
    return arrivals


def run_until(source, enough, timeout_s=10):
    """What a source offers until there are `enough`; it must then stop within a second."""
    arrivals: list[Arrival] = []
    done = threading.Event()

    def offer(arrival):
        arrivals.append(arrival)
        if len(arrivals) >= enough:
            done.set()

    thread = threading.Thread(target=source.run, args=(offer,))
    thread.start()
    assert done.wait(timeout_s), f"only {len(arrivals)} of {enough}"
    source.stop()
    thread.join(1)
    assert not thread.is_alive()
    return arrivals


def test_every_source_of_the_table_can_be_loaded():
    for name in SOURCES:
        assert callable(choose(SOURCES, name, "source"))


def test_images_come_in_order_of_their_names_as_they_are(tmp_path, around):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for name in ("b.png", "a.jpg", "c.tif", "d.BMP"):
        cv2.imwrite(str(tmp_path / name), image)
    (tmp_path / "notes.txt").write_text("no image")
    arrivals = all_of(folder_source(around, tmp_path))
    assert [a.identity.unit_id for a in arrivals] == ["a.jpg", "b.png", "c.tif", "d.BMP"]
    assert [a.layout.codec for a in arrivals] == ["jpeg", "png", "raw", "raw"]
    assert bytes(arrivals[1].pixels) == (tmp_path / "b.png").read_bytes()
    assert bytes(arrivals[2].pixels) == image.tobytes()
    assert arrivals[2].layout == Layout("raw", "bgr8", 20, 30, 3)


def test_a_damaged_image_is_bad_input_and_the_next_one_comes(tmp_path, around):
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((20, 30), np.uint8))
    (tmp_path / "a.png").write_bytes((tmp_path / "b.png").read_bytes()[:40])
    (tmp_path / "aa.bmp").write_bytes(b"")
    cv2.imwrite(str(tmp_path / "c.bmp"), np.zeros((400, 300), np.uint8))
    arrivals = all_of(folder_source(around, tmp_path))
    bad = Reason.BAD_INPUT
    assert [a.fault for a in arrivals] == [bad, bad, None, bad]
    assert "100000 pixels" in arrivals[3].detail


def test_a_second_turn_shows_other_units(tmp_path, around):
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((4, 4), np.uint8))
    arrivals = run_until(folder_source(around, tmp_path, repeat=True), 4)
    assert [a.identity.unit_id for a in arrivals[:4]] == ["a.png", "b.png", "a.png#2", "b.png#2"]


def test_long_names_stay_apart():
    names = [unit_id_of("x" * 70 + tail) for tail in ("1.png", "2.png")]
    assert names[0] != names[1]
    assert all(len(name) <= 64 for name in names)
    assert unit_id_of("a\nb") == unit_id_of("a\nb") != unit_id_of("a\tb")


@pytest.mark.parametrize("what", ["empty folder", "nothing", "not a file URI", "no video"])
def test_a_folder_that_cannot_serve_is_refused_at_the_start(tmp_path, around, what):
    uri = {
        "empty folder": tmp_path.as_uri(),
        "nothing": (tmp_path / "none").as_uri(),
        "not a file URI": "http://host/images",
        "no video": (tmp_path / "notes.avi").as_uri(),
    }[what]
    if what == "no video":
        (tmp_path / "notes.avi").write_text("no video")
    with pytest.raises(Misuse):
        FolderSource(settings.FolderSource(type="folder", name="f", uri=uri), around)


def test_the_rate_does_not_drift():
    """Thirty waits of 10 ms with work in between take 290 ms, not 290 ms and the work."""
    pace, begun = Pace(100, threading.Event()), clock.now_ns()
    for _ in range(30):
        assert pace.wait()
        threading.Event().wait(0.004)
    assert 0.29 <= (clock.now_ns() - begun) / 1e9 < 0.29 + 0.11


def test_frames_of_a_video_are_units(video, around):
    arrivals = all_of(folder_source(around, video))
    assert [a.identity.unit_id for a in arrivals] == [f"line.avi/{n}" for n in (1, 2, 3)]
    assert [round(np.mean(a.pixels) / 80) for a in arrivals] == [0, 1, 2]


def test_a_camera_gives_frames_that_no_id_ties_to_a_unit(video, around):
    arrivals = all_of(camera_source(around, video.as_uri()))
    assert [a.identity.unit_id for a in arrivals] == [None] * 3
    assert {a.layout for a in arrivals} == {Layout("raw", "bgr8", 48, 64, 3)}


def test_a_video_plays_at_its_own_rate(video, around):
    begun_ns = clock.now_ns()
    arrivals = all_of(camera_source(around, video.as_uri()))
    assert (arrivals[2].arrived_ns - begun_ns) / clock.NS_PER_MS >= 40


def test_each_turn_of_a_repeated_video_is_a_connection_of_its_own(video, around):
    arrivals = run_until(camera_source(around, video.as_uri(), repeat=True, rate_hz=500), 6)
    assert [a.fault for a in arrivals[:6]] == [None] * 6
    assert len({a.epoch for a in arrivals[:6]}) == 2


def test_a_camera_that_is_away_is_said_once_and_tried_again(tmp_path, video, around):
    """The device appears under its name while the source waits for it."""
    away = tmp_path / "later.avi"
    source = camera_source(around, away.as_uri(), repeat=True)
    arrivals: list[Arrival] = []
    seen = threading.Event()

    def offer(arrival):
        arrivals.append(arrival)
        if arrival.fault is None:
            seen.set()
        elif not away.exists():
            threading.Timer(0.1, video.rename, [away]).start()

    thread = threading.Thread(target=source.run, args=(offer,))
    thread.start()
    assert seen.wait(10)
    source.stop()
    thread.join(2)
    assert arrivals[0].fault is Reason.CAMERA_FAULT
    assert "cannot be opened" in arrivals[0].detail
    assert [a.fault for a in arrivals[1:]] == [None] * (len(arrivals) - 1)


def test_frames_of_a_camera_above_the_cap_are_bad_input(tmp_path, around):
    path = tmp_path / "large.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 50, (640, 480))
    writer.write(np.zeros((480, 640, 3), np.uint8))
    writer.release()
    arrivals = all_of(camera_source(around, path.as_uri()))
    assert [a.fault for a in arrivals] == [Reason.BAD_INPUT]
