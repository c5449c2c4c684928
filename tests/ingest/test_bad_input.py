"""Whatever a publisher sends: it is answered as bad input, and the next frame passes untouched."""

import struct
import zlib

import cv2
import msgspec
import numpy as np
import pytest
import zmq

from edge_inspector.errors import Uninspectable
from edge_inspector.records import Reason
from edge_inspector.wire.plain import encode

GOOD = np.arange(64 * 48, dtype=np.uint8).reshape(48, 64)


def meta(**keys):
    return msgspec.json.encode(keys)


def png_bomb():
    """16384 x 16384 black pixels in some 31 KB."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    packer = zlib.compressobj(9)
    row = bytes(1 + 16384 // 8)
    body = b"".join(packer.compress(row) for _ in range(16384)) + packer.flush()
    header = struct.pack(">IIBBBBB", 16384, 16384, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


JPEG = cv2.imencode(".jpg", GOOD)[1].tobytes()
PNG = cv2.imencode(".png", GOOD)[1].tobytes()

MALFORMED = {
    "one part": ([b"only"], "1 parts"),
    "four parts": ([b"t", meta(), JPEG, b"more"], "4 parts"),
    "two hundred parts": ([b"x"] * 200, "200 parts"),
    "empty metadata": ([b"", JPEG], "0 bytes"),
    "metadata too long": ([meta(msg="main") + b" " * 17000, JPEG], "16384"),
    "metadata of pickle": ([b"\x80\x04K\x01.", JPEG], "cannot be read"),
    "metadata in a list": ([b"[1]", JPEG], "0x5b"),
    "metadata nested deep": ([b'{"x":' + b"[" * 8000 + b"}", JPEG], "cannot be read"),
    "metadata of no text": ([b'{"camera":"\xff\xfe"}', JPEG], "cannot be read"),
    "unknown dtype": ([meta(dtype="float64", shape=[48, 64]), GOOD], "float64"),
    "object dtype": ([meta(dtype="O", shape=[48, 64]), GOOD], "'O'"),
    "wrong shape": ([meta(dtype="uint8", shape=[48, 65]), GOOD], "3120 bytes"),
    "negative shape": ([meta(dtype="uint8", shape=[-48, -64]), GOOD], "[-48, -64]"),
    "huge shape": ([meta(dtype="uint8", shape=[2**62, 2**62]), GOOD], "4000000"),
    "five channels": ([meta(dtype="uint8", shape=[16, 12, 16]), GOOD], "[16, 12, 16]"),
    "shape alone": ([meta(shape=[48, 64]), GOOD], "without dtype"),
    "dtype alone": ([meta(dtype="uint8"), GOOD], "without shape"),
    "no pixels": ([meta(dtype="uint8", shape=[0, 0]), b""], "0 bytes"),
    "neither JPEG nor PNG": ([meta(), b"GIF89a" + bytes(100)], "474946"),
    "cut JPEG": ([meta(), JPEG[: len(JPEG) // 2]], "was cut"),
    "JPEG of its magic": ([meta(), b"\xff\xd8\xff"], "no frame header"),
    "cut PNG": ([meta(), PNG[: len(PNG) // 2]], "was cut"),
    "PNG bomb": ([meta(), png_bomb()], "4000000"),
    "format of other depth": (
        [meta(dtype="uint8", shape=[48, 64], pixel_format="mono16"), GOOD],
        "mono16",
    ),
    "unknown camera": ([meta(camera="nose", dtype="uint8", shape=[48, 64]), GOOD], "'nose'"),
    "unknown recipe": ([meta(recipe="shoe", dtype="uint8", shape=[48, 64]), GOOD], "'shoe'"),
    "trigger zero": ([meta(trigger_id=0, dtype="uint8", shape=[48, 64]), GOOD], "trigger_id 0"),
    "trigger below zero": ([meta(trigger_id=-7, dtype="uint8", shape=[48, 64]), GOOD], "-7"),
    "trigger as text": ([meta(trigger_id="7", dtype="uint8", shape=[48, 64]), GOOD], "cannot be"),
    "unit without name": ([meta(unit_id="", dtype="uint8", shape=[48, 64]), GOOD], "unit_id ''"),
    "unit of control characters": (
        [meta(unit_id="a\x00b", dtype="uint8", shape=[48, 64]), GOOD],
        "printable",
    ),
}


def test_every_malformed_message_is_a_frame_and_the_next_one_passes(start_ingest, endpoint):
    core = start_ingest({"type": "zmq-pull", "name": "line", "endpoint": endpoint})
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.connect(endpoint)
        for number, (what, (parts, said)) in enumerate(MALFORMED.items(), start=1):
            socket.send_multipart(parts)
            socket.send_multipart(encode(GOOD, trigger_id=number))
            bad = core.frame()
            assert (bad.fault, bad.slot) == (Reason.BAD_INPUT, -1), what
            assert said in bad.detail, f"{what}: {bad.detail}"
            assert len(bad.detail) <= 300
            good = core.frame()
            assert (good.fault, good.trigger_id) == (None, number), what
            assert np.array_equal(core.array(good), GOOD), what
            assert bad.key != good.key, what
    assert core.until_counted("line.bad_input")


def test_bad_pixels_still_name_their_unit(start_ingest, endpoint):
    core = start_ingest({"type": "zmq-pull", "name": "line", "endpoint": endpoint})
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.connect(endpoint)
        socket.send_multipart([meta(trigger_id=17, unit_id="A-17", seq=4), JPEG[:-9]])
        head = core.frame()
    assert (head.fault, head.trigger_id, head.unit_id) == (Reason.BAD_INPUT, 17, "A-17")
    assert (head.numbered, head.key.seq) == (True, 4)


def test_a_request_with_bad_input_gets_its_reply(start_ingest, endpoint):
    core = start_ingest({"type": "zmq-rep", "name": "line", "endpoint": endpoint})
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.connect(endpoint)
        socket.send_multipart([b"{}", b"rubbish"])
        head = core.frame()
        core.answer(head, f"NO {head.fault.value}")
        assert socket.recv() == b"NO bad_input"
        socket.send_multipart(encode(GOOD))
        core.answer(core.frame())
        assert socket.recv() == b"OK"


def test_a_peer_that_keeps_no_envelope_is_bad_input(start_ingest, endpoint):
    core = start_ingest({"type": "zmq-rep", "name": "line", "endpoint": endpoint})
    many = [b"x"] * 100
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(endpoint)
        for parts in ([b""], [b"", b""], [b"{}"], [b"{}", b""], many, [b"", *many]):
            socket.send_multipart(parts)
            head = core.frame()
            assert head.fault is Reason.BAD_INPUT, parts
            core.answer(head, "NO")
            assert socket.recv_multipart()[-1] == b"NO"
            socket.send_multipart([b"", *encode(GOOD)])
            assert np.array_equal(core.array(core.frame()), GOOD)


def test_a_peer_that_left_before_its_answer_is_counted(start_ingest, endpoint):
    core = start_ingest({"type": "zmq-rep", "name": "line", "endpoint": endpoint})
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 1000
        socket.connect(endpoint)
        socket.send_multipart(encode(GOOD))
        head = core.frame()
    assert core.until_counted("line.disconnected")
    core.answer(head)
    assert core.until_counted("line.unanswered") == 1


@pytest.mark.parametrize("damage", ["middle of a PNG", "bit depth of 64"])
def test_what_only_a_decoder_sees_is_bad_input_for_the_worker(start_ingest, endpoint, damage):
    core = start_ingest({"type": "zmq-pull", "name": "line", "endpoint": endpoint})
    body = bytearray(PNG)
    if damage == "middle of a PNG":
        body[len(body) // 2] ^= 0xFF
    else:
        body[24] = 64
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.connect(endpoint)
        socket.send_multipart([b"{}", bytes(body)])
        head = core.frame()
        with pytest.raises(Uninspectable, match="bad_input: png"):
            core.array(head)
        socket.send_multipart(encode(GOOD))
        assert np.array_equal(core.array(core.frame()), GOOD)


def test_a_push_cut_for_its_size_comes_back(start_ingest, endpoint):
    core = start_ingest(
        {"type": "zmq-pull", "name": "line", "endpoint": endpoint}, slot_bytes=64 * 1024
    )
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.connect(endpoint)
        socket.send_multipart(encode(GOOD, trigger_id=1))
        assert core.frame().trigger_id == 1
        socket.send_multipart(encode(np.zeros((300, 300), np.uint8), trigger_id=2))
        assert core.until_counted("line.disconnected")
        for number in range(3, 8):
            socket.send_multipart(encode(GOOD, trigger_id=number))
        assert [core.frame().trigger_id for _ in range(5)] == [3, 4, 5, 6, 7]


def test_a_subscription_cut_for_its_size_comes_back(start_ingest, endpoint):
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.bind(endpoint)
        core = start_ingest(
            {"type": "zmq-sub", "name": "line", "endpoint": endpoint}, slot_bytes=64 * 1024
        )
        assert socket.recv() == b"\x01"
        socket.send_multipart(encode(GOOD, trigger_id=1))
        before = core.frame()
        socket.send_multipart(encode(np.zeros((300, 300), np.uint8), trigger_id=2))
        while socket.recv() != b"\x01":
            pass
        socket.send_multipart(encode(GOOD, trigger_id=3))
        after = core.frame()
        assert core.until_counted("line.disconnected") == 1
    assert (before.trigger_id, after.trigger_id) == (1, 3)
    assert before.key.epoch != after.key.epoch


def test_a_frame_a_little_too_large_says_the_limit(start_ingest, endpoint):
    """Below what libzmq cuts, the message names the setting."""
    core = start_ingest(
        {"type": "zmq-pull", "name": "line", "endpoint": endpoint}, slot_bytes=4 * 1024
    )
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.connect(endpoint)
        socket.send_multipart(encode(np.zeros((64, 65), np.uint8)))
        head = core.frame()
    assert head.fault is Reason.BAD_INPUT
    assert "4160 bytes; the limit is 1 to 4096" in head.detail
    assert "frames.max_bytes" in head.detail
