"""The reference publisher against plain sockets; with a daemon's ingest it is in tests/ingest."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import zmq

from edge_inspector.client import Listener, Publisher
from edge_inspector.errors import Breakage, Misuse, WireError
from edge_inspector.wire.plain import Rules, decode

IMAGE = np.zeros((4, 4), np.uint8)
RULES = Rules(
    camera="main", recipe="board", cameras=frozenset({"main"}), recipes=frozenset({"board"})
)


@pytest.fixture
def pull(tmp_path):
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        socket.linger = 0
        socket.bind(f"ipc://{tmp_path}/frames")
        yield socket


def test_frames_are_numbered_without_holes(pull, tmp_path):
    with Publisher(f"ipc://{tmp_path}/frames") as publisher:
        for _ in range(3):
            publisher.send(IMAGE)
        seqs = [decode(pull.recv_multipart(), RULES).identity.seq for _ in range(3)]
    assert np.diff(np.array(seqs, dtype=np.int64)).tolist() == [1, 1]


def test_a_publisher_that_starts_again_jumps_ahead(pull, tmp_path):
    """A jump of more than 100 tells the daemon that the count began anew."""
    seqs = []
    for _ in range(2):
        with Publisher(f"ipc://{tmp_path}/frames") as publisher:
            publisher.send(IMAGE)
            seqs.append(decode(pull.recv_multipart(), RULES).identity.seq or 0)
            threading.Event().wait(0.15)
    assert seqs[1] - seqs[0] > 100


def test_a_number_of_ones_own_is_kept_and_counted_on(pull, tmp_path):
    with Publisher(f"ipc://{tmp_path}/frames") as publisher:
        publisher.send(IMAGE, seq=10)
        publisher.send(IMAGE)
        seqs = [decode(pull.recv_multipart(), RULES).identity.seq for _ in range(2)]
    assert seqs == [10, 11]


@pytest.mark.parametrize("kind", ["push", "req"])
def test_nobody_there_is_a_breakage_with_the_endpoint(tmp_path, kind):
    endpoint = f"ipc://{tmp_path}/nobody"
    with (
        Publisher(endpoint, kind, timeout_ms=50) as publisher,
        pytest.raises(Breakage, match="nobody did not take frame"),
    ):
        publisher.send(IMAGE)


def test_a_frame_that_was_not_taken_keeps_its_number(tmp_path):
    endpoint = f"ipc://{tmp_path}/frames"
    with Publisher(endpoint, timeout_ms=50) as publisher:
        with pytest.raises(Breakage):
            publisher.send(IMAGE, seq=1)
        with zmq.Context() as context, context.socket(zmq.PULL) as pull:
            pull.bind(endpoint)
            threading.Event().wait(0.5)
            publisher.send(IMAGE, seq=1)
            assert decode(pull.recv_multipart(), RULES).identity.seq == 1


def test_nobody_subscribes(tmp_path):
    with Publisher(f"ipc://{tmp_path}/pub", "pub") as publisher:
        assert not publisher.wait_for_listener(timeout_ms=50)


def test_an_unknown_kind_is_misuse(tmp_path):
    with pytest.raises(Misuse, match="'dealer'"):
        Publisher(f"ipc://{tmp_path}/frames", "dealer")  # type: ignore[arg-type]


def test_what_is_no_telemetry_is_a_wire_error(tmp_path):
    endpoint = f"ipc://{tmp_path}/telemetry"
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.linger = 0
        socket.bind(endpoint)
        with Listener(endpoint) as listener:
            socket.recv()
            socket.send_multipart([b"v1/st1/line/pass", b"rubbish"])
            with pytest.raises(WireError):
                listener.receive(timeout_ms=5000)


def test_the_client_needs_no_daemon_and_no_opencv():
    """A controller's program should start fast and small."""
    code = (
        "import sys, edge_inspector.client;"
        "heavy = {'cv2', 'pydantic', 'apsw', 'openvino', 'edge_inspector.daemon'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
