"""The byte by which delivery sees whether a unit is in flight."""

import os
import subprocess
import sys

import pytest

from edge_inspector import gauge
from edge_inspector.gauge import Gauge

READ = """
import sys
from edge_inspector.gauge import Gauge
gauge = Gauge(int(sys.argv[1]), writable=False)
for _ in sys.stdin:
    print(gauge.busy, flush=True)
"""


@pytest.fixture
def fd():
    fd = gauge.create()
    yield fd
    os.close(fd)


def test_what_one_process_says_another_reads(fd):
    ours = Gauge(fd, writable=True)
    with subprocess.Popen(
        [sys.executable, "-c", READ, str(fd)],
        pass_fds=(fd,),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdin
        assert reader.stdout
        for busy in (False, True, True, False):
            ours.say(busy)
            reader.stdin.write("\n")
            reader.stdin.flush()
            assert reader.stdout.readline() == f"{busy}\n"
        reader.stdin.close()
    ours.close()


def test_a_reader_cannot_write(fd):
    with pytest.raises(TypeError):
        Gauge(fd, writable=False).say(True)


def test_nothing_is_in_flight_at_first(fd):
    assert not Gauge(fd, writable=False).busy
