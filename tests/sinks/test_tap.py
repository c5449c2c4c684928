"""The tap hands copies of frames on; a recorder that is slow, gone or absent costs the line nothing."""

from pathlib import Path

import numpy as np
import pytest

from edge_inspector import clock
from edge_inspector.errors import Misuse
from edge_inspector.records import FrameHead, FrameKey
from edge_inspector.sinks import tap
from edge_inspector.sinks.tap import Tap

PIXELS = np.random.default_rng(1).integers(0, 256, 50_000, dtype=np.uint8)
FAR_NS = 2**62


def head(seq):
    key = FrameKey("line", "e", seq)
    return FrameHead(
        key=key, station="s", camera="main", recipe="r", arrived_ns=0, time_zero_ns=0, size=50_000
    )


def _descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def receive(connection):
    found = tap.receive(connection)
    assert found is not None
    return found


@pytest.fixture
def folder(tmp_path):
    """Longer than the 108 bytes that a socket's address has."""
    path = tmp_path / ("long-" * 20) / ("name-" * 20)
    path.mkdir(parents=True)
    return path


@pytest.fixture
def listener(folder):
    opened = tap.listen(folder)
    yield opened
    opened.close()


@pytest.fixture
def worker(folder):
    opened = Tap(folder)
    yield opened
    opened.close()


def test_a_copy_arrives_with_its_head(worker, listener):
    worker.offer(head(1), PIXELS, FAR_NS)
    connection = listener.accept()[0]
    with connection:
        copy, pixels = receive(connection)
        assert (copy.head, copy.dropped) == (head(1), 0)
        assert np.array_equal(pixels, PIXELS)
        worker.close()
        assert tap.receive(connection) is None


def test_nobody_recording_costs_a_look_now_and_then(worker, folder):
    worker.offer(head(1), PIXELS, FAR_NS)
    with tap.listen(folder) as opened:
        worker.offer(head(2), PIXELS, FAR_NS)
        with pytest.raises(BlockingIOError):
            opened.accept()
    begun_ns = clock.now_ns()
    for seq in range(1000):
        worker.offer(head(seq), PIXELS, FAR_NS)
    assert (clock.now_ns() - begun_ns) / 1000 < 100_000  # ns each, of a budget of ms
    assert worker.dropped == 0


def test_copies_that_are_not_fetched_are_dropped_and_told(worker, listener):
    before = _descriptors()
    for seq in range(1, 101):
        worker.offer(head(seq), PIXELS, FAR_NS)
    assert _descriptors() <= before + 1
    kept = 100 - worker.dropped
    assert 4 <= kept <= 20
    connection = listener.accept()[0]
    connection.setblocking(False)
    with connection:
        for seq in range(1, kept + 1):
            assert receive(connection)[0].head.key.seq == seq
        with pytest.raises(BlockingIOError):
            tap.receive(connection)
        worker.offer(head(101), PIXELS, FAR_NS)
        assert receive(connection)[0].dropped == 100 - kept


def test_a_unit_close_to_its_deadline_is_not_copied(worker, listener):
    worker.offer(head(1), PIXELS, FAR_NS)
    worker.offer(head(2), PIXELS, clock.now_ns() + len(PIXELS))
    assert worker.dropped == 1


def test_a_recorder_that_is_gone_is_forgotten_and_the_next_one_found(worker, folder):
    first = tap.listen(folder)
    worker.offer(head(1), PIXELS, FAR_NS)
    first.close()
    worker.offer(head(2), PIXELS, FAR_NS)
    with tap.listen(folder) as second:
        give_up_ns = clock.now_ns() + 5 * 10**9
        while clock.now_ns() < give_up_ns:
            worker.offer(head(3), PIXELS, FAR_NS)
            try:
                second.accept()[0].close()
                break
            except BlockingIOError:
                continue
        else:
            pytest.fail("the worker never found the second recorder")


def test_two_recorders_of_one_station_are_one_too_many(folder, listener):
    with pytest.raises(Misuse, match="another process records this station"):
        tap.listen(folder)
