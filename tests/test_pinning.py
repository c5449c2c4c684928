"""Workers that are pinned keep to processors of their own, every thread of them."""

import os
import subprocess
import sys

import pytest

from edge_inspector import process
from edge_inspector.errors import Breakage, Misuse
from edge_inspector.resources import Workers

ALLOWED = sorted(os.sched_getaffinity(0))


def test_workers_may_run_anywhere_unless_they_are_pinned():
    assert Workers(count=3).places() == [(), (), ()]


def test_each_pinned_worker_has_processors_of_its_own_the_last_ones(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 1, 2, 7, 3})
    assert Workers(count=2, threads=2, pin=True).places() == [(2, 3), (4, 7)]
    assert Workers(count=1, pin=True).places() == [(7,)]


def test_more_than_the_box_has_cannot_be_pinned():
    count = len(ALLOWED) + 1
    if count > 64:
        pytest.skip("a box with 64 processors: no number of workers is too large for it")
    with pytest.raises(Misuse, match=f"need {count} processors, and this service may use"):
        Workers(count=count, pin=True).places()


def test_threads_that_start_later_keep_to_the_same_processor():
    last = ALLOWED[-1]
    program = (
        "import os, threading; from edge_inspector import process\n"
        f"process.keep_to([{last}])\n"
        "thread = threading.Thread(target=lambda: print(os.sched_getaffinity(0)))\n"
        "thread.start(); thread.join()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == f"{{{last}}}", done.stderr


def test_a_processor_that_may_not_be_used_is_named():
    with pytest.raises(Breakage, match=r"processors 4000 cannot be kept to: .*workers.pin = false"):
        process.keep_to([4000])
