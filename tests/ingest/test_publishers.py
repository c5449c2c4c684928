"""Publishers as lines have them: the real imagezmq, and the array recipe of pyzmq's documentation."""

import threading
from typing import Any

import cv2
import imagezmq
import numpy as np
import pytest
import zmq

from edge_inspector.client import Publisher
from edge_inspector.records import Reason


@pytest.fixture
def image(rng):
    return rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def send_array(socket, A, flags=0, copy=True, track=False):  # noqa: N803 - as documented
    """The recipe of pyzmq's documentation, word for word."""
    md = dict(  # noqa: C408
        dtype=str(A.dtype),
        shape=A.shape,
    )
    socket.send_json(md, flags | zmq.SNDMORE)
    return socket.send(A, flags, copy=copy, track=track)


def decoded(jpeg) -> Any:
    return cv2.imdecode(jpeg, cv2.IMREAD_UNCHANGED)


def in_background(work):
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_imagezmq_requests_are_answered(start_ingest, endpoint, image):
    core = start_ingest({"type": "zmq-rep", "name": "rep", "endpoint": endpoint})
    replies = []
    with imagezmq.ImageSender(connect_to=endpoint) as sender:
        sends = in_background(lambda: replies.append(sender.send_image("main", image)))
        head = core.frame()
        core.answer(head, "OK")
        sends.join()
    assert head.ticket
    assert head.advisory
    assert np.array_equal(core.array(head), image)
    assert replies == [b"OK"]


def test_imagezmq_jpeg_requests_are_answered(start_ingest, endpoint, image):
    core = start_ingest({"type": "zmq-rep", "name": "rep", "endpoint": endpoint})
    jpeg = cv2.imencode(".jpg", image)[1]
    replies = []
    with imagezmq.ImageSender(connect_to=endpoint) as sender:
        sends = in_background(lambda: replies.append(sender.send_jpg("side", jpeg)))
        head = core.frame()
        core.answer(head, "NO shed")
        sends.join()
    assert (head.camera, head.codec) == ("side", "jpeg")
    assert np.array_equal(core.array(head), decoded(jpeg))
    assert replies == [b"NO shed"]


def test_two_imagezmq_clients_wait_at_once(start_ingest, endpoint, image):
    core = start_ingest({"type": "zmq-rep", "name": "rep", "endpoint": endpoint})
    replies = {}

    def send(camera):
        with imagezmq.ImageSender(connect_to=endpoint) as sender:
            replies[camera] = sender.send_image(camera, image)

    threads = [in_background(lambda c=camera: send(c)) for camera in ("main", "side")]
    heads = [core.frame(), core.frame()]
    for head in reversed(heads):
        core.answer(head, f"OK {head.camera}")
    for thread in threads:
        thread.join()
    assert replies == {"main": b"OK main", "side": b"OK side"}


def test_imagezmq_publishes_images_and_jpegs(start_ingest, endpoint, image):
    core = start_ingest({"type": "zmq-sub", "name": "pub", "endpoint": endpoint})
    jpeg = cv2.imencode(".jpg", image)[1]
    with imagezmq.ImageSender(connect_to=endpoint, REQ_REP=False) as sender:
        first = publish_until_heard(core, lambda: sender.send_image("main", image))
        assert np.array_equal(core.array(first), image)
        sender.send_jpg("main", jpeg)
        while (head := core.frame()).codec != "jpeg":
            pass
    assert np.array_equal(core.array(head), decoded(jpeg))
    assert head.key.epoch == first.key.epoch


def publish_until_heard(core, publish):
    """A subscriber that joins late misses what was sent before."""
    for _ in range(100):
        publish()
        try:
            return core.frame(timeout_s=0.1)
        except TimeoutError:
            continue
    raise AssertionError("nothing was heard")


@pytest.mark.parametrize("kind", [zmq.PUSH, zmq.REQ])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_array_recipe_of_pyzmq_works(start_ingest, endpoint, rng, kind, dtype):
    name = "zmq-pull" if kind == zmq.PUSH else "zmq-rep"
    core = start_ingest({"type": name, "name": "line", "endpoint": endpoint})
    array = rng.integers(0, np.iinfo(dtype).max, (32, 40), dtype=dtype)
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.connect(endpoint)
        send_array(socket, array)
        head = core.frame()
        if kind == zmq.REQ:
            core.answer(head)
            assert socket.recv() == b"OK"
    assert np.array_equal(core.array(head), array)
    assert core.array(head).dtype == dtype


def test_the_reference_publisher_names_and_numbers_units(start_ingest, endpoint, image):
    core = start_ingest({"type": "zmq-pull", "name": "line", "endpoint": endpoint})
    with Publisher(endpoint) as publisher:
        publisher.send(image, unit_id="A-1", trigger_id=1, camera="side")
        publisher.send(image[:, :, 0], unit_id="A-2", trigger_id=2, seq=70)
        first, second = core.frame(), core.frame()
    assert (first.unit_id, first.trigger_id, first.camera) == ("A-1", 1, "side")
    assert first.numbered
    assert not first.advisory
    assert second.key.seq == 70
    assert np.array_equal(core.array(second), image[:, :, 0])
    assert second.digest != first.digest


def test_the_reference_publisher_waits_for_its_reply(start_ingest, endpoint, image):
    core = start_ingest({"type": "zmq-rep", "name": "line", "endpoint": endpoint})
    replies = []
    with Publisher(endpoint, "req") as publisher:
        sends = in_background(lambda: replies.append(publisher.send(image, trigger_id=3)))
        core.answer(core.frame(), "NO conflict")
        sends.join()
    assert replies == ["NO conflict"]


def test_the_reference_publisher_publishes(start_ingest, endpoint, image):
    core = start_ingest({"type": "zmq-sub", "name": "line", "endpoint": endpoint})
    with Publisher(endpoint, "pub") as publisher:
        assert publisher.wait_for_listener()
        for number in (1, 2, 3):
            publisher.send(image, trigger_id=number)
        assert [core.frame().trigger_id for _ in range(3)] == [1, 2, 3]


def test_ipc_is_for_the_group_only(start_ingest, tmp_path, image):
    path = tmp_path / "frames"
    core = start_ingest({"type": "zmq-pull", "name": "line", "endpoint": f"ipc://{path}"})
    with Publisher(f"ipc://{path}") as publisher:
        publisher.send(image)
        assert core.frame().fault is None
    assert path.stat().st_mode & 0o777 == 0o660


def test_a_lost_frame_of_a_full_store_is_shed_and_said(start_ingest, endpoint, image):
    core = start_ingest({"type": "zmq-pull", "name": "line", "endpoint": endpoint}, slots_granted=1)
    with Publisher(endpoint) as publisher:
        publisher.send(image, trigger_id=1)
        publisher.send(image, trigger_id=2)
        kept, shed = core.frame(keep=True), core.frame()
    assert kept.slot == 0
    assert (shed.slot, shed.size, shed.fault, shed.trigger_id) == (-1, 0, Reason.SHED, 2)
    assert core.until_counted("line.shed") == 1
