"""What a probe says of publishers, cameras and folders, and what it says when nobody is there."""

import json
import socket
import threading
from contextlib import contextmanager

import cv2
import imagezmq
import numpy as np
import pytest

from edge_inspector import clock
from edge_inspector.cli.main import main
from edge_inspector.client import FrameSource, Publisher
from edge_inspector.errors import Breakage, Misuse
from edge_inspector.recipe import load_recipe
from edge_inspector.settings import load_settings
from edge_inspector.studies.check import findings
from edge_inspector.studies.findings import Station
from edge_inspector.studies.harness import free_port
from edge_inspector.studies.probe import probe
from edge_inspector.studies.probe_words import found, missing, station_toml
from tests.integration.conftest import write_recipe

IMAGE = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64).astype(np.uint8)


@pytest.fixture
def endpoint():
    return f"tcp://127.0.0.1:{free_port()}"


@contextmanager
def publishing(endpoint, kind, rate_hz=100.0, **keys):
    """A line at rest until somebody takes its frames."""
    over = threading.Event()

    def run():
        with Publisher(endpoint, kind, timeout_ms=300) as line:
            number = 0
            while not over.wait(1 / rate_hz):
                number += 1
                told = {name: value(number) for name, value in keys.items()}
                try:
                    line.send(IMAGE, **told)
                except Breakage:
                    if kind == "req":
                        return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


FULL = {
    "trigger_id": lambda n: n,
    "unit_id": lambda n: f"u{n}",
    "captured_ns": lambda n: clock.utc_ns(),
    "incumbent": lambda n: "pass",
}


@pytest.mark.parametrize(("kind", "type_"), [("push", "zmq-pull"), ("pub", "zmq-sub")])
def test_a_publisher_is_found_out(endpoint, kind, type_):
    with publishing(endpoint, kind, **FULL):
        begun_ns = clock.now_ns()
        probed = probe(endpoint, 2.5)
        assert (clock.now_ns() - begun_ns) / 1e9 < 4
    assert probed.source["type"] == type_
    assert probed.formats.keys() == {"64 x 48 mono8 raw"}
    assert probed.ids == dict.fromkeys(
        ("unit_id", "trigger_id", "seq", "captured_ns", "incumbent"), 1.0
    )
    assert probed.rate_hz is not None
    assert 20 < probed.rate_hz < 120
    assert 5 < probed.interval_ms["p50"] <= probed.interval_ms["p99"]
    assert probed.age_ms is not None
    assert 0 <= probed.age_ms < 500
    (plain,) = missing(probed)
    assert "PLAIN tier" in plain
    assert any("captured_ns in 100%" in line for line in found(probed))


def test_a_publisher_that_waits_for_an_answer_gets_one(endpoint):
    replies: list[bytes] = []

    def run():
        with imagezmq.ImageSender(connect_to=endpoint) as sender:
            replies.extend(sender.send_image("top", IMAGE) for _ in range(3))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    probed = probe(endpoint, 4)
    thread.join()
    assert probed.source["type"] == "zmq-rep"
    assert (probed.frames, probed.cameras, replies) == (3, {"top": 3}, [b"OK"] * 3)
    assert next(missing(probed)).startswith("ADVISORY")


def test_frames_without_ids_are_said_to_be_advisory_first(endpoint):
    with publishing(endpoint, "push", captured_ns=lambda n: clock.utc_ns() - 3_600 * 10**9):
        probed = probe(endpoint, 1.5)
    said = list(missing(probed))
    assert said[0].startswith("ADVISORY: no frame has a trigger_id")
    assert any("3600 s off this box's clock" in line for line in said)
    assert "clock" not in station_toml(probed)


def test_bad_frames_are_said_with_their_reason(endpoint):
    with publishing(endpoint, "push", incumbent=lambda n: "pass" if n % 2 else "maybe"):
        probed = probe(endpoint, 1.5, "zmq-pull")
    assert probed.faults["bad_input"] > 0
    assert any("incumbent 'maybe'" in line for line in found(probed))
    with (
        publishing(endpoint, "push", incumbent=lambda n: "maybe"),
        pytest.raises(Breakage, match="that can be used: incumbent 'maybe'"),
    ):
        probe(endpoint, 1.5, "zmq-pull")


def test_a_publisher_that_is_not_there_is_one_sentence_in_time(endpoint, capsys):
    begun_ns = clock.now_ns()
    assert main(["probe", endpoint, "--seconds", "1"]) == 3
    assert (clock.now_ns() - begun_ns) / 1e9 < 2.5
    (said,) = capsys.readouterr().err.splitlines()
    assert f"nothing came from {endpoint} within 1 s: nobody listens there" in said


def test_a_source_of_the_other_tier_is_named(endpoint):
    with (
        FrameSource(endpoint, name="camera-node"),
        pytest.raises(Breakage, match=r"a DEALER socket connects.*a source of type 'assured'"),
    ):
        probe(endpoint, 5)


def test_one_that_listens_and_is_silent_is_not_bound_over(tmp_path):
    path = tmp_path / "frames.sock"
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(path))
        held.listen()
        inode = path.stat().st_ino
        with pytest.raises(Breakage, match="somebody listens there but publishes nothing"):
            probe(f"ipc://{path}", 0.5)
        assert path.stat().st_ino == inode


def test_a_camera_that_is_not_there_is_one_sentence(capsys):
    begun_ns = clock.now_ns()
    assert main(["probe", "/dev/video77", "--seconds", "5"]) == 3
    assert (clock.now_ns() - begun_ns) / 1e9 < 4
    said = capsys.readouterr().err.splitlines()
    assert "camera '/dev/video77' cannot be opened" in said[-1]


def test_a_folder_says_what_is_in_it(tmp_path):
    for n, side in enumerate((16, 16, 32)):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.zeros((side, side), np.uint8))
    (tmp_path / "3.png").write_bytes(b"rubbish")
    probed = probe(str(tmp_path), 3)
    assert probed.formats == {"16 x 16 bgr8 png": 2, "32 x 32 bgr8 png": 1}
    assert (probed.frames, probed.rate_hz, probed.faults) == (3, None, {"bad_input": 1})
    assert list(missing(probed)) == [
        "a folder has no rate and no clock of its own: good for trying out, not for a line"
    ]


@pytest.mark.parametrize("uri", ["nowhere", "udp://1.2.3.4:5", "tcp://127.0.0.1", "tcp://h:port"])
def test_what_is_no_uri_is_refused(uri):
    with pytest.raises(Misuse, match=r"is no file and starts with|write tcp://address:port"):
        probe(uri, 1)


def test_the_station_to_start_from_is_taken_by_check_up_to_its_recipe(
    endpoint, tmp_path, tiny_engine, capsys
):
    out = tmp_path / "station.toml"
    with publishing(endpoint, "push", **FULL):
        assert main(["probe", endpoint, "--seconds", "1.5", "--json", "--out", str(out)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["ids"]["trigger_id"] == 1.0
    settings = load_settings(out)
    assert settings.sources[0].model_dump()["clock"] == "same-host"
    assert settings.frames.max_bytes == 1024 * 1024
    assert main(["check", str(out)]) == 2
    assert "recipe.toml" in capsys.readouterr().err
    write_recipe(tmp_path, tiny_engine)
    station = Station(settings, load_recipe(settings.recipe))
    assert [one.detail for one in findings(station) if one.level == "FAIL"] == []
    assert main(["probe", endpoint, "--out", str(out)]) == 2
    assert "exists" in capsys.readouterr().err
