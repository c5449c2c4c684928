"""The cap on a worker's address space: after its engines are open, and before the first frame."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edge_inspector import channel, slots
from edge_inspector.channel import Alive, Ready, Stop, WorkerConfig
from tests.integration.conftest import write_recipe

MIB = 1024 * 1024
CAP_MIB = 512
RESERVES = f"""
import mmap
from edge_inspector.backends.openvino import OpenVino

HELD = []

class Reserving(OpenVino):
    name = "reserving"

    def open(self, model, *, threads):
        HELD.append(mmap.mmap(-1, {2 * CAP_MIB * MIB}, flags=mmap.MAP_PRIVATE | 0x4000))  # NORESERVE
        return super().open(model, threads=threads)
"""


@pytest.fixture
def worker(tmp_path: Path, tiny_engine: Path):
    """A worker whose runtime reserves address space as CUDA does, and core's end of its line."""
    (tmp_path / "reserving.py").write_text(RESERVES)
    recipe = write_recipe(tmp_path, tiny_engine)
    config = WorkerConfig(str(recipe), ("reserving:Reserving",), 1, 4096, CAP_MIB, 4096)
    line, theirs = channel.pair()
    fd = slots.create(1, 4096)
    command = [sys.executable, "-m", "edge_inspector.worker", "--slots-fd", str(fd)]
    child = subprocess.Popen(
        [*command, "--channel-fd", str(theirs.fileno()), "--config", msgspec.json.encode(config)],
        pass_fds=(fd, theirs.fileno()),
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    theirs.close()
    yield child, line
    line.send(Stop())
    child.wait(20)
    line.close()
    os.close(fd)


def test_a_runtime_that_reserves_more_than_the_cap_opens_and_the_cap_comes_after(worker) -> None:
    child, line = worker
    while isinstance(message := line.receive(), Alive):
        pass
    assert isinstance(message, Ready), message
    mapped = int(Path(f"/proc/{child.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.prlimit(child.pid, resource.RLIMIT_AS)
    assert soft == hard
    assert mapped > 2 * CAP_MIB * MIB
    assert mapped - 200 * MIB < soft < mapped + (CAP_MIB + 1) * MIB
