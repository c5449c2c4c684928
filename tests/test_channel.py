"""Messages between processes keep their boundaries, their types and their end."""

import pytest

from edge_inspector import channel
from edge_inspector.channel import Channel, Done, Grant, Job
from edge_inspector.errors import WireError
from edge_inspector.records import FrameHead, FrameKey, Inspection, Outcome, Reason, RegionVerdict


@pytest.fixture
def line():
    ours, theirs = channel.pair()
    other = Channel(theirs)
    yield ours, other
    ours.close()
    other.close()


def head(**more):
    key = FrameKey("line", "e" * 32, 7)
    fields = {"station": "s", "camera": "main", "recipe": "r", "arrived_ns": 5, "time_zero_ns": 4}
    return FrameHead(key=key, **{**fields, **more})


def test_messages_arrive_whole_and_in_order(line):
    ours, other = line
    job = Job(head(unit_id="u", fault=Reason.SHED), 99)
    done = Done(
        job.head,
        Inspection(
            outcome=Outcome.FAIL,
            regions=(RegionVerdict("a", Outcome.FAIL, 2.0, "x", (1, 2, 3, 4)),),
            stages_us={"infer": 3},
        ),
    )
    for message in (Grant((1, 2)), job, done):
        assert ours.send(message)
    assert [other.receive() for _ in range(3)] == [Grant((1, 2)), job, done]


def test_a_closed_peer_reads_as_none_and_takes_nothing(line):
    ours, other = line
    other.close()
    assert ours.receive() is None
    assert ours.send(Grant((1,))) is False


def test_an_oversized_message_is_refused_by_its_sender(line):
    with pytest.raises(WireError, match="limit between processes"):
        line[0].send(channel.Ready("x" * channel.MAX_MESSAGE))


def test_an_empty_line_does_not_block_when_told_not_to(line):
    line[0].set_blocking(False)
    with pytest.raises(BlockingIOError):
        line[0].receive()


def test_a_frame_without_ids_is_advisory_and_its_own_unit():
    assert head().advisory
    assert head().unit_key == f"f:line/{'e' * 32}/7"
    assert head(unit_id="a").unit_key == "u:s/a"
    assert head(unit_id="a", trigger_id=5, run=2).unit_key == "t:s/2/5"


def test_what_a_dead_peer_said_before_it_died_is_still_read(line):
    ours, other = line
    ours.send(Grant((9,)))  # unread by the peer: its end resets the line
    other.send(Grant((1,)))
    other.close()
    assert ours.receive() == Grant((1,))
    assert ours.receive() is None
