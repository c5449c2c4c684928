"""
Whatever a peer of the ASSURED tier sends: it is refused or recorded, and hurts nobody else.

Each control runs the same attack with one protection off, and must see the harm.
"""

import random
import socket
import struct
import threading
import zlib
from collections import Counter
from contextlib import contextmanager, suppress

import cv2
import msgspec
import numpy as np
import zmq

from edge_inspector import clock, settings
from edge_inspector.channel import Arrived
from edge_inspector.records import Reason
from edge_inspector.sources.arrival import Arrival, Surroundings
from edge_inspector.sources.assured import AssuredSource
from edge_inspector.wire import assured
from edge_inspector.wire.assured import (
    Ack,
    Credit,
    FrameFacts,
    Heartbeat,
    Hello,
    Message,
    Nack,
    Settled,
    Subscribe,
)  # fmt: skip
from edge_inspector.wire.codes import Flag, Type, Why
from edge_inspector.wire.header import SIZE as HEADER_SIZE
from edge_inspector.wire.header import Header, pack, unpack
from tests.ingest.peer import GOOD
from tests.ingest.test_bad_input import png_bomb

JPEG = cv2.imencode(".jpg", GOOD)[1].tobytes()
PNG = cv2.imencode(".png", GOOD)[1].tobytes()
NESTED = b"\x81\xa1x" + b"\x91" * 4000 + b"\xc0"


def source(endpoint, **keys):
    return {"type": "assured", "name": "line", "endpoint": endpoint, **keys}


def patched(raw, at, value, *, crc=True):
    """A header with other bytes at one place, and the CRC that belongs to them."""
    changed = raw[:at] + value + raw[at + len(value) : HEADER_SIZE - 4]
    return changed + (struct.pack("<I", zlib.crc32(changed)) if crc else raw[HEADER_SIZE - 4 :])


def lying(peer, seq, at, value, *, crc=True):
    (facts, body), fields = peer.whole(seq)
    raw, *rest = peer.parts(facts, body, **fields)
    return [patched(raw, at, value, crc=crc), *rest]


def with_metadata(peer, seq, metadata):
    (_, body), fields = peer.whole(seq)
    header = Header(type=Type.FRAME, epoch=peer.epoch, meta_len=len(metadata), **fields)
    return [pack(msgspec.structs.replace(header, payload_len=len(body))), metadata, body]


def frame(peer, seq, pixels=GOOD, **fields):
    (facts, body), header = peer.whole(seq, pixels, **fields)
    return peer.parts(facts, body, **header)


def encoded(peer, seq, body, codec, **fields):
    return frame(peer, seq, body, codec=codec, **fields)


def tombstone(peer, seq, payload=b"", **facts):
    return peer.parts(FrameFacts(**facts), payload, flags=Flag.TOMBSTONE, seq=seq)


REFUSED = {
    "one empty part": (lambda p, n: [b""], "header of 0 bytes"),
    "one part of text": (lambda p, n: [b"hello"], "header of 5 bytes"),
    "four parts": (lambda p, n: [*frame(p, n), b"more"], "4 parts"),
    "256 parts": (lambda p, n: [*frame(p, n)[:1], *[b"x" * 1000] * 255], "256 parts"),
    "256 empty parts": (lambda p, n: [b""] * 256, "256 parts"),
    "header cut": (lambda p, n: [frame(p, n)[0][:-1]], "header of 95 bytes"),
    "header long": (lambda p, n: [frame(p, n)[0] + b"\0"], "header of 97 bytes"),
    "other magic": (lambda p, n: lying(p, n, 0, b"EIP2"), "magic b'EIP2'"),
    "other CRC": (lambda p, n: lying(p, n, 70, b"\xff", crc=False), "CRC"),
    "payload_len too large": (lambda p, n: lying(p, n, 12, b"\xff\xff\xff\xff"), "4294967295"),
    "payload_len too small": (lambda p, n: lying(p, n, 12, b"\1\0\0\0"), "3072 came"),
    "payload_len of nothing": (lambda p, n: lying(p, n, 12, bytes(4)), "3072 came"),
    "payload that was not sent": (lambda p, n: frame(p, n)[:2], "and 0 came"),
    "meta_len too large": (lambda p, n: lying(p, n, 8, b"\xff\xff\0\0"), "65535"),
    "meta_len too small": (lambda p, n: lying(p, n, 8, bytes(4)), "tells 0"),
    "unknown type": (lambda p, n: lying(p, n, 6, b"\x77"), "type 0x77"),
    "metadata too long": (lambda p, n: with_metadata(p, n, bytes(4097)), "limit is 4096"),
    "metadata nested deep": (lambda p, n: with_metadata(p, n, NESTED), "cannot be read"),
    "metadata of pickle": (lambda p, n: with_metadata(p, n, b"\x80\x04K\x01."), "cannot be read"),
    "metadata no map": (lambda p, n: with_metadata(p, n, b"\x91\x01"), "cannot be read"),
    "metadata cut": (lambda p, n: with_metadata(p, n, b"\x81\xa7unit"), "cannot be read"),
    "metadata no text": (
        lambda p, n: with_metadata(p, n, b"\x81\xa7unit_id\xa2\xff\xfe"),
        "be read",
    ),
    "unit_id of 65": (lambda p, n: frame(p, n, unit_id="x" * 65), "cannot be read"),
    "unit_id of none": (lambda p, n: frame(p, n, unit_id=""), "cannot be read"),
    "total_len below zero": (lambda p, n: frame(p, n, total_len=-1), "cannot be read"),
    "foreign epoch": (lambda p, n: frame(p, n, epoch=b"0123456789abcdef"), "not that of HELLO"),
    "frame zero": (lambda p, n: frame(p, 0), "frame number 0"),
    "frame far ahead": (lambda p, n: frame(p, n + 5000), "count by 1"),
    "frame 2**64 - 1": (lambda p, n: frame(p, 2**64 - 1), "count by 1"),
    "tombstone of no cause": (lambda p, n: tombstone(p, n), "has a 'why'"),
    "tombstone of another cause": (lambda p, n: tombstone(p, n, why="pass"), "cannot be read"),
    "tombstone with pixels": (lambda p, n: tombstone(p, n, b"x", why="no_image"), "no payload"),
    "chunk of no beginning": (lambda p, n: frame(p, n, offset=4), "out of order"),
    "chunk of nothing": (lambda p, n: frame(p, n, b"", flags=0), "empty"),
}

RECORDED = {
    "no pixels": (lambda p, n: frame(p, n, b""), "pixel format 0"),
    "too many pixels": (lambda p, n: frame(p, n, width=65535, height=65535), "limit is 4000000"),
    "pixels that did not come": (lambda p, n: frame(p, n, width=65), "take 3120 bytes"),
    "no width": (lambda p, n: frame(p, n, width=0), "0 x 48"),
    "stride beyond the rows": (lambda p, n: frame(p, n, stride_16=5), "3072 came"),
    "unknown pixel format": (lambda p, n: frame(p, n, pixel_format=7), "pixel format 7"),
    "unknown codec": (lambda p, n: frame(p, n, codec=9), "codec 9"),
    "neither JPEG nor PNG": (lambda p, n: encoded(p, n, b"GIF89a" + bytes(99), 1), "neither"),
    "PNG that tells JPEG": (lambda p, n: encoded(p, n, PNG, 1), "it is png"),
    "cut JPEG": (lambda p, n: encoded(p, n, JPEG[:-30], 1), "was cut"),
    "PNG bomb": (lambda p, n: encoded(p, n, png_bomb(), 2), "limit is 4000000"),
    "camera that HELLO does not list": (lambda p, n: frame(p, n, camera=3), "camera number 3"),
    "recipe that WELCOME does not list": (lambda p, n: frame(p, n, recipe=2), "recipe number 2"),
    "unit_id of control characters": (lambda p, n: frame(p, n, unit_id="a\x1b[2J"), "printable"),
    "total_len that lies": (lambda p, n: frame(p, n, total_len=9), "total_len 9"),
    "total_len of 1 TB": (
        lambda p, n: frame(p, n, total_len=10**12, flags=0),
        "total_len 1000000000000; the limits are 1 to 1048576",
    ),
    "first chunk without total_len": (lambda p, n: frame(p, n, flags=0), "total_len None"),
    "chunk larger than total_len": (
        lambda p, n: frame(p, n, total_len=100, flags=0),
        "chunks of 3072 bytes for a frame of 100",
    ),
    "last chunk too early": (
        lambda p, n: frame(p, n, total_len=9000, flags=Flag.LAST),
        "total_len 9000; 3072 bytes came",
    ),
}


def test_what_is_refused_is_never_recorded_and_the_next_frame_passes(
    start_ingest, connect, endpoint
):
    core = start_ingest(source(endpoint))
    peer = connect(endpoint)
    for seq, (what, (parts, said)) in enumerate(REFUSED.items(), start=1):
        peer.raw(*parts(peer, seq))
        header, nack = peer.hear(Nack)
        assert nack.why is Why.BAD_HEADER, what
        assert said in nack.detail, f"{what}: {nack.detail}"
        assert header.seq in (0, seq) or "frame number" in nack.detail, what
        peer.frame(seq)
        head = core.frame()
        assert (head.fault, head.key.seq) == (None, seq), what
        assert np.array_equal(core.array(head), GOOD), what
    assert core.until_counted("line.nack_bad_header", len(REFUSED) - 5) >= len(REFUSED) - 5


def test_what_is_recorded_is_bad_input_and_never_refused(start_ingest, connect, endpoint):
    core = start_ingest(source(endpoint))
    peer = connect(endpoint)
    for number, (what, (parts, said)) in enumerate(RECORDED.items()):
        bad, good = 2 * number + 1, 2 * number + 2
        peer.raw(*parts(peer, bad))
        head = core.frame()
        assert (head.fault, head.slot, head.key.seq) == (Reason.BAD_INPUT, -1, bad), what
        assert said in head.detail, f"{what}: {head.detail}"
        core.settle(head, vseq=bad, outcome=Reason.BAD_INPUT)
        assert peer.hear(Settled)[0].seq == bad
        peer.frame(good)
        assert core.frame().fault is None, what
    assert peer.nacks == []


def test_an_absurd_age_is_a_frame_that_came_too_late(start_ingest, connect, endpoint):
    core = start_ingest(source(endpoint))
    peer = connect(endpoint)
    for seq, age_us in enumerate((2**63, 2**64 - 1, -(2**63)), start=1):
        peer.frame(seq, age_us=age_us)
        head = core.frame()
        late = (head.arrived_ns - head.time_zero_ns) // 1000 >= 600_000_000
        assert late == (age_us > 0)


def test_another_version_hears_which_are_spoken(start_ingest, connect, endpoint):
    core = start_ingest(source(endpoint))
    peer = connect(endpoint, hello=False)
    raw, metadata = peer.parts(Hello(name="line", versions=[2]))
    for parts in (
        peer.parts(Hello(name="line", versions=[2, 3])),
        [patched(raw, 4, b"\x02"), metadata],
    ):
        peer.raw(*parts)
        nack = peer.hear(Nack)[1]
        assert (nack.why, nack.versions) == (Why.VERSION, [1])
    peer.hello(versions=[7, 1])
    assert core.until_counted("line.nack_version")


def test_who_is_not_listed_or_not_named_gets_no_link(start_ingest, connect, endpoint):
    start_ingest(source(endpoint))
    attempts = {
        "name": (Hello(name="stranger", versions=[1]), {}, Why.NOT_ALLOWED, "takes line"),
        "camera": (
            Hello(name="line", versions=[1], cameras=["main", "nose"]),
            {},
            Why.NOT_ALLOWED,
            "camera 'nose' is not known; the station has main, side",
        ),
        "epoch": (Hello(name="line", versions=[1]), {"epoch": bytes(16)}, Why.NOT_ALLOWED, "UUID"),
        "spelling": (Hello(name="li/ne", versions=[1]), {}, Why.BAD_HEADER, "cannot be read"),
        "cameras": (
            Hello(name="line", versions=[1], cameras=["main"] * 65),
            {},
            Why.BAD_HEADER,
            "cannot be read",
        ),
    }
    for what, (hello, fields, why, said) in attempts.items():
        peer = connect(endpoint, hello=False)
        peer.say(hello, **fields)
        nack = peer.hear(Nack)[1]
        assert nack.why is why, what
        assert said in nack.detail, what
        peer.frame(1)
        assert peer.hear(Nack)[1].why is Why.HELLO_FIRST, what


def test_nothing_counts_before_hello(start_ingest, connect, endpoint):
    core = start_ingest(source(endpoint))
    peer = connect(endpoint, hello=False)
    for _ in range(30):
        peer.frame(1)
        assert peer.hear(Nack)[1].why is Why.HELLO_FIRST
    peer.hello()
    peer.frame(1)
    assert core.frame().key.seq == 1


def test_a_source_may_send_only_what_sources_send(start_ingest, connect, endpoint):
    core = start_ingest(source(endpoint))
    peer = connect(endpoint)
    for metadata in (Subscribe(consumer="plc"), Ack(upto=7), Settled(1), Credit(9, 9)):
        peer.say(metadata)
        assert peer.hear(Nack)[1].why is Why.NOT_ALLOWED
    peer.frame(1)
    assert core.frame().fault is None


def test_over_credit_is_refused_and_cut(start_ingest, connect, endpoint):
    """The window is full of chunks, so that no credit comes back meanwhile."""
    core = start_ingest(source(endpoint, credit_msgs=3), budget_us=300_000)
    peer = connect(endpoint)
    chunks = peer.chunks(1, GOOD, 700)
    assert len(chunks) == 5
    for parts in chunks[:4]:
        peer.raw(*parts)
    header, nack = peer.hear(Nack)
    assert (header.seq, nack.why) == (1, Why.OVER_CREDIT)
    assert "4 messages" in nack.detail
    peer.frame(2)
    assert peer.hear(Nack)[1].why is Why.HELLO_FIRST
    head = core.frame()
    assert (head.key.seq, head.fault) == (1, Reason.NO_IMAGE)
    peer.hello()
    peer.frame(2)
    assert core.frame().fault is None


def test_a_peer_of_bad_messages_only_is_not_read_any_more(start_ingest, connect, endpoint):
    core = start_ingest(source(endpoint, peers=["line", "other"]))
    peer, other = connect(endpoint), connect(endpoint, name="other")
    for _ in range(100):
        peer.raw(b"rubbish")
    assert peer.hear(assured.Bye)[1].why.startswith("BAD_HEADER")
    assert peer.listen(0.2)["Nack"] == 0
    assert peer.heard["Nack"] == 16
    peer.frame(1)
    other.frame(1)
    assert core.frame().key.source == "other"
    again = connect(endpoint)
    again.frame(1)
    assert core.frame().key.source == "line"


def test_an_oversized_part_cuts_its_sender_alone(start_ingest, connect, endpoint):
    core = start_ingest(source(endpoint, peers=["line", "other"]))
    peer, other = connect(endpoint), connect(endpoint, name="other")
    before = core.rss_mib()
    for seq in range(1, 6):
        peer.raw(*frame(peer, seq, bytes(1024 * 1024 + 1)))
        other.frame(seq)
        assert core.frame().key.source == "other"
        peer.hello(timeout_s=10)
    print(f"ingest held {before:.0f} MiB, now {core.rss_mib():.0f}")
    assert peer.heard["Welcome"] == 6
    assert core.rss_mib() - before < 64


def announce_a_gigabyte(endpoint):
    """ZMTP 3.0 by hand: greeting, READY, and the length of a part that never follows."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    line = socket.create_connection((host, int(port)), timeout=2)
    line.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
    ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
    line.sendall(b"\x04" + bytes([len(ready)]) + ready)
    line.sendall(b"\x02" + struct.pack(">Q", 2**30) + b"EIP1")
    return line


def is_cut(line):
    """Whether the other side closes it soon."""
    with line, suppress(ConnectionResetError, TimeoutError):
        line.settimeout(0.5)
        while line.recv(4096):
            pass
        return True
    return False


def test_who_announces_a_gigabyte_and_falls_silent_is_cut(start_ingest, connect, endpoint):
    core = start_ingest(source(endpoint))
    peer, before = connect(endpoint), core.rss_mib()
    lines = [announce_a_gigabyte(endpoint) for _ in range(8)]
    assert [is_cut(line) for line in lines] == [True] * 8
    peer.frame(1)
    assert core.frame().fault is None
    assert core.rss_mib() - before < 16


def test_wild_chunks_hold_neither_credit_nor_memory(start_ingest, connect, endpoint):
    """Random offsets, sizes and totals; the seed is fixed."""
    core = start_ingest(source(endpoint, credit_msgs=64), slots_granted=128, budget_us=100_000)
    peer, rng, recorded = connect(endpoint), random.Random(11), Counter[Reason | None]()
    before = core.rss_mib()
    for seq in range(1, 301):
        totals = (None, 0, 1, 700, 3000, 10**6, 10**12, 2**63 - 1)
        for _ in range(rng.randint(1, 4)):
            facts = FrameFacts(total_len=rng.choice(totals))
            peer.say(
                facts,
                bytes(rng.choice((0, 1, 700, 3000))),
                seq=seq,
                offset=rng.choice((0, 0, 0, 1, 700, 3000, 2**32 - 1)),
                flags=rng.choice((0, 0, Flag.LAST)),
            )
        peer.tombstone(seq)
        while (head := core.frame()).tombstone is False:
            recorded[head.fault] += 1
        core.settle(head, vseq=seq)
        peer.hear(Settled)
    print(f"seed 11: {dict(recorded)}, {len(peer.nacks)} NACK, {core.counters}")
    assert set(recorded) <= {Reason.BAD_INPUT, Reason.NO_IMAGE}
    assert recorded[Reason.BAD_INPUT] > 50
    assert {nack.why for _, nack in peer.nacks} == {Why.BAD_HEADER}
    assert core.rss_mib() - before < 32
    for seq in range(301, 401):
        peer.frame(seq)
        assert core.frame().fault is None


def hostile(peer):
    """Messages for ever, of every refused kind, with one in order now and then."""
    kinds = [parts for parts, _ in REFUSED.values()]
    seq = 0
    while True:
        for parts in kinds:
            seq += 1
            yield parts(peer, seq)
            if seq % 10 == 0:
                yield peer.parts(Heartbeat())


def way_us(core, good, seqs, before_each):
    """How long each frame took from its source to core, sorted."""
    took = []
    for seq in seqs:
        before_each()
        if good.used[0] >= good.credit[0]:
            good.hear(Credit)
        began = clock.now_ns()
        good.frame(seq)
        assert core.message(Arrived).head.key.seq == seq
        took.append((clock.now_ns() - began) / 1000)
    return sorted(took)


def test_a_thousand_hostile_messages_do_not_slow_the_others(start_ingest, connect, endpoint):
    """
    The target is p99 <= 1.2 x; 25 ms more are allowed here, for a box that others use too.

    The attacker is a listed peer that beats now and then, so that everything it sends is read.
    """
    core = start_ingest(source(endpoint, peers=["line", "evil"]), slots_granted=1024)
    good, evil = connect(endpoint), connect(endpoint, name="evil")
    evil.frame(1)
    assert core.frame().key.source == "evil"
    attack = hostile(evil)
    quiet = way_us(core, good, range(1, 401), lambda: None)
    rss = core.rss_mib()

    def strike():
        for _ in range(3):
            evil.raw(*next(attack))

    loud = way_us(core, good, range(401, 801), strike)
    evil.listen(0.3)
    p99 = [times[int(0.99 * len(times))] for times in (quiet, loud)]
    print(
        f"{len(evil.nacks)} NACK; p50 {quiet[200]:.0f} -> {loud[200]:.0f} us, "
        f"p99 {p99[0]:.0f} -> {p99[1]:.0f} us (x {p99[1] / p99[0]:.2f}); "
        f"RSS {rss:.0f} -> {core.rss_mib():.0f} MiB"
    )
    assert len(evil.nacks) >= 1000, "fewer attacks than stated"
    assert good.nacks == []
    assert p99[1] <= 1.2 * p99[0] + 25_000
    assert core.rss_mib() - rss < 64


def test_an_id_of_the_automatic_range_costs_at_worst_this_process(start_ingest, connect, endpoint):
    core = start_ingest(source(endpoint, peers=["line", "evil"]))
    for claimed in (b"\0abcd", b"\0\0\0\0\1", b"\0"):
        evil = connect(endpoint, hello=False, name="evil", routing_id=claimed)
        evil.say(Hello(name="evil", versions=[1]))
        evil.listen(0.2)
    for _ in range(20):
        connect(endpoint, hello=False)
    if core.process.poll() is None:
        good = connect(endpoint)
        good.frame(1)
        assert core.frame().fault is None
    else:
        assert core.message(Arrived) is None


# the same source in this process, where a protection can be taken away


@contextmanager
def within(endpoint, change=lambda source: None):
    """An `AssuredSource` on a thread, and what it offers."""
    offered: list[Arrival] = []
    with zmq.Context() as context:
        around = Surroundings(
            context=context,
            recipe="board",
            cameras=frozenset({"main"}),
            recipes=frozenset({"board"}),
            max_bytes=64 * 1024,
            max_pixels=4_000_000,
            count=lambda source, kind: None,
        )
        configured = settings.AssuredSource(
            type="assured", name="line", endpoint=endpoint, peers=("line", "other")
        )
        source = AssuredSource(configured, around)
        thread = threading.Thread(target=source.run, args=(offered.append,))
        change(source)
        thread.start()
        try:
            yield offered
        finally:
            source.stop()
            thread.join()


def without_size_limit(source):
    endpoint = source._socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
    source._socket.unbind(endpoint)
    source._socket.setsockopt(zmq.MAXMSGSIZE, -1)
    give_up_ns = clock.now_ns() + 2e9
    while clock.now_ns() < give_up_ns:  # libzmq lets go of the address in its own time
        with suppress(zmq.ZMQError):
            source._socket.bind(endpoint)
            return


def test_control_without_maxmsgsize_an_oversized_part_is_assembled_and_read(connect, endpoint):
    def cut(change):
        with within(endpoint, change) as offered:
            peer = connect(endpoint)
            peer.frame(1, bytes(5_000_000))
            peer.listen(0.3)
            peer.close()
            return not offered

    assert cut(lambda source: None)
    assert not cut(without_size_limit)


def test_control_without_maxmsgsize_who_announces_a_gigabyte_is_kept(endpoint):
    def cut(change):
        with within(endpoint, change):
            return is_cut(announce_a_gigabyte(endpoint))

    assert cut(lambda source: None)
    assert not cut(without_size_limit)


def test_control_without_the_length_check_a_lying_message_is_taken(connect, endpoint, monkeypatch):
    def refused():
        with within(endpoint) as offered:
            peer = connect(endpoint)
            peer.raw(*lying(peer, 1, 12, b"\xff\xff\xff\xff"))
            peer.listen(0.3)
            peer.close()
            return not offered and len(peer.nacks) == 1

    assert refused()
    strict = assured.split

    def lenient(parts):
        return Message(unpack(parts[0]), *parts[1:]) if len(parts) == 3 else strict(parts)

    monkeypatch.setattr(assured, "split", lenient)
    assert not refused()


def test_control_with_handover_a_peer_silences_the_one_whose_id_it_claims(connect, endpoint):
    def heard(change):
        with within(endpoint, change) as offered:
            good = connect(endpoint, routing_id=b"camera")
            good.frame(1)
            good.listen(0.2)
            thief = connect(endpoint, hello=False, name="other", routing_id=b"camera")
            thief.say(Hello(name="other", versions=[1]))
            thief.listen(0.2)
            good.frame(2)
            good.listen(0.2)
            for one in (good, thief):
                one.close()
            return len(offered)

    assert heard(lambda source: None) == 2
    assert heard(lambda source: source._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)) < 2
