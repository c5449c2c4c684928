"""The ASSURED tier of the ingest process: what a source is told, and what core hears of it."""

import functools
import socket
import uuid

import numpy as np
import pytest

from edge_inspector import clock
from edge_inspector.channel import Alive, Stop
from edge_inspector.records import Outcome, Reason
from edge_inspector.wire.assured import (
    Accepted,
    Bye,
    Credit,
    Heartbeat,
    Nack,
    Ping,
    Pong,
    Settled,
    Welcome,
)  # fmt: skip
from edge_inspector.wire.codes import CODES, Why
from edge_inspector.wire.header import digest
from tests.ingest.conftest import Core
from tests.ingest.peer import GOOD, SIZE

MIB = 1024 * 1024
MS = 1_000_000
LARGE = np.random.default_rng(5).integers(0, 256, (600, 800, 1), dtype=np.uint8)[:, :, 0]


def assured(endpoint, **keys):
    return {"type": "assured", "name": "line", "endpoint": endpoint, **keys}


@pytest.fixture(scope="module")
def long_lived():
    """One process for all tests that need nothing special; each has a source of its own start."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    core = Core((assured(endpoint),), slots_granted=128).start()
    yield core, endpoint
    core.close()


@pytest.fixture
def core(long_lived):
    return long_lived[0]


@pytest.fixture
def peer(open_peer):
    return open_peer()


@pytest.fixture
def open_peer(long_lived, connect):
    """A source of the long-lived process."""
    return functools.partial(connect, long_lived[1])


class TestHello:
    def test_welcome_says_what_may_be_sent(self, start_ingest, connect, endpoint):
        core = start_ingest(assured(endpoint))
        peer = connect(endpoint, hello=False)
        welcome = peer.hello()
        assert welcome.version == 1
        assert (welcome.credit_msgs, welcome.credit_bytes) == (8, 64 * MIB)
        assert (welcome.max_part, welcome.max_payload) == (MIB, MIB)
        assert (welcome.state, welcome.settled_upto, welcome.ttl_ms) == ("starting", 0, 300)
        assert welcome.recipes == ["board"]
        peer.hear(Ping)
        core.pulse("degraded")
        peer.hear(Heartbeat)
        assert peer.hello().state == "degraded"

    def test_a_frame_arrives_as_it_was_sent(self, core, peer):
        peer.hello(cameras=["side", "main"])
        epoch = peer.epoch.hex()
        peer.frame(1, unit_id="A-1", trigger_id=41, budget_us=20_000, camera=1)
        head = core.frame()
        assert (head.fault, head.assured, head.numbered) == (None, True, True)
        assert (head.key.source, head.key.epoch, head.key.seq) == ("line", epoch, 1)
        assert (head.unit_id, head.trigger_id, head.camera) == ("A-1", 41, "side")
        assert (head.budget_us, head.digest, head.tombstone) == (20_000, digest(GOOD.data), False)
        assert np.array_equal(core.array(head), GOOD)

    def test_the_path_is_for_this_user_and_group_alone(self, start_ingest, connect, tmp_path):
        path = tmp_path / "frames"
        core = start_ingest(assured(f"ipc://{path}"))
        assert path.stat().st_mode & 0o777 == 0o660
        connect(f"ipc://{path}").frame(1)
        assert core.frame().fault is None

    def test_two_sources_of_one_socket_have_numbers_and_credit_of_their_own(
        self, start_ingest, connect, endpoint
    ):
        core = start_ingest(assured(endpoint, peers=["left", "right"], credit_msgs=1))
        left, right = connect(endpoint, name="left"), connect(endpoint, name="right")
        for seq in (1, 2, 3):
            left.frame(seq)
            right.frame(seq)
            heads = [core.frame(), core.frame()]
            assert {(h.key.source, h.key.seq) for h in heads} == {("left", seq), ("right", seq)}
            for one in (left, right):
                one.hear(Credit)
        assert (left.nacks, right.nacks) == ([], [])

    def test_a_second_hello_of_a_name_takes_over(self, core, open_peer):
        old = open_peer()
        old.frame(1)
        head = core.frame()
        new = open_peer(epoch=old.epoch)
        assert "another connection" in old.hear(Bye)[1].why
        core.settle(head, vseq=9)
        assert new.hear(Settled)[0].seq == 1
        old.frame(2)
        assert old.hear(Nack)[1].why is Why.HELLO_FIRST
        new.frame(2)
        assert core.frame().key.seq == 2
        assert old.heard["Settled"] == 0

    def test_bye_ends_the_link(self, core, peer):
        peer.say(Bye("done"))
        peer.frame(1)
        assert peer.hear(Nack)[1].why is Why.HELLO_FIRST
        peer.hello()
        peer.frame(1)
        assert core.frame().key.seq == 1

    def test_a_stopping_daemon_says_so(self, start_ingest, connect, endpoint):
        core = start_ingest(assured(endpoint))
        peer = connect(endpoint)
        core.line.send(Stop())
        assert "stops" in peer.hear(Bye)[1].why


class TestCredit:
    def test_it_flows_over_thousands_of_frames(self, start_ingest, connect, endpoint):
        core = start_ingest(assured(endpoint, credit_msgs=8))
        peer = connect(endpoint)
        small, sent, came = np.zeros((4, 4), np.uint8), 0, 0
        began = clock.now_ns()
        while came < 3000:
            while sent < 3000 and peer.used[0] < peer.credit[0]:
                sent += 1
                peer.frame(sent, small)
            while came < sent:
                came += 1
                assert core.frame().key.seq == came
            if sent < 3000 and peer.used[0] >= peer.credit[0]:
                peer.hear(Credit)
        took_s = (clock.now_ns() - began) / 1e9
        print(f"{sent} frames, {peer.heard['Credit']} CREDIT, {took_s:.1f} s")
        assert peer.nacks == []
        assert peer.heard["Credit"] >= 3000 // 8
        assert took_s < 3000 / 8 * 0.1, "credit came with the PINGs only"

    def test_all_of_it_comes_back_soon_whatever_became_of_the_frames(
        self, start_ingest, connect, endpoint
    ):
        core = start_ingest(assured(endpoint, credit_msgs=16), slots_granted=1, budget_us=250_000)
        peer = connect(endpoint)
        peer.frame(1)
        assert core.frame(keep=True).fault is None
        peer.frame(2)
        assert core.frame().fault is Reason.SHED
        peer.frame(3, width=65)
        assert core.frame().fault is Reason.BAD_INPUT
        first, _second, last = peer.chunks(4, GOOD, 1024)
        peer.raw(*first)
        peer.raw(*last)
        assert peer.hear(Nack)[1].why is Why.BAD_HEADER
        assert core.frame().fault is Reason.NO_IMAGE
        for message in peer.chunks(5, GOOD, 1024):
            peer.raw(*message)
        assert core.frame().fault is Reason.SHED
        peer.tombstone(6)
        core.frame()
        used = (8, 4 * SIZE + 2 * 1024)
        peer.drain()
        for _ in range(2):  # what is returned is told with the next PING at the latest
            peer.hear(Ping)
        assert peer.credit == [16 + used[0], 64 * MIB + used[1]]


class TestChunks:
    def test_a_frame_in_parts_is_the_same_frame(self, start_ingest, connect, endpoint):
        core = start_ingest(assured(endpoint, credit_msgs=100))
        peer = connect(endpoint)
        for seq, count in enumerate((2, 25, 69), start=1):
            messages = peer.chunks(seq, LARGE, -(-LARGE.nbytes // count), unit_id="big")
            assert len(messages) == count
            for message in messages:
                peer.raw(*message)
            head = core.frame()
            assert (head.fault, head.unit_id, head.digest) == (None, "big", digest(LARGE.data))
            assert np.array_equal(core.array(head), LARGE)
            peer.hear(Credit)

    def test_what_is_not_whole_at_the_deadline_is_no_image(self, start_ingest, connect, endpoint):
        core = start_ingest(assured(endpoint), budget_us=200_000)
        peer = connect(endpoint)
        peer.ponging = False
        first, second = peer.chunks(1, GOOD, 2000, age_us=50_000)
        peer.raw(*first)
        head = core.frame()
        waited_ms = (clock.now_ns() - head.arrived_ns) / MS
        assert (head.fault, head.key.seq, head.slot) == (Reason.NO_IMAGE, 1, -1)
        assert f"2000 of {SIZE} bytes" in head.detail
        assert 150 <= waited_ms < 1000
        peer.raw(*second)
        assert core.until_counted("line.stray_chunk") == 1
        assert peer.nacks == []

    def test_nor_when_its_source_left(self, start_ingest, connect, endpoint):
        """Whether by BYE or by another HELLO: what was begun has a verdict to come."""
        core = start_ingest(assured(endpoint), budget_us=200_000)
        peer = connect(endpoint)
        for seq, leave in ((1, lambda: peer.say(Bye())), (2, peer.hello)):
            peer.raw(*peer.chunks(seq, GOOD, 2000)[0])
            leave()
            head = core.frame()
            assert (head.fault, head.key.seq) == (Reason.NO_IMAGE, seq)
            peer.hello()

    def test_a_tombstone_or_the_whole_frame_takes_the_place_of_chunks(
        self, start_ingest, connect, endpoint
    ):
        core = start_ingest(assured(endpoint), budget_us=400_000)
        peer = connect(endpoint)
        peer.raw(*peer.chunks(1, GOOD, 2000)[0])
        peer.tombstone(1, "expired")
        peer.raw(*peer.chunks(2, GOOD, 2000)[0])
        peer.frame(2)
        assert core.frame().fault is Reason.TIMEOUT
        assert core.frame().fault is None
        with pytest.raises(TimeoutError):
            core.frame(timeout_s=0.7)


class TestTombstones:
    def test_each_kind_is_recorded_and_costs_no_credit(self, start_ingest, connect, endpoint):
        core = start_ingest(assured(endpoint, credit_msgs=1))
        peer = connect(endpoint)
        reasons = {
            "no_credit": Reason.SHED,
            "camera_fault": Reason.CAMERA_FAULT,
            "no_image": Reason.NO_IMAGE,
            "expired": Reason.TIMEOUT,
        }
        for seq, (why, reason) in enumerate(reasons.items(), start=1):
            peer.tombstone(seq, why, trigger_id=70 + seq)
            head = core.frame()
            assert (head.fault, head.tombstone, head.slot) == (reason, True, -1)
            assert (head.key.seq, head.trigger_id) == (seq, 70 + seq)
            core.settle(head, vseq=seq, outcome=reason)
            header, settled = peer.hear(Settled)
            assert (header.seq, header.code, settled.vseq) == (seq, CODES[reason], seq)
        assert peer.nacks == []

    def test_64_may_be_open_and_one_more_cuts_the_link(self, core, peer):
        for seq in range(1, 66):
            peer.tombstone(seq)
        heads = [core.frame() for _ in range(64)]
        assert peer.hear(Nack)[1].why is Why.OVER_CREDIT
        peer.tombstone(66)
        assert peer.hear(Nack)[1].why is Why.HELLO_FIRST
        peer.hello()
        for head in heads:
            core.settle(head, vseq=head.key.seq)
        peer.tombstone(65)
        assert core.frame().key.seq == 65

    def test_settled_ones_are_no_longer_open(self, core, peer):
        for seq in range(1, 200):
            peer.tombstone(seq)
            core.settle(core.frame(), vseq=seq)
            peer.hear(Settled)
        assert peer.nacks == []


class TestAnswers:
    def test_they_name_the_frame(self, core, peer):
        peer.frame(3, trigger_id=77)
        head = core.frame()
        core.accept(head)
        header, _ = peer.hear(Accepted)
        assert (header.epoch, header.seq, header.trigger_id) == (peer.epoch, 3, 77)
        core.answer(
            head,
            "scratch",
            kind="settled",
            vseq=12,
            code=CODES[Outcome.FAIL],
            latency_us=4321,
            chain=99,
        )
        header, settled = peer.hear(Settled)
        assert (header.epoch, header.seq, header.trigger_id) == (peer.epoch, 3, 77)
        assert (header.code, header.complement) == (CODES[Outcome.FAIL], 0x0F)
        assert (header.latency_us, header.chain) == (4321, 99)
        assert (settled.vseq, settled.detail) == (12, "scratch")

    def test_a_conflict_is_a_refusal_about_that_frame(self, core, peer):
        peer.frame(3)
        core.answer(core.frame(), "verdict 5 of other pixels stands", kind="conflict")
        header, nack = peer.hear(Nack)
        assert (header.epoch, header.seq, nack.why) == (peer.epoch, 3, Why.CONFLICT)
        assert "verdict 5" in nack.detail

    def test_they_reach_the_newest_connection(self, core, peer, open_peer):
        for seq in (1, 2, 3, 4):
            peer.frame(seq)
        one, two, three, four = [core.frame() for _ in range(4)]
        core.settle(one, vseq=1)
        peer.hear(Settled)
        peer.close()
        again = open_peer(hello=False, epoch=peer.epoch)
        assert again.hello().settled_upto == 1
        core.accept(two)
        core.settle(three, vseq=2)
        core.answer(four, "other pixels", kind="conflict")
        assert again.hear(Accepted)[0].seq == 2
        assert again.hear(Settled)[0].seq == 3
        assert again.hear(Nack)[0].seq == 4

    def test_what_is_settled_without_a_link_is_known_at_the_next_one(self, core, peer, open_peer):
        for seq in (1, 2, 3):
            peer.frame(seq)
        heads = [core.frame() for _ in range(3)]
        peer.say(Bye())
        peer.close()
        for head in heads:
            core.settle(head, vseq=head.key.seq)
        core.message(Alive)
        again = open_peer(hello=False, epoch=peer.epoch)
        assert again.hello().settled_upto == 3

    def test_another_start_of_the_source_hears_nothing_of_the_one_before(
        self, core, peer, open_peer
    ):
        peer.frame(1)
        head = core.frame()
        again = open_peer(epoch=uuid.uuid4().bytes)
        core.settle(head, vseq=1)
        again.frame(1)
        core.settle(core.frame(), vseq=2)
        assert again.hear(Settled)[1].vseq == 2
        assert again.heard["Settled"] == 1

    def test_a_frame_offered_again_is_offered_to_core_again(self, core, peer):
        """Core decides; this process remembers no frame."""
        peer.frame(1)
        peer.frame(1)
        first, second = core.frame(), core.frame()
        assert (first.key, first.digest) == (second.key, second.digest)
        for head in (first, second):
            core.settle(head, vseq=1)
            assert peer.hear(Settled)[1].vseq == 1


class TestTime:
    def test_the_shortest_round_trip_shortens_time_zero(self, core, open_peer):
        peer = open_peer(hello=False)
        peer.ponging = False
        peer.hello()
        peer.frame(1, age_us=7000)
        head = core.frame()
        assert head.arrived_ns - head.time_zero_ns == 7 * MS
        ping, _ = peer.hear(Ping)
        peer.listen(0.1)
        peer.say(Pong(), seq=ping.seq)
        peer.frame(2, age_us=7000)
        head = core.frame()
        slow_ms = (head.arrived_ns - head.time_zero_ns) / MS - 7
        assert 100 <= slow_ms < 500
        peer.ponging = True
        peer.hear(Ping)
        peer.frame(3, age_us=7000)
        head = core.frame()
        quick_ms = (head.arrived_ns - head.time_zero_ns) / MS - 7
        assert 0 < quick_ms < slow_ms

    def test_a_negative_age_is_none_and_counted(self, core, peer):
        peer.frame(1, age_us=-5000)
        head = core.frame()
        assert head.arrived_ns >= head.time_zero_ns
        assert core.until_counted("line.negative_age") == 1


class TestHeartbeats:
    def test_they_follow_core_and_stop_with_it(self, core, peer):
        assert peer.listen(0.4)["Heartbeat"] == 0
        for number in range(1, 6):
            core.pulse("ready", head_vseq=number, toggle=bool(number % 2))
            _, beat = peer.hear(Heartbeat)
            assert (beat.head_vseq, beat.oldest_vseq) == (number, 1)
            assert (beat.state, beat.toggle) == ("ready", bool(number % 2))
        assert peer.listen(0.4)["Heartbeat"] == 0

    def test_a_source_that_falls_silent_is_no_longer_linked(self, core, open_peer):
        quiet, alive = open_peer(), open_peer(name="line")
        quiet.hello()
        quiet.ponging = False
        began = clock.now_ns()
        while clock.now_ns() - began < 3.4e9:
            quiet.listen(0.2)
            alive.drain()
        core.pulse()
        assert quiet.listen(0.3)["Heartbeat"] == 0
        quiet.frame(1)
        assert quiet.hear(Nack)[1].why is Why.HELLO_FIRST


def test_welcome_comes_before_all_else(core, open_peer):
    peer = open_peer(hello=False)
    core.pulse()
    peer.hello()
    assert next(iter(peer.heard)) == Welcome.__name__
