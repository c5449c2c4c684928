import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_inspector.records import FrameHead, FrameKey
from edge_inspector.studies.recorded import Recording

pytestmark = pytest.mark.timeout(180)
pytest.importorskip("torch", reason="teach needs torch")

STATION = """station = "t"
recipe = "recipe.toml"
[[sources]]
name = "s"
type = "zmq-pull"
endpoint = "ipc://{folder}/frames.sock"
"""


def teach(folder, *words, **more):
    """The verb as a user runs it: a process of its own, whose priority is its own too."""
    command = [sys.executable, "-m", "edge_inspector.cli.main", "teach", folder / "station.toml"]
    return subprocess.Popen(
        [str(word) for word in (*command, "--product", "four", *words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        **more,
    )


def station(folder, count):
    """A station without a recipe, and units recorded beside it: one ball on a moving body."""
    (folder / "station.toml").write_text(STATION.format(folder=folder), encoding="utf-8")
    rng = np.random.default_rng(1)
    with Recording(folder / "recorded", count, quota_bytes=1 << 30, reserve_bytes=0) as recording:
        for number in range(count):
            head = FrameHead(
                key=FrameKey("s", "1", number),
                station="t",
                camera="main",
                recipe="",
                arrived_ns=0,
                time_zero_ns=number,
                trigger_id=number,
            )
            recording.add(head, ball(rng))
    return folder


def ball(rng):
    """One ball that lies a little differently each time."""
    pixels = rng.normal(40, 2, (72, 72)).astype(np.float32)
    x, y = ((36 + rng.normal(0, 0.5, 2)) * 16).round().astype(int)
    cv2.circle(pixels, (int(x), int(y)), 160, 200, -1, cv2.LINE_AA, 4)
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    return station(tmp_path_factory.mktemp("line"), 50)


def test_one_command_leads_to_a_recipe_that_observes(line):
    child = teach(line, "--steps", 60, "--overkill", 0.1, "--brisk", "--json")
    out, err = child.communicate(timeout=150)
    assert child.returncode == 0, err
    report = json.loads(out)
    assert report["units"]["calibrate"] == 25
    assert Path(report["sheet"]).is_file()
    assert "observe = true" in (line / "recipe.toml").read_text()
    assert "teaching" in err


def test_a_second_look_drops_a_unit(line):
    child = teach(line, "--steps", 60, "--overkill", 0.1, "--brisk", "--drop", "no-such-unit")
    _, err = child.communicate(timeout=90)
    assert child.returncode == 2
    assert "--drop no-such-unit: none of 50 units" in err
    assert "Traceback" not in err


def test_without_a_recording_it_records_the_line_first(tmp_path):
    rng = np.random.default_rng(2)
    (tmp_path / "live").mkdir()
    for number in range(40):
        cv2.imwrite(str(tmp_path / "live" / f"{number:03d}.png"), ball(rng))
    source = f'type = "folder"\nuri = "file://{tmp_path}/live"\nrate_hz = 100\nrepeat = true'
    text = STATION.format(folder=tmp_path).partition("type")[0] + source + "\n"
    (tmp_path / "station.toml").write_text(text, encoding="utf-8")
    child = teach(tmp_path, "--units", 40, "--steps", 40, "--overkill", 0.1, "--brisk")
    out, err = child.communicate(timeout=150)
    assert child.returncode == 0, err
    assert "OBSERVES" in out
    assert len(list((tmp_path / "recorded" / "frames").glob("*.png"))) == 40


def test_three_units_are_wrong_use(tmp_path):
    child = teach(station(tmp_path, 3), "--brisk")
    _, err = child.communicate(timeout=90)
    assert child.returncode == 2
    assert "3 good units of 3 recorded; teaching needs 20" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [(("--overkill", "1.5"), "--overkill 1.5; it must lie"), (("--units", "0"), "--units 0; it")],
)
def test_wrong_numbers_are_told_at_once(words, told, tmp_path):
    child = teach(tmp_path, *words)
    _, err = child.communicate(timeout=90)
    assert (child.returncode, told in err) == (2, True)


def test_ctrl_c_keeps_what_was_learned_and_says_how_to_go_on(tmp_path):
    child = teach(station(tmp_path, 50), "--steps", 100_000, "--minutes", 5, "--brisk")
    wait_for(lambda: "teaching" in child.stderr.readline())
    time.sleep(2)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=90)
    assert child.returncode == 130
    assert "run the same again" in err
    assert not (tmp_path / "recipe.toml").exists()
    assert list(tmp_path.glob("engines/*/1.part/checkpoint"))


def test_it_gives_way_to_everything_else(tmp_path):
    child = teach(station(tmp_path, 50))
    try:
        taught = descendant(child.pid)
        wait_for(lambda: os.sched_getscheduler(taught) == os.SCHED_IDLE)
        assert os.getpriority(os.PRIO_PROCESS, taught) == 19
        assert os.getsid(taught) == taught
        groups = [Path(f"/proc/{pid}/autogroup") for pid in (taught, child.pid)]
        if groups[0].exists():
            assert "nice 19" in groups[0].read_text()
            assert "nice 19" not in groups[1].read_text()
    finally:
        child.kill()
        child.communicate()


def test_its_own_session_is_told_of_ctrl_c_and_gives_its_status_back():
    child = subprocess.Popen([sys.executable, "-c", OWN_SESSION], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    assert child.wait(10) == 7
    child.communicate()


OWN_SESSION = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
from edge_inspector.cli.own_session import own_session
status = own_session()
if status is not None:
    sys.exit(status)
try:
    print("ready", flush=True)
    time.sleep(20)
except KeyboardInterrupt:
    sys.exit(7)
"""


def descendant(parent):
    """The child that `own_session` forked."""
    children = Path(f"/proc/{parent}/task/{parent}/children")
    wait_for(lambda: children.read_text())
    return int(children.read_text().split()[0])


def wait_for(condition):
    until = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)
