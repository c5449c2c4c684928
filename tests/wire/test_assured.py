import msgspec
import pytest

from edge_inspector.errors import WireError
from edge_inspector.records import Verdict
from edge_inspector.wire import assured, header
from edge_inspector.wire.codes import Flag, Refusal, Type, Why
from edge_inspector.wire.header import Header
from tests.golden import vectors

FRAME = vectors.parts("frame")
PASS = vectors.parts("verdict_pass")
FAIL = vectors.parts("verdict_fail")
CHAIN_BEFORE_FAIL = vectors.said("verdict_fail")["previous_chain"]
READ = [
    assured.read(assured.split(vectors.parts(name)))
    for name in vectors.names("assured")
    if not name.startswith("broken_")
]


def told(meta_len=None, payload_len=None, **fields):
    """The FRAME header with other fields and a right CRC."""
    values = {"meta_len": meta_len, "payload_len": payload_len} | fields
    given = {name: value for name, value in values.items() if value is not None}
    return header.pack(msgspec.structs.replace(header.unpack(FRAME[0]), **given))


def refused(parts):
    with pytest.raises(Refusal) as caught:
        assured.split(parts)
    return caught.value.why, str(caught.value)


def unreadable(kind, raw):
    message = assured.Message(Header(type=kind), raw)
    with pytest.raises(Refusal) as caught:
        assured.read(message)
    assert caught.value.why is Why.BAD_HEADER
    return str(caught.value)


def verdict(body=FAIL[1], **fields):
    """A VERDICT message with other header fields."""
    return assured.Message(msgspec.structs.replace(header.unpack(FAIL[0]), **fields), body)


@pytest.mark.parametrize("said", READ, ids=lambda said: type(said).__name__)
def test_what_is_built_is_read(said):
    message = assured.split(assured.build(said))
    assert assured.KINDS[Type(message.header.type)] is type(said)
    assert assured.read(message) == said


def test_every_type_has_its_metadata():
    assert set(assured.KINDS) == set(Type)
    assert len(set(assured.KINDS.values())) == len(Type)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([], "0 parts"),
        ([*FRAME, b""], "4 parts"),
        ([b""] * 256, "256 parts"),
        ([b""], "header of 0 bytes"),
        ([FRAME[0][:-1], *FRAME[1:]], "header of 95 bytes"),
        ([FRAME[0], bytes(4097), FRAME[2]], "metadata of 4097 bytes; the limit is 4096"),
        ([told(meta_len=11), *FRAME[1:]], "header tells 11 and 32 bytes"),
        ([told(payload_len=31), *FRAME[1:]], "header tells 12 and 31 bytes"),
        ([told(payload_len=2**32 - 1), *FRAME[1:]], "header tells 12 and 4294967295 bytes"),
        ([told(), FRAME[1]], "12 and 0 came"),
        ([told()], "0 and 0 came"),
    ],
)
def test_a_message_of_other_parts_or_lengths_is_refused(parts, says):
    why, message = refused(parts)
    assert why is Why.BAD_HEADER
    assert says in message


def test_parts_come_before_lengths():
    assert "parts" in refused([b"", b"", b"", b""])[1]


def test_lengths_come_before_the_crc():
    """What is too long is not read at all."""
    broken = [b"\0" * 96, bytes(4097)]
    assert "metadata of 4097" in refused(broken)[1]


def test_the_crc_comes_before_what_the_header_tells():
    lying = bytearray(told(meta_len=1))
    lying[40] ^= 1
    assert "CRC" in refused([bytes(lying), *FRAME[1:]])[1]


def test_the_version_comes_before_what_the_header_tells():
    other = vectors.sealed(told(meta_len=1)[:4] + b"\x02" + told(meta_len=1)[5:])
    assert refused([other, *FRAME[1:]])[0] is Why.VERSION


def test_metadata_is_read_only_when_asked_for():
    """The peer's right to speak is checked between the two."""
    message = assured.split([told(meta_len=1), b"\xc1", FRAME[2]])
    assert "FRAME cannot be read" in unreadable(Type.FRAME, message.metadata)


def test_4096_bytes_of_metadata_are_taken_in_and_not_one_more():
    filler = msgspec.msgpack.encode({"unit_id": "A1", "new": b""})
    room = 4096 - len(filler) - 1
    full = msgspec.msgpack.encode({"unit_id": "A1", "new": bytes(room)})
    assert len(full) == 4096
    message = assured.split(assured.assemble(Header(type=Type.FRAME), full))
    assert assured.read(message) == assured.FrameFacts(unit_id="A1")
    with pytest.raises(WireError, match="4097 bytes; the limit is 4096"):
        assured.assemble(Header(type=Type.FRAME), full + b"\0")


def test_keys_of_a_later_minor_are_ignored():
    later = msgspec.msgpack.encode({"station": "st1", "colour": [1, {"x": None}]})
    assert assured.read(assured.Message(Header(type=Type.NEW_RUN), later)) == assured.NewRun("st1")


def test_of_a_key_said_twice_the_last_wins():
    raw = b"\x82\xa7station\xa1a\xa7station\xa1b"
    assert assured.read(assured.Message(Header(type=Type.NEW_RUN), raw)) == assured.NewRun("b")


@pytest.mark.parametrize("kind", [Type.PING, Type.HEARTBEAT, Type.FRAME, Type.BYE])
def test_no_metadata_is_an_empty_map(kind):
    said = assured.read(assured.split([header.pack(Header(type=kind))]))
    assert said == msgspec.convert({}, assured.KINDS[kind])


@pytest.mark.parametrize("kind", [Type.HELLO, Type.VERDICT, Type.SUBSCRIBE, Type.NACK])
def test_no_metadata_is_refused_where_something_must_be_said(kind):
    assert "missing required field" in unreadable(kind, b"")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Type.HELLO, {"name": "", "versions": [1]}),
        (Type.HELLO, {"name": "a" * 65, "versions": [1]}),
        (Type.HELLO, {"name": "a/../b", "versions": [1]}),
        (Type.HELLO, {"name": "a\n", "versions": [1]}),
        (Type.HELLO, {"name": "a", "versions": [1] * 17}),
        (Type.HELLO, {"name": "a", "versions": [1], "cameras": ["c"] * 65}),
        (Type.HELLO, {"name": "a", "versions": [1], "next_seq": -1}),
        (Type.HELLO, {"name": "a", "versions": [1], "next_seq": 2**63}),
        (Type.HELLO, {"name": "a", "versions": [1], "boot_id": "x" * 301}),
        (Type.FRAME, {"unit_id": ""}),
        (Type.FRAME, {"unit_id": "x" * 65}),
        (Type.FRAME, {"total_len": -1}),
        (Type.FRAME, {"why": "bored"}),
        (Type.NACK, {"why": "LAZY"}),
        (Type.SUBSCRIBE, {"consumer": "gate", "from": "dead"}),
        (Type.SUBSCRIBE, {"consumer": "gate", "lanes": 3}),
        (Type.ACK, {"upto": -1}),
        (Type.HEARTBEAT, {"state": "asleep"}),
        (Type.ACK, [1, 2]),
    ],
)
def test_a_value_beyond_its_bounds_is_refused(kind, said):
    assert kind.name in unreadable(kind, msgspec.msgpack.encode(said))


@pytest.mark.parametrize("raw", [b"\xc1", b"\x81", b"\x81\xa1x" + b"\x91" * 4000, b"\x81\xa1\xff"])
@pytest.mark.parametrize("kind", list(Type))
def test_hostile_bytes_are_refused_and_raise_nothing_else(kind, raw):
    assert kind.name in unreadable(kind, raw)


def test_an_age_may_be_negative():
    """A clock of the source that jumped is counted, not refused."""
    raw = msgspec.msgpack.encode({"age_us": -5})
    said = assured.read(assured.Message(Header(type=Type.FRAME), raw))
    assert said == assured.FrameFacts(age_us=-5)


def test_a_payload_goes_out_as_it_is():
    payload = memoryview(bytearray(32))
    assert assured.build(assured.FrameFacts(), None, payload)[2] is payload


def test_a_payload_of_words_is_counted_in_bytes():
    words = memoryview(bytes(32)).cast("H")
    built = assured.build(assured.FrameFacts(), None, words)
    assert header.unpack(built[0]).payload_len == 32


def test_a_tombstone_is_known_by_its_flag():
    assert Header(type=Type.FRAME, flags=Flag.TOMBSTONE).has(Flag.TOMBSTONE)
    assert not header.unpack(FRAME[0]).has(Flag.TOMBSTONE)


@pytest.mark.parametrize("previous", [CHAIN_BEFORE_FAIL, None])
def test_a_verdict_that_holds_is_handed_out(previous):
    said = assured.verify_verdict(assured.split(FAIL), previous)
    assert isinstance(said, Verdict)
    assert (said.vseq, said.defect_class) == (42, "missing")


@pytest.mark.parametrize(
    ("fields", "previous", "says"),
    [
        ({"digest": 1}, CHAIN_BEFORE_FAIL, "digest"),
        ({"offset": 1}, CHAIN_BEFORE_FAIL, "chain"),
        ({}, CHAIN_BEFORE_FAIL ^ 1, "chain"),
        ({}, 0, "chain"),
        ({"seq": 43}, CHAIN_BEFORE_FAIL, "came under number 43"),
        ({"type": Type.HELLO}, CHAIN_BEFORE_FAIL, "no VERDICT"),
    ],
)
def test_a_verdict_that_does_not_hold_is_refused(fields, previous, says):
    with pytest.raises(WireError, match=says):
        assured.verify_verdict(verdict(**fields), previous)


def test_every_bit_of_a_verdict_is_under_its_digest():
    for at in range(len(FAIL[1])):
        body = bytearray(FAIL[1])
        body[at] ^= 1
        with pytest.raises(WireError, match="digest"):
            assured.verify_verdict(verdict(body=bytes(body)), None)


def test_a_verdict_left_out_breaks_the_chain():
    third = assured.split(vectors.parts("verdict_timeout"))
    before_second = vectors.said("verdict_fail")["previous_chain"]
    with pytest.raises(WireError, match="does not follow"):
        assured.verify_verdict(third, before_second)
    assert assured.verify_verdict(third, assured.split(FAIL).header.chain).vseq == 43


def test_replay_changes_the_flags_and_not_the_bytes():
    again = vectors.parts("verdict_historical")
    assert again[1] == PASS[1]
    assert header.unpack(again[0]).chain == header.unpack(PASS[0]).chain
    assert header.unpack(again[0]).has(Flag.HISTORICAL)
