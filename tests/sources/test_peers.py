"""The links of one ROUTER, also when all peers are gone: telling them ends the link, no more."""

from collections import Counter

import pytest
import zmq

from edge_inspector import settings
from edge_inspector.channel import Answer, Pulse
from edge_inspector.sources.arrival import Surroundings
from edge_inspector.sources.link import Link, Partial, Terms
from edge_inspector.sources.peers import MAX_BAD, MAX_KNOWN_BAD, MAX_LINKS, Peers
from edge_inspector.wire import sockets
from edge_inspector.wire.assured import FrameFacts, Hello
from edge_inspector.wire.codes import Refusal, Type, Why
from edge_inspector.wire.header import Header

EPOCH = bytes(range(16))
NAMES = tuple(f"s{number}" for number in range(MAX_LINKS + 1))


@pytest.fixture
def counts():
    return Counter()


@pytest.fixture
def peers(counts):
    """On a ROUTER that reaches nobody and says nothing of it, so that links last."""
    with zmq.Context() as context:
        socket = sockets.open_socket(context, zmq.ROUTER, hwm=8)
        around = Surroundings(
            context=context,
            recipe="board",
            cameras=frozenset({"main"}),
            recipes=frozenset({"board"}),
            max_bytes=1000,
            max_pixels=1000,
            count=lambda source, kind: counts.update([kind]),
        )
        source = settings.AssuredSource(
            type="assured", name="line", endpoint="ipc:///tmp/frames", peers=NAMES
        )
        with socket:
            yield Peers(socket, source, around, ["board"])


@pytest.fixture
def unreachable(peers):
    """From now on a peer that is gone is noticed."""
    return lambda: peers._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)


def hello(peers, number, peer=None):
    peer = b"peer%d" % number if peer is None else peer
    header = Header(type=Type.HELLO, epoch=EPOCH)
    peers.welcome(peer, header, Hello(name=f"s{number}", versions=[1]), 1)
    return peer


def begun(link, seq):
    part = Partial(Header(type=Type.FRAME, seq=seq), FrameFacts(), 1, 10**18)
    part.pieces.append(b"xyz")
    link.partials[seq] = part
    return part


def test_peers_that_are_gone_are_dropped_while_all_are_told(peers, unreachable):
    for number in range(5):
        hello(peers, number)
    assert len(peers.links) == 5
    unreachable()
    peers.beat(Pulse(1, 1, "ready", True))
    assert peers.links == []


@pytest.mark.parametrize("say", ["bye", "look_after"])
def test_whatever_they_were_to_be_told(peers, unreachable, say):
    for number in range(5):
        hello(peers, number)
    unreachable()
    peers.bye() if say == "bye" else peers.look_after(10**9)
    assert peers.links == []


def test_an_answer_for_who_is_gone_is_kept_as_progress(peers, unreachable):
    hello(peers, 0)
    unreachable()
    about = Header(type=Type.ACCEPTED, epoch=EPOCH, seq=1)
    peers.answer("s0", about, Answer(1, kind="settled", vseq=1, code=0x5A))
    assert peers.links == []
    assert peers._book.of("s0", EPOCH).upto == 1


def test_one_source_too_many_is_busy(peers):
    for number in range(MAX_LINKS):
        hello(peers, number)
    with pytest.raises(Refusal) as refused:
        hello(peers, MAX_LINKS)
    assert refused.value.why is Why.BUSY
    hello(peers, 3, b"again")
    assert len(peers.links) == MAX_LINKS


def test_one_connection_has_one_link(peers):
    hello(peers, 0, b"p")
    hello(peers, 1, b"p")
    assert [link.hello.name for link in peers.links] == ["s1"]


def test_bad_peers_are_remembered_up_to_a_limit(peers, counts):
    for number in range(MAX_KNOWN_BAD + 200):
        peers.refuse(b"%d" % number, None, Refusal(Why.BAD_HEADER, "bad"))
    assert len(peers._bad) == MAX_KNOWN_BAD
    assert counts["nack_bad_header"] == MAX_KNOWN_BAD + 200


def test_sixteen_bad_messages_in_a_row_end_the_link(peers):
    peer = hello(peers, 0)
    refusal = Refusal(Why.BAD_HEADER, "bad")
    for _ in range(MAX_BAD - 1):
        peers.refuse(peer, None, refusal)
    peers.understood(peer)
    for _ in range(MAX_BAD - 1):
        peers.refuse(peer, None, refusal)
    assert (peers.muted(peer), len(peers.links)) == (False, 1)
    peers.refuse(peer, None, refusal)
    assert (peers.muted(peer), len(peers.links)) == (True, 0)


def test_to_speak_too_early_is_not_bad(peers):
    for _ in range(100):
        peers.refuse(b"p", None, Refusal(Why.HELLO_FIRST, "early"))
    assert not peers.muted(b"p")


def test_what_a_lost_link_had_begun_is_kept_without_its_pixels(peers):
    hello(peers, 0)
    part = begun(peers.links[0], 7)
    hello(peers, 0, b"again")
    [left] = peers.leaving
    assert (left.partials, part.pieces) == ({7: part}, [])
    peers.look_after(2)
    assert peers.leaving == [left]
    left.partials.clear()
    peers.look_after(3)
    assert peers.leaving == []


def test_links_that_come_and_go_leave_little(peers):
    """Beyond the limit the oldest become due at once."""
    for _ in range(MAX_LINKS + 4):
        hello(peers, 0)
        begun(peers.links[0], 7)
    due = [link.partials[7].due_ns == 0 for link in peers.leaving]
    assert due == [True] * 3 + [False] * MAX_LINKS


def test_a_source_that_says_nothing_for_three_seconds_is_gone(peers):
    hello(peers, 0)
    peers.look_after(3_000_000_001)
    assert len(peers.links) == 1
    peers.look_after(3_000_000_002)
    assert peers.links == []


def test_the_window_is_that_of_the_settings(peers):
    hello(peers, 0)
    assert isinstance(peers.links[0], Link)
    assert peers.links[0].terms == Terms(8, 64 * 1024 * 1024, 1000, 1000)
