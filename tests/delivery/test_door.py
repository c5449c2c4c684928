"""The ROUTER itself: where it may stand, what it lets in, and what its two protections are for."""

from contextlib import ExitStack

import pytest
import zmq

from edge_inspector.delivery.door import MAX_PART, QUEUE, Door
from edge_inspector.errors import Misuse


@pytest.fixture
def context():
    with zmq.Context() as context:
        yield context


@pytest.fixture
def door(context, endpoint):
    door = Door(context, endpoint)
    yield door
    door.close(0)


@pytest.fixture
def dealer(context):
    """Connects a peer."""
    with ExitStack() as stack:

        def dealer(endpoint, identity=None, hwm=1000):
            socket = stack.enter_context(context.socket(zmq.DEALER))
            socket.linger, socket.rcvhwm = 0, hwm
            if identity is not None:
                socket.routing_id = identity
            socket.connect(endpoint)
            return socket

        yield dealer


def heard(door, timeout_ms=300):
    return door.receive() if door.socket.poll(timeout_ms) else None


@pytest.mark.parametrize(
    "endpoint", ["tcp://192.0.2.7:5571", "tcp://*:5571", "tcp://0.0.0.0:0", "inproc://verdicts"]
)
def test_it_stands_on_this_host_only(context, endpoint):
    with pytest.raises(Misuse, match="CURVE"):
        Door(context, endpoint)


@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]"])
def test_loopback_is_this_host(context, address):
    door = Door(context, f"tcp://{address}:*")
    bound = door.socket.getsockopt_string(zmq.LAST_ENDPOINT)
    door.close(0)
    assert bound.startswith(f"tcp://{address}:")


def test_nobody_there_is_gone_and_nobody_reading_is_full(dealer, door, endpoint):
    assert door.send(b"nobody", [b"x"]) == "gone"
    peer = dealer(endpoint, hwm=10)
    peer.send(b"hello")
    identity, parts = heard(door)
    assert parts == [b"hello"]
    fates = [door.send(identity, [bytes(500)]) for _ in range(3 * QUEUE)]
    assert fates[:QUEUE] == ["sent"] * QUEUE
    assert fates[-1] == "full"


def test_of_many_parts_no_more_are_kept_than_show_that_they_are_too_many(dealer, door, endpoint):
    dealer(endpoint).send_multipart([b"part"] * 256)
    _, parts = heard(door)
    assert len(parts) == 4


def test_a_part_beyond_the_limit_does_not_get_in_and_without_the_limit_it_would(
    dealer, door, endpoint, tmp_path
):
    dealer(endpoint).send(bytes(MAX_PART + 1))
    assert heard(door) is None
    dealer(endpoint).send(bytes(MAX_PART))
    assert heard(door) is not None
    door.socket.setsockopt(zmq.MAXMSGSIZE, -1)
    unlimited = f"ipc://{tmp_path}/unlimited"
    door.socket.bind(unlimited)
    dealer(unlimited).send(bytes(MAX_PART + 1))
    assert heard(door) is not None


@pytest.mark.parametrize("handover", [False, True])
def test_who_claims_the_routing_id_of_another_silences_it_only_with_handover(
    dealer, door, endpoint, handover
):
    if handover:
        door.socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
    first = dealer(endpoint, b"plc")
    first.send(b"first")
    assert heard(door) == (b"plc", [b"first"])
    second = dealer(endpoint, b"plc")
    second.send(b"second")
    heard(door)
    assert door.send(b"plc", [b"verdict"]) == "sent"
    assert bool(first.poll(200)) is not handover
