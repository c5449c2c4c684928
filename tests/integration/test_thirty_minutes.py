"""The README's "On a running line in thirty minutes", pasted and run: smaller numbers, own ports."""

import csv
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_inspector.outbox import Log
from edge_inspector.recipe import load_recipe
from edge_inspector.settings import process_environment
from edge_inspector.studies.harness import free_port

pytest.importorskip("torch", reason="teach needs torch")

README = Path(__file__).resolve().parents[2] / "README.md"
MARK = "<!-- tests/integration/test_thirty_minutes.py runs these lines -->"
MODBUS = '\n[[sinks]]\ntype = "modbus"\nhost = "127.0.0.1"\nport = {port}\n'
UNITS = 80
"""Verdicts waited for where a user would look at the line for a while."""


def commands():
    block = README.read_text(encoding="utf-8").split(MARK)[1].split("```")[1]
    return [line for line in block.strip().splitlines() if line]


def smaller(line, folder, ports):
    """The line as the test runs it: less to record and to learn, and ports that are free."""
    for known, free in ports.items():
        line = line.replace(f":{known}", f":{free}")
    line = line.replace("--rate 10", "--rate 25").replace("--units 400", "--units 70")
    line = line.replace("--overkill 0.01", "--overkill 0.05 --steps 80 --brisk")
    if "plc-sim" in line:
        line += " --seconds 8"
    if "UNIT" in line:
        with (folder / "recorded/frames.csv").open(encoding="utf-8") as file:
            missing = [row for row in csv.DictReader(file) if row["label"].endswith("missing_pin")]
        line = line.replace("UNIT", missing[0]["unit_id"])
    return line


class Shell:
    """Runs lines as a shell in `folder` would; what ends in & goes on until it is stopped."""

    def __init__(self, folder):
        self.folder = folder
        self.behind = []

    def run(self, line):
        words = shlex.split(line.removesuffix("&"))
        assert words[0] == "edge-inspector"
        process = subprocess.Popen(
            [sys.executable, "-m", "edge_inspector.cli.main", *words[1:]],
            cwd=self.folder,
            env=process_environment({"OMP_NUM_THREADS": "1"}),
            stdout=subprocess.DEVNULL if line.endswith("&") else subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if line.endswith("&"):
            self.behind.append(process)
            return ""
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, f"{line}\n{said}"
        return re.sub(r"\s+", " ", said)

    def stop(self, process):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(20)
        self.behind.remove(process)


@pytest.fixture
def shell(tmp_path):
    opened = Shell(tmp_path)
    yield opened
    for process in list(opened.behind):
        opened.stop(process)


def judged(folder, count):
    """Wait until the log holds so many verdicts."""
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up:
        if (folder / "state/verdicts.db").is_file():
            log = Log(folder / "state")
            head = log.head()
            log.close()
            if head >= count:
                return
        time.sleep(0.2)
    pytest.fail(f"no {count} verdicts in two minutes")


@pytest.mark.timeout(600)
def test_twelve_commands_lead_from_a_bare_box_to_the_plc(shell, tmp_path):
    lines = commands()
    assert len(lines) == 12
    ports = {port: free_port() for port in (5560, 1502)}
    said = {}
    for line in lines:
        verb = line.split()[1]
        if verb == "plc-sim":
            shell.stop(shell.behind[-1])
            with (tmp_path / "station.toml").open("a", encoding="utf-8") as file:
                file.write(MODBUS.format(port=ports[1502]))
            shell.run("edge-inspector run station.toml &")
            before = Log(tmp_path / "state").head()
            judged(tmp_path, before + 10)
        said[verb] = shell.run(smaller(line, tmp_path, ports))
        if verb == "probe":
            station = (tmp_path / "station.toml").read_text(encoding="utf-8")
            other = station.replace(":5572", f":{free_port()}")
            (tmp_path / "station.toml").write_text(other, encoding="utf-8")
        if verb == "run":
            judged(tmp_path, UNITS)
    assert "70 units" in said["record"]
    assert "promise: at most" in said["teach"]
    assert "units judged by both" in said["agreement"]
    assert "fail, as expected" in said["golden"]
    recipe = load_recipe(tmp_path / "recipe.toml")
    assert not recipe.observe
    assert len(recipe.golden) == 1
    assert all((tmp_path / f"{page}.html").is_file() for page in ("recipe", "agreement", "rejects"))
    assert said["plc-sim"].count("gate opens") > 10
