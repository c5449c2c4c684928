"""What a station does when its disk is full, its documents are wrong or its worker hangs."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import apsw
import numpy as np
import psutil
import pytest

from edge_inspector import clock
from edge_inspector.cli.run import EXIT_REFUSED
from edge_inspector.client import Publisher
from edge_inspector.daemon import EXIT_STORE_FAULT
from edge_inspector.errors import Breakage
from edge_inspector.outbox.log import NAME, Log
from edge_inspector.records import Outcome, Reason
from edge_inspector.settings import process_environment
from tests.integration.conftest import GOOD
from tests.integration.test_kills import Source, child

pytestmark = pytest.mark.fault

DISK_MIB = 64
"""The log's two files take 8 MiB each from the start, and as much again at the next."""
BIG = np.full((64, 64), 100, np.uint8)
RECOVERY_S = 5.0


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own that a test may fill."""
    place = tmp_path / "disk"
    place.mkdir()
    size = f"size={DISK_MIB}m"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"a full disk is not tried: no small file system: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(folder):
    """A file that takes all that is free."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            return filler


def told_of(line, pixels, unit_id):
    """The verdict that came as the reply."""
    reply = line.send(pixels, unit_id=unit_id)
    assert reply is not None
    return json.loads(reply)


def send_until_nobody_answers(line, told):
    for number in itertools.count(1):
        try:
            told[f"u{number}"] = told_of(line, BIG, f"u{number}")
        except Breakage:
            return


def until_exited(bench, seconds=10.0):
    core = psutil.Process(bench.station.pid)
    give_up_ns = clock.now_ns() + int(seconds * 1e9)
    while core.status() != psutil.STATUS_ZOMBIE:
        assert clock.now_ns() < give_up_ns, bench.station.log_tail()
        threading.Event().wait(0.02)


def run_to_the_end(path):
    """`run` of a station that is not expected to serve: exit status and what it said."""
    command = [sys.executable, "-m", "edge_inspector.cli.main", "run", str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=30, env=process_environment({})
    )
    return done.returncode, done.stdout + done.stderr


def open_units(bench):
    """Frames that were accepted and have no verdict."""
    connection = apsw.Connection(str(bench.folder / "state" / NAME))
    try:
        return connection.execute("SELECT count(*) FROM accepted").get
    finally:
        connection.close()


def said_ready(text):
    return any(json.loads(line)["event"] == "ready" for line in text.splitlines() if line[0] == "{")


def many_regions():
    """Verdicts of some 30 KB, so that a disk is full within seconds."""
    return {
        "latency_budget_ms": 2000.0,
        "regions": [
            {
                "name": "whole".ljust(64, "-"),
                "rect": [0, 0, 64, 64],
                "engine": "tiny",
                "grid": {"rows": 16, "columns": 16},
            }
        ],
    }


def test_a_full_disk_is_named_loses_nothing_and_is_over_when_space_is_free(small_disk, open_bench):
    bench = open_bench(
        source="zmq-rep",
        recipe=many_regions(),
        reply="verdict",
        store=str(small_disk / "state"),
    )
    told = {}
    with Publisher(bench.frames, "req", timeout_ms=3000) as line:
        told["u0"] = told_of(line, BIG, "u0")
        filler = fill(small_disk)
        send_until_nobody_answers(line, told)
    until_exited(bench)
    assert bench.station.stop() == EXIT_STORE_FAULT
    last = bench.log().splitlines()[-1]
    assert str(small_disk / "state" / NAME) in last
    assert "full; free space on its disk" in last
    assert "Traceback" not in bench.log()
    with pytest.raises(Breakage, match="free space on its disk"):
        bench.station.start()
    filler.unlink()
    bench.station.start()
    with Publisher(bench.frames, "req") as line:
        assert told_of(line, BIG, "after")["outcome"] == "pass"
    assert bench.station.stop() == 0
    log = Log(small_disk / "state")
    written = {row.verdict.unit_id: row.verdict.outcome.value for row in log.read(1, 10**6)}
    print(f"full after {len(told)} units; {len(written)} verdicts in the log")
    assert len(told) > 50
    assert {unit: answer["outcome"] for unit, answer in told.items()}.items() <= (written.items())
    assert log.verify().problems == ()
    log.close()


def test_wrong_documents_end_with_78_and_one_line(bench):
    bench.station.stop()
    text = bench.station.path.read_text(encoding="utf-8")
    bench.station.path.write_text("sttion = 1\n" + text, encoding="utf-8")
    status, said = run_to_the_end(bench.station.path)
    assert status == EXIT_REFUSED
    assert len(said.splitlines()) == 1
    assert "station.toml:1" in said
    assert "sttion" in said


def test_a_damaged_engine_ends_with_78_says_which_file_and_is_never_ready(bench, tiny_engine):
    bench.station.stop()
    model = tiny_engine / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    status, said = run_to_the_end(bench.station.path)
    assert status == EXIT_REFUSED
    assert "model.onnx" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert not said_ready(said)


def test_a_stop_is_heard_while_the_workers_do_not_get_ready(bench):
    bench.station.stop()
    command = [sys.executable, "-m", "edge_inspector.cli.main", "run", str(bench.station.path)]
    core = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=process_environment({}))
    while (worker := child(core.pid, "edge_inspector.worker")) is None:
        threading.Event().wait(0.01)
    worker.suspend()
    core.terminate()
    _, said = core.communicate(timeout=10)
    assert core.returncode == 0
    assert not said_ready(said)


def test_a_second_daemon_on_one_store_is_told_whose_it_is(bench, listener, publisher):
    status, said = run_to_the_end(bench.station.path)
    assert status == EXIT_STORE_FAULT
    assert f"in use by process {bench.station.pid};" in said
    assert "Traceback" not in said
    publisher.send(GOOD, unit_id="next")
    assert bench.collect(listener, 1)[0].outcome is Outcome.PASS


def test_a_hanging_worker_costs_rejects_and_is_replaced(open_bench):
    bench = open_bench(
        source="zmq-rep",
        reply="verdict",
        recipe={"latency_budget_ms": 200.0},
        workers={"hang_ms": 300},
    )
    core = bench.station.pid
    with Publisher(bench.frames, "req") as line:
        assert told_of(line, GOOD, "before")["outcome"] == "pass"
        os.kill(child(core, "edge_inspector.worker").pid, signal.SIGSTOP)
        stopped_ns = clock.now_ns()
        answers: list[dict[str, Any]] = []
        while not answers or answers[-1]["outcome"] != "pass":
            answers.append(told_of(line, GOOD, f"during-{len(answers)}"))
        recovered_s = (clock.now_ns() - stopped_ns) / 1e9
    print(f"recovered after {recovered_s:.2f} s and {len(answers) - 1} units")
    assert recovered_s < RECOVERY_S
    assert {answer["outcome"] for answer in answers[:-1]} == {"uninspected"}
    assert {answer["reason"] for answer in answers[:-1]} <= {r.value for r in Reason}
    assert bench.station.pid == core
    assert psutil.pid_exists(core)
    assert '"worker_hangs"' in bench.log()
    assert bench.station.stop() == 0


def test_a_stop_under_load_settles_what_is_in_hand(open_bench):
    bench = open_bench(
        source="zmq-rep",
        recipe={"max_queue": 64, "latency_budget_ms": 1500.0},
        frames={"max_bytes": 64 * 1024, "slots": 80},
    )
    sources = [Source(bench.frames, prefix) for prefix in "abc"]
    for source in sources:
        source.start()
    threading.Event().wait(1.0)
    started_ns = clock.now_ns()
    assert bench.station.stop() == 0
    stopped_s = (clock.now_ns() - started_ns) / 1e9
    for source in sources:
        source.stopping.set()
        source.join(timeout=5)
    acknowledged = {unit for source in sources for unit in source.acknowledged}
    log = Log(bench.folder / "state")
    written = {row.verdict.unit_id for row in log.read(1, 10**6)}
    print(f"{len(acknowledged)} units acknowledged, stopped in {stopped_s:.2f} s")
    assert len(acknowledged) > 50
    assert acknowledged <= written
    assert open_units(bench) == 0
    assert log.verify().problems == ()
    log.close()
    assert stopped_s < RECOVERY_S
