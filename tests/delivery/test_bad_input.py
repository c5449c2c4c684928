"""Hostile and broken peers: each one is answered or cut, and nobody else notices."""

import itertools
import random
import socket
import struct
import sys
import zlib

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_inspector import clock
from edge_inspector.wire import assured
from edge_inspector.wire.assured import (
    Ack,
    FrameFacts,
    Heartbeat,
    Hello,
    NewRun,
    Replay,
    Subscribe,
)
from edge_inspector.wire.codes import Refusal, Type
from edge_inspector.wire.header import Header, pack

MS = clock.NS_PER_MS
PEERS = (f"peer-{number}".encode() for number in itertools.count())


@pytest.fixture
def plc(core, connect):
    """A good consumer, which must get its verdicts whatever others do."""
    plc = connect("good")
    plc.subscribe()
    yield plc
    core.commit(10)
    core.pulse()
    plc.beat()
    plc.until(lambda: len(plc.live) == 10 and plc.heartbeats)


def of_version(major):
    raw = bytearray(pack(Header(type=Type.HEARTBEAT)))
    raw[4] = major
    raw[92:] = struct.pack("<I", zlib.crc32(raw[:92]))
    return bytes(raw)


BROKEN = {
    "nothing": [b""],
    "short header": [bytes(95)],
    "no magic": [bytes(96)],
    "flipped bit": [bytes([*pack(Header(type=Type.ACK))[:40], 1, *pack(Header(type=Type.ACK))[41:]])],
    "metadata shorter than told": [pack(Header(type=Type.ACK, meta_len=9)), b"\x82"],
    "metadata longer than told": [pack(Header(type=Type.ACK, meta_len=1)), b"\x82" * 9],
    "payload not there": [pack(Header(type=Type.ACK, payload_len=2**32 - 1))],
    "metadata too large": [pack(Header(type=Type.ACK, meta_len=4097)), bytes(4097)],
    "four parts": [pack(Header(type=Type.HEARTBEAT)), b"", b"", b""],
    "256 parts": [pack(Header(type=Type.HEARTBEAT)), *[bytes(1000)] * 255],
    "no msgpack": [pack(Header(type=Type.ACK, meta_len=1)), b"\xc1"],
    "nested deep": [pack(Header(type=Type.ACK, meta_len=4000)), b"\x81\xa1x" + b"\x91" * 3997],
    "negative number": assured.assemble(Header(type=Type.ACK), b"\x82\xa4upto\xff\xa9live_upto\x00"),
}  # fmt: skip


def test_what_cannot_be_read_is_refused_and_counted(core, connect, plc):
    for name, parts in BROKEN.items():
        bad = connect(name.replace(" ", "-"))
        bad.socket.send_multipart(parts)
        nack = bad.hear("Nack")
        assert (name, nack.why) == (name, "BAD_HEADER")
        assert nack.detail
    assert core.until_counted("messages_bad", len(BROKEN)) == len(BROKEN)
    assert core.counters["nack_bad_header"] == len(BROKEN)


def test_another_version_is_told_which_one_is_spoken(core, connect, plc):
    bad = connect("bad")
    bad.socket.send(of_version(2))
    nack = bad.hear("Nack")
    assert (nack.why, nack.versions) == ("VERSION", [1])


def test_a_part_that_is_too_large_cuts_its_sender(core, connect, plc):
    bad = connect("bad")
    bad.subscribe()
    bad.socket.send_multipart([pack(Header(type=Type.ACK, meta_len=65_537)), bytes(65_537)])

    def is_unknown():
        bad.beat()
        return getattr(bad.take(20), "why", "") == "HELLO_FIRST"

    plc.until(is_unknown)
    bad.say(Type.SUBSCRIBE, Subscribe(consumer="bad"))
    assert bad.hear("Subscribed").head == 0


def test_a_peer_that_sends_rubbish_only_is_not_read_any_more(core, connect, plc):
    bad = connect("bad")
    bad.subscribe()
    for _ in range(30):
        bad.socket.send(b"rubbish")
    assert core.until_counted("messages_unread", 14) == 14
    assert (core.counters["messages_bad"], core.counters["consumers_gone"]) == (16, 1)
    core.pulse()
    bad.rest()
    assert not bad.heartbeats
    bad.say(Type.SUBSCRIBE, Subscribe(consumer="bad"))
    assert core.until_counted("messages_unread", 15) == 15


def test_good_messages_make_up_for_bad_ones(core, connect, plc):
    odd = connect("odd")
    odd.subscribe()
    for _ in range(20):
        odd.socket.send(b"rubbish")
        assert odd.hear("Nack").why == "BAD_HEADER"
        odd.beat()
    core.pulse()
    assert odd.hear("Heartbeat")


def test_who_did_not_subscribe_is_told_to(core, connect, plc):
    stranger = connect("stranger")
    words = {
        Type.HEARTBEAT: Heartbeat(),
        Type.ACK: Ack(1),
        Type.REPLAY: Replay(1, 1),
        Type.NEW_RUN: NewRun("st1"),
        Type.FRAME: FrameFacts(),
    }
    for kind, said in words.items():
        stranger.say(kind, said)
        assert (kind, stranger.hear("Nack").why) == (kind, "HELLO_FIRST")
    assert stranger.subscribe().head == 0


def test_what_only_sources_or_the_daemon_say_is_refused(core, connect, plc):
    odd = connect("odd")
    odd.subscribe()
    odd.say(Type.FRAME, FrameFacts())
    assert odd.hear("Nack").why == "NOT_ALLOWED"
    odd.say(Type.HELLO, Hello(name="cam", versions=[1]))
    assert odd.hear("Nack").why == "NOT_ALLOWED"


def test_a_33rd_consumer_has_to_wait_until_one_leaves(core, connect):
    plcs = [connect(f"plc-{n}") for n in range(32)]
    assert all(plc.subscribe().head == 0 for plc in plcs)
    late = connect("late")
    assert late.subscribe().why == "BUSY"
    assert connect("plc-7").subscribe().head == 0
    plcs[0].say(Type.BYE, assured.Bye())
    for plc in plcs[1:]:
        plc.beat()
    core.until_counted("consumers_gone", 2)
    assert late.subscribe().head == 0


def test_a_storm_of_bad_messages_leaves_room_for_the_others(core, connect, plc):
    rng = random.Random(5)
    bad = [connect(f"bad-{n}") for n in range(8)]
    sent = 0
    waited_ms = []
    for _ in range(60):
        for one in bad:
            for _ in range(5):
                one.socket.send_multipart(rng.choice(list(BROKEN.values())))
                sent += 1
        committed = core.commit()[0].committed_ns
        plc.until(lambda: plc.live)
        waited_ms.append((clock.now_ns() - committed) / MS)
        plc.ack(0, plc.live[-1].header.seq)
        plc.live.clear()
    core.until_counted("messages_unread", sent - 8 * 16)
    assert core.counters["messages_bad"] == 8 * 16
    assert core.counters["messages_unread"] == sent - 8 * 16
    assert sorted(waited_ms)[30] < 20


VALID = [
    assured.build(Subscribe(consumer="plc")),
    assured.build(Ack(0, 0)),
    assured.build(Replay(1, 2)),
    assured.build(NewRun("st1")),
    assured.build(Heartbeat()),
]


@st.composite
def messages(draw):
    """A valid message with some of its bytes changed under a CRC that holds, or plain bytes."""
    if draw(st.booleans()):
        return draw(st.lists(st.binary(max_size=120), max_size=4))
    header, metadata = (bytearray(part) for part in draw(st.sampled_from(VALID)))
    for part in (header, metadata):
        for _ in range(draw(st.integers(0, 3))):
            part[draw(st.integers(0, len(part) - 1))] = draw(st.integers(0, 255))
    header[92:] = struct.pack("<I", zlib.crc32(header[:92]))
    return [bytes(header), bytes(metadata)]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(messages(), max_size=8))
def test_whatever_a_peer_sends_is_taken_or_refused(reception, sent):
    """What the codec refuses is refused to a peer that was not heard of before, and counted."""
    before = reception._counters.copy()
    peer = next(PEERS)
    for parts in sent:
        reception.hear(peer, parts)
    told = reception._counters - before
    nacks = sum(count for event, count in told.items() if event.startswith("nack_"))
    assert sum(map(unreadable, sent)) <= told["messages_bad"] <= nacks <= len(sent)
    assert told["messages_unread"] == 0


def unreadable(parts):
    try:
        assured.read(assured.split(parts))
    except Refusal:
        return True
    return False


def claim(path, identity):
    """Connect by hand under a routing id that no library lets a peer choose (ZMTP 3.1, NULL)."""
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(path)
    peer.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32))
    properties = b"".join(
        bytes([len(name)]) + name + struct.pack(">I", len(value)) + value
        for name, value in ((b"Socket-Type", b"DEALER"), (b"Identity", identity))
    )
    ready = b"\x05READY" + properties
    peer.sendall(bytes([4, len(ready)]) + ready)
    peer.settimeout(2)
    said = b""
    while b"READY" not in said:
        said += peer.recv(256)
    return peer


CRAMPED = """
from edge_inspector.delivery import process
process.MEMORY_MIB = 200
raise SystemExit(process.main())
"""


def send_all(peer, raw):
    """False once the other side has cut the connection."""
    try:
        peer.sendall(raw)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


TELLING = """
import sys
from edge_inspector.delivery import process, reception
hear = reception.Reception.hear
def telling(self, peer, parts):
    sys.stderr.write(peer.hex() + "\\n")
    hear(self, peer, parts)
reception.Reception.hear = telling
raise SystemExit(process.main())
"""


@pytest.mark.fault
def test_a_message_whose_parts_never_end_is_cut_at_the_memory_of_this_process(
    start_delivery, connect, tmp_path
):
    core = start_delivery(command=("-c", CRAMPED))
    delivery = psutil.Process(core.process.pid)
    before, peak, parts = delivery.memory_info().rss, 0, 0
    part = struct.pack(">BQ", 3, 65_536) + bytes(65_536)
    with claim(str(tmp_path / "verdicts"), b"endless") as endless:
        while send_all(endless, part):
            parts += 1
            peak = max(peak, delivery.memory_info().rss - before)
    limit_mib = 200 + 128  # what glibc has reserved for its threads before the limit was set
    assert 1000 < parts < limit_mib * 16
    assert peak < limit_mib * 2**20
    if core.process.poll() is not None:  # the other way in which a lack of memory can end
        core = start_delivery()
    plc = connect()
    plc.subscribe()
    core.commit()
    plc.until(lambda: plc.live)


@pytest.mark.fault
def test_a_claimed_automatic_routing_id_at_worst_ends_this_process(
    start_delivery, connect, tmp_path, capfd
):
    core = start_delivery(command=("-c", TELLING))
    core.commit(20)
    plc = connect()
    plc.subscribe()
    plc.until(lambda: len(plc.history) == 20)
    plc.ack(20)
    core.until_acked("plc", 20)
    mine = bytes.fromhex(capfd.readouterr().err.split()[0])
    (number,) = struct.unpack(">xI", mine)
    claimed = claim(str(tmp_path / "verdicts"), struct.pack(">xI", (number + 1) % 2**32))
    connect("next").say(Type.SUBSCRIBE, Subscribe(consumer="next"))
    plc.rest()
    ended = core.process.poll() is not None
    print(f"ended: {ended}", file=sys.stderr)
    core.kill()
    claimed.close()
    core = start_delivery()
    core.commit(5)
    again = connect()
    assert again.subscribe().acked == 20
    again.until(lambda: len(again.history) + len(again.live) == 5)
