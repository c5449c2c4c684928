import contextlib
import json

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_inspector.errors import WireError
from edge_inspector.wire.layout import Layout
from edge_inspector.wire.plain import BadFrame, Identity, Rules, decode, encode

SEEDED = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
RULES = Rules(
    camera="main",
    recipe="board",
    cameras=frozenset({"main", "side"}),
    recipes=frozenset({"board", "plate"}),
    max_bytes=100_000,
    max_pixels=10_000,
)
GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)
JPEG = cv2.imencode(".jpg", np.zeros((20, 30), np.uint8))[1].tobytes()
PNG = cv2.imencode(".png", np.zeros((20, 30, 3), np.uint8))[1].tobytes()


def meta(**keys):
    return json.dumps(keys).encode()


@pytest.mark.parametrize("topic", [[], [b"topic"], [b""]])
def test_a_topic_may_come_first(topic):
    frame = decode([*topic, *encode(GREY, unit_id="A-1")], RULES)
    assert frame.identity == Identity(unit_id="A-1")
    assert bytes(frame.pixels) == GREY.tobytes()


@pytest.mark.parametrize(
    ("array", "layout"),
    [
        (GREY, Layout("raw", "mono8", 3, 4, 1)),
        (GREY[..., None], Layout("raw", "mono8", 3, 4, 1)),
        (np.zeros((3, 4, 3), np.uint8), Layout("raw", "bgr8", 3, 4, 3)),
        (np.zeros((3, 4, 4), np.uint8), Layout("raw", "bgra8", 3, 4, 4)),
        (np.zeros((3, 4), "<u2"), Layout("raw", "mono16", 3, 4, 1)),
        (np.zeros((3, 4), ">u2"), Layout("raw-be", "mono16", 3, 4, 1)),
        (np.asfortranarray(GREY), Layout("raw", "mono8", 3, 4, 1)),
        (GREY[:, ::2], Layout("raw", "mono8", 3, 2, 1)),
    ],
)
def test_arrays_keep_their_layout(array, layout):
    frame = decode(encode(array), RULES)
    assert frame.layout == layout
    assert bytes(frame.pixels) == array.tobytes()


@pytest.mark.parametrize(("body", "codec"), [(JPEG, "jpeg"), (PNG, "png")])
@pytest.mark.parametrize("tail", [None, [], [1]])
def test_encoded_images_come_with_or_without_a_shape(body, codec, tail):
    raw = b"{}" if tail is None else meta(dtype="uint8", shape=[len(body), *tail])
    frame = decode([raw, body], RULES)
    assert frame.layout == Layout(codec, "bgr8", 0, 0, 0)


def test_every_key_is_read():
    keys = {
        "unit_id": 42,
        "trigger_id": 2**64 - 1,
        "seq": 7,
        "camera": "side",
        "recipe": "plate",
        "captured_ns": 1_700_000_000_000_000_000,
        "pixel_format": "bayer_rg8",
        "lot": "2026-47",
        "of_the_future": {"nested": [1]},
    }
    frame = decode([meta(dtype="uint8", shape=[3, 4], **keys), GREY.data.cast("B")], RULES)
    assert frame.identity == Identity("42", 2**64 - 1, 7, 1_700_000_000_000_000_000, "2026-47")
    assert (frame.camera, frame.recipe, frame.layout.pixel_format) == ("side", "plate", "bayer_rg8")


@pytest.mark.parametrize(
    ("msg_is", "msg", "camera", "unit_id"),
    [
        ("camera", "side", "side", None),
        ("unit_id", "A-7", "main", "A-7"),
        ("ignore", ["any", {"thing": 1}], "main", None),
    ],
)
def test_msg_means_what_the_source_says(msg_is, msg, camera, unit_id):
    rules = msgspec.structs.replace(RULES, msg_is=msg_is)
    for raw in (meta(msg=msg), msgspec.msgpack.encode({"msg": msg})):
        frame = decode([raw, JPEG], rules)
        assert (frame.camera, frame.identity.unit_id) == (camera, unit_id)


def test_a_key_of_its_own_beats_msg():
    rules = msgspec.structs.replace(RULES, msg_is="unit_id")
    assert decode([meta(msg="A", unit_id="B"), JPEG], rules).identity.unit_id == "B"
    assert decode([meta(msg="nobody", camera="side"), JPEG], RULES).camera == "side"


def test_null_is_absent():
    frame = decode([meta(unit_id=None, trigger_id=None, dtype=None, shape=None), JPEG], RULES)
    assert frame.identity == Identity()


@pytest.mark.parametrize(
    "keys",
    [
        {"unit_id": "x" * 65},
        {"unit_id": 10**80},
        {"unit_id": 10**4000},
        {"unit_id": "line\nbreak"},
        {"trigger_id": 0},
        {"trigger_id": 2**64},
        {"trigger_id": True},
        {"trigger_id": 1.0},
        {"seq": -1},
        {"seq": 2**63},
        {"captured_ns": -1},
        {"captured_ns": 2**63},
        {"msg": 7},
        {"camera": "x" * 65},
        {"lot": "x" * 65},
        {"lot": ""},
        {"lot": "a\n"},
        {"lot": 7},
        {"shape": "3x4", "dtype": "uint8"},
    ],
)
def test_bounds_are_kept(keys):
    with pytest.raises(BadFrame) as refused:
        decode([meta(**keys), JPEG], RULES)
    assert refused.value.identity == Identity()
    assert len(str(refused.value)) < 300


def test_what_is_known_of_a_bad_frame_is_kept():
    with pytest.raises(BadFrame, match="the limit is 10000 pixels") as refused:
        decode([meta(trigger_id=9, dtype="uint8", shape=[200, 200]), bytes(40_000)], RULES)
    assert refused.value.identity == Identity(trigger_id=9)


def test_frames_above_the_limit_are_refused_with_the_limit():
    with pytest.raises(BadFrame, match=r"100001 bytes; the limit is 1 to 100000"):
        decode([b"{}", bytes(100_001)], RULES)


Json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["dtype", "shape", "msg", "unit_id", "trigger_id", "seq", "camera", "captured_ns", "x"]
)
BODY = st.binary(max_size=64) | st.sampled_from([JPEG, PNG, JPEG[:50], PNG[:30], GREY.tobytes()])


@SEEDED
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_nothing_but_wire_errors_escapes_from_noise(parts):
    with pytest.raises(WireError):
        decode(parts, RULES)


@SEEDED
@given(st.dictionaries(KEYS, Json), BODY, st.sampled_from(["camera", "unit_id", "ignore"]))
def test_nothing_but_wire_errors_escapes_from_wrong_metadata(keys, body, msg_is):
    rules = msgspec.structs.replace(RULES, msg_is=msg_is)
    for raw in (json.dumps(keys).encode(), _packed(keys)):
        try:
            frame = decode([raw, body], rules)
        except WireError:
            continue
        assert frame.camera in RULES.cameras
        assert bytes(frame.pixels) == body


def _packed(keys):
    try:
        return msgspec.msgpack.encode(keys)
    except (OverflowError, UnicodeEncodeError):
        return b"\x80"


@SEEDED
@given(st.binary(max_size=300), st.sampled_from([JPEG, PNG]), st.integers(0, 400))
def test_nothing_but_wire_errors_escapes_from_damaged_images(noise, image, at):
    damaged = image[:at] + noise + image[at + len(noise) :]
    with contextlib.suppress(WireError):
        assert decode([b"{}", damaged], RULES).layout.codec in ("jpeg", "png")


@SEEDED
@given(
    st.sampled_from(["|u1", "<u2", ">u2"]),
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from([1, 3, 4]),
    st.none() | st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=64),
    st.none() | st.integers(1, 2**64 - 1),
    st.none() | st.integers(0, 2**63 - 1),
)
def test_what_is_encoded_is_decoded(dtype, height, width, channels, unit_id, trigger_id, seq):
    array = np.arange(height * width * channels).astype(dtype).reshape(height, width, channels)
    frame = decode(encode(array, unit_id=unit_id, trigger_id=trigger_id, seq=seq), RULES)
    assert frame.identity == Identity(unit_id, trigger_id, seq)
    assert bytes(frame.pixels) == array.tobytes()


def test_a_station_that_is_still_being_taught_takes_every_name():
    rules = msgspec.structs.replace(RULES, cameras=frozenset("*"), recipes=frozenset("*"))
    frame = decode(encode(GREY, camera="top_2", recipe="new.one"), rules)
    assert (frame.camera, frame.recipe) == ("top_2", "new.one")
    for name in ("../up", "a b", "", "x" * 64 + "\n"):
        with pytest.raises(BadFrame):
            decode(encode(GREY, camera=name), rules)
