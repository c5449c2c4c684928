"""Recording a station: in its daemon's place and beside it, to the unit, whatever ends it."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager, suppress

import msgspec
import numpy as np
import pytest
import tomlkit

from edge_inspector import clock
from edge_inspector.cli.record import words
from edge_inspector.client import FrameSource, Publisher
from edge_inspector.errors import Breakage, Misuse, StoreFault
from edge_inspector.outbox.log import Lock, Log
from edge_inspector.records import Baseline, Outcome, Reason
from edge_inspector.studies.harness import Station, free_port
from edge_inspector.studies.record import default_folder, record_station
from edge_inspector.studies.recorded import read_recorded
from tests.integration.conftest import GOOD, write_recipe

RNG = np.random.default_rng(6)
IMAGES = [RNG.integers(0, 256, (24, 32), dtype=np.uint8) for _ in range(40)]


@pytest.fixture
def endpoint():
    return f"tcp://127.0.0.1:{free_port()}"


@pytest.fixture
def station(tmp_path, endpoint):
    """Writes station.toml with sources of these types at `endpoint`; there is no recipe yet."""

    def write(*kinds, **changes):
        sources = [
            {"type": kind, "name": f"line{n}", "endpoint": endpoint} | changes.pop(f"source{n}", {})
            for n, kind in enumerate(kinds or ("zmq-pull",))
        ]
        path = tmp_path / "station.toml"
        frames = {"max_bytes": 65536, "slots": 8}
        values = {"station": "st1", "recipe": "recipe.toml", "sources": sources, "frames": frames}
        path.write_text(tomlkit.dumps(values | changes))
        return path

    return write


@contextmanager
def publishing(endpoint, *, first=1, rate_hz=200.0, **keys):
    """A line that runs until it is left: a unit's picture is told by its number."""
    over = threading.Event()

    def run():
        number = first
        with Publisher(endpoint, timeout_ms=200) as line:
            while not over.wait(1 / rate_hz):
                said = "fail:dent" if number % 5 == 0 else "pass"
                image = IMAGES[number % len(IMAGES)]
                with suppress(Breakage):  # nobody is there yet, or any more
                    line.send(image, trigger_id=number, incumbent=said, **keys)
                    number += 1

    thread = threading.Thread(target=run)
    thread.start()
    yield
    over.set()
    thread.join()


def test_units_come_with_all_that_was_said_of_them(station, endpoint, tmp_path):
    out, ticks = tmp_path / "out", []
    with publishing(endpoint):
        report = record_station(station(), out, 12, tick=lambda it: ticks.append(it.units))
    assert (report.units, report.frames, report.beside_daemon) == (12, 12, False)
    assert ticks == list(range(1, 13))
    frames = read_recorded(out)
    assert [frame.trigger_id for frame in frames] == list(range(1, 13))
    for number, frame in enumerate(frames, start=1):
        assert np.array_equal(frame.pixels(), IMAGES[number])
        said = Baseline(Outcome.PASS) if number % 5 else Baseline(Outcome.FAIL, "dent")
        assert frame.incumbent == said
        assert frame.unit_key == f"t:st1/0/{number}"


def test_it_goes_on_after_an_end_and_counts_what_is_there(station, endpoint, tmp_path):
    path, out = station(), tmp_path / "out"
    with publishing(endpoint):
        record_station(path, out, 4)
    with publishing(endpoint, first=100):
        assert record_station(path, out, 10).units == 10
    triggers = [frame.trigger_id for frame in read_recorded(out)]
    assert triggers == [1, 2, 3, 4, *range(100, 106)]
    assert record_station(path, out, 10, patience_s=0.1).frames == 10  # nothing is opened at all


def test_a_unit_is_whole_with_the_frames_of_every_camera(station, endpoint, tmp_path):
    sources = {"source0": {"camera": "top"}, "source1": {"camera": "side", "type": "zmq-rep"}}
    other = f"tcp://127.0.0.1:{free_port()}"
    sources["source1"]["endpoint"] = other
    path = station("zmq-pull", "zmq-rep", **sources)
    replies = []

    def side():
        with Publisher(other, "req", timeout_ms=20_000) as line:
            for n in range(1, 4):
                replies.append(line.send(IMAGES[n], trigger_id=n))

    thread = threading.Thread(target=side)
    with publishing(endpoint, rate_hz=20):
        thread.start()
        report = record_station(path, tmp_path / "out", 3, patience_s=5)
    thread.join()
    assert (report.units, report.frames) == (3, 6)
    assert replies == ["OK"] * 3


def test_an_assured_source_hears_that_nothing_was_judged(station, endpoint, tmp_path):
    path = station("assured")
    with FrameSource(endpoint, name="line0", budget_ms=20_000) as source:
        numbers = [source.offer(IMAGES[n], trigger_id=n, incumbent="pass") for n in (1, 2, 3)]
        report = record_station(path, tmp_path / "out", 3, patience_s=5)
        settled = source.records()
    assert report.units == 3
    done = [settled[number] for number in numbers if number in settled]
    assert len(done) >= 2  # the last may still be on its way when recording ends
    for one in done:
        assert (one.outcome, one.reason) == (Outcome.UNINSPECTED, Reason.ABORTED)
        assert "recorded, not judged" in one.detail


def test_cameras_and_recipes_need_no_recipe_yet(station, endpoint, tmp_path):
    with publishing(endpoint, camera="left", recipe="soon"):
        report = record_station(station(), tmp_path / "out", 2)
    assert report.units == 2
    assert {frame.camera for frame in read_recorded(tmp_path / "out")} == {"left"}


def test_frames_that_cannot_be_kept_are_counted_by_their_cause(station, endpoint, tmp_path):
    path = station()

    def run():
        with Publisher(endpoint, timeout_ms=20_000) as line:
            line.send(b"\x89PNG\r\n\x1a\n" + b"rubbish" * 9, trigger_id=1)
            line.send(IMAGES[0], trigger_id=2, incumbent="maybe")
            line.send(IMAGES[0], trigger_id=3)

    thread = threading.Thread(target=run)
    thread.start()
    report = record_station(path, tmp_path / "out", 1)
    thread.join()
    assert report.units == 1
    assert report.counts["bad_input"] == 2


def test_a_source_from_which_nothing_comes_is_named(station, tmp_path):
    with pytest.raises(Misuse, match=r"no frame to keep came for 0\.3 s from source line0"):
        record_station(station(), tmp_path / "out", 1, patience_s=0.3)


def test_a_camera_that_is_not_there_is_said(station, tmp_path):
    missing = {"type": "camera", "name": "cam", "uri": "/dev/video77", "reconnect_ms": 10}
    path = station(sources=[missing])
    with pytest.raises(Misuse, match="last trouble: camera '/dev/video77' cannot be opened"):
        record_station(path, tmp_path / "out", 1, patience_s=3)


def test_a_port_that_is_taken_is_said(station, endpoint, tmp_path):
    port = int(endpoint.rpartition(":")[2])
    with socket.socket() as held:
        held.bind(("127.0.0.1", port))
        held.listen()
        with pytest.raises((Misuse, Breakage), match=str(port)):
            record_station(station(), tmp_path / "out", 1, patience_s=5)


@pytest.mark.parametrize(("units", "quota"), [(0, 1.0), (1, 0.0)])
def test_a_wish_that_makes_no_sense_is_refused(station, tmp_path, units, quota):
    with pytest.raises(Misuse, match="record 1 unit or more, above 0 GiB"):
        record_station(station(), tmp_path / "out", units, quota_gib=quota)


def test_no_daemon_starts_while_it_has_the_sources(station, tmp_path):
    path, locked = station(), []

    def meanwhile():
        try:
            Lock(tmp_path / "state").release()
        except StoreFault as fault:
            locked.append(str(fault))

    timer = threading.Timer(0.3, meanwhile)
    timer.start()
    with pytest.raises(Misuse, match="no frame to keep came"):
        record_station(path, tmp_path / "out", 1, patience_s=1.0)
    timer.join()
    assert len(locked) == 1
    assert "is in use by process" in locked[0]
    Lock(tmp_path / "state").release()


def test_control_c_ends_it_in_order_and_it_goes_on_after(station, endpoint, tmp_path, capsys):
    path = station()
    command = [sys.executable, "-m", "edge_inspector.cli.main", "record", str(path)]
    process = subprocess.Popen(
        [*command, "--units", "100000", "--json"], stdout=subprocess.PIPE, text=True
    )
    table = default_folder(path) / "frames.csv"
    with publishing(endpoint):
        give_up_ns = clock.now_ns() + 20 * 10**9
        while not (table.exists() and len(table.read_bytes().splitlines()) > 5):
            assert clock.now_ns() < give_up_ns
            threading.Event().wait(0.05)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    report = json.loads(said)
    assert report["interrupted"]
    frames = read_recorded(default_folder(path))
    assert len(frames) == report["frames"] >= 5
    assert not list((default_folder(path) / "frames").glob("*.tmp"))


@pytest.fixture
def running(tmp_path, tiny_engine):
    """A daemon with the tiny engine, and where its frames go."""
    frames = f"tcp://127.0.0.1:{free_port()}"
    settings = {
        "station": "st1",
        "recipe": str(write_recipe(tmp_path, tiny_engine)),
        "sources": [{"type": "zmq-pull", "name": "line", "endpoint": frames}],
        "frames": {"max_bytes": 65536, "slots": 8},
    }
    with Station(tmp_path / "box", settings) as daemon:
        yield daemon, frames


def test_beside_a_daemon_every_unit_still_gets_its_verdict(running):
    daemon, frames = running
    count, step = 0, threading.Event()
    given = ["record", str(daemon.path), "--units", "25", "--json", "--patience", "9"]
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_inspector.cli.main", *given], stdout=subprocess.PIPE
    )
    with Publisher(frames) as line:
        while process.poll() is None:
            count += 1
            line.send(GOOD, trigger_id=count, incumbent="pass")
            step.wait(0.01)
    assert process.stdout is not None
    with process.stdout as said:
        report = json.loads(said.read())
    assert process.returncode == 0
    assert (report["units"], report["beside_daemon"]) == (25, True)
    recorded = read_recorded(default_folder(daemon.path))
    assert {frame.incumbent for frame in recorded} == {Baseline(Outcome.PASS)}
    assert all(np.array_equal(frame.pixels(), GOOD) for frame in recorded)
    daemon.stop()
    log = Log(daemon.path.parent / "state")
    verdicts = [row.verdict for row in log.read(1, count + 1)]
    assert {verdict.trigger_id for verdict in verdicts} == set(range(1, count + 1))
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    assert outcomes[Outcome.FAIL] == 0
    assert outcomes[Outcome.PASS] >= 0.9 * count  # a box that does other things may be late
    assert not (daemon.path.parent / "state" / "tap.sock").exists()


def test_the_words_say_what_was_recorded_and_what_was_not(station, endpoint, tmp_path, capsys):
    with publishing(endpoint):
        report = record_station(station(), tmp_path / "out", 6)
    report = msgspec.structs.replace(report, counts={"dropped": 2}, interrupted=True)
    assert words(report) == [
        f"6 units, 6 frames in {tmp_path / 'out'} (from the sources)",
        "the incumbent's verdicts: 1 fail, 5 pass",
        "not recorded: 2 dropped",
        "interrupted; run the same command again to go on",
    ]


def test_wrong_use_is_one_line(tmp_path):
    given = ["record", str(tmp_path / "none.toml"), "--units", "1"]
    command = [sys.executable, "-m", "edge_inspector.cli.main", *given]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "none.toml" in done.stderr
