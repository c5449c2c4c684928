import random
import struct
import zlib

import pytest

from edge_inspector import records
from edge_inspector.errors import WireError
from edge_inspector.records import Outcome
from edge_inspector.wire import codes, header
from edge_inspector.wire.codes import CODES, NO_CLASS, Flag, Refusal, Type, Why
from edge_inspector.wire.header import Header
from tests.golden import vectors

SEED = 3
DOUBLE_FLIPS = 20_000
BITS = header.SIZE * 8
FRAME = vectors.parts("frame")[0]
FAIL = vectors.parts("verdict_fail")[0]
CODE_AT = 74


def flipped(raw, *bits):
    value = int.from_bytes(raw, "little")
    for bit in bits:
        value ^= 1 << bit
    return value.to_bytes(len(raw), "little")


def means_pass(raw):
    """What a consumer may act on: CRC, code and complement hold, and the code is pass."""
    try:
        read = header.unpack(raw)
        return codes.outcome_of(read.code, read.complement) == (Outcome.PASS, None)
    except WireError:
        return False


def means_pass_unchecked(raw):
    """The negative control: neither CRC nor complement is looked at."""
    return raw[CODE_AT] == CODES[Outcome.PASS]


def refusal(raw):
    with pytest.raises(Refusal) as caught:
        header.unpack(raw)
    return caught.value.why


def edited(at, put):
    return vectors.sealed(FRAME[:at] + put + FRAME[at + len(put) :])


def test_what_is_packed_is_unpacked():
    rng = random.Random(SEED)
    sizes = {"epoch": 16, "pixel_format": 1, "codec": 1, "flags": 1}
    for name in ("width", "height", "stride_16", "camera", "recipe"):
        sizes[name] = 2
    for name in ("meta_len", "payload_len", "budget_us", "offset"):
        sizes[name] = 4
    for _ in range(1000):
        fields = {
            name: rng.choice([0, 2 ** (8 * size) - 1, rng.getrandbits(8 * size)])
            for name in Header.__struct_fields__
            for size in [sizes.get(name, 8)]
        }
        fields |= {"type": rng.choice(list(Type)), "epoch": rng.randbytes(16)}
        assert header.unpack(header.pack(Header(**fields))) == Header(**fields)


def test_a_memoryview_is_unpacked_too():
    assert header.unpack(memoryview(FRAME)) == header.unpack(FRAME)


@pytest.mark.parametrize(
    "fields",
    [
        {"seq": -1},
        {"seq": 2**64},
        {"width": 2**16},
        {"offset": 2**32},
        {"flags": 256},
        {"digest": 0.5},
    ],
)
def test_a_value_that_does_not_fit_is_not_packed(fields):
    with pytest.raises(WireError, match="header cannot be written"):
        header.pack(Header(**{"type": Type.PING, **fields}))


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", Why.BAD_HEADER),
        (FRAME[:95], Why.BAD_HEADER),
        (FRAME + b"\0", Why.BAD_HEADER),
        (edited(0, b"EIP2"), Why.BAD_HEADER),
        (flipped(FRAME, BITS - 1), Why.BAD_HEADER),
        (edited(4, b"\x00"), Why.VERSION),
        (edited(4, b"\x02"), Why.VERSION),
        (edited(6, b"\x00"), Why.BAD_HEADER),
        (edited(6, b"\x2f"), Why.BAD_HEADER),
    ],
)
def test_a_fault_has_its_refusal(raw, why):
    assert refusal(raw) is why


def test_the_crc_comes_before_the_version():
    """A damaged byte must not make a peer look like one of another version."""
    other_version = edited(4, b"\x02")
    assert refusal(flipped(other_version, 300)) is Why.BAD_HEADER


def test_the_version_comes_before_the_type():
    """Another major may have other types."""
    assert refusal(vectors.sealed(edited(4, b"\x02")[:6] + b"\xee" + FRAME[7:])) is Why.VERSION


def test_another_minor_and_unknown_flags_are_read():
    assert header.unpack(edited(5, b"\x09")) == header.unpack(FRAME)
    assert header.unpack(edited(7, b"\x84")).flags == 0x84


def test_every_type_has_its_number_on_the_wire():
    for kind in Type:
        assert header.unpack(header.pack(Header(type=kind))).type == kind


@pytest.mark.parametrize("raw", [FRAME, FAIL])
def test_every_single_bit_flip_is_seen(raw):
    seen = 0
    for bit in range(BITS):
        with pytest.raises(Refusal):
            header.unpack(flipped(raw, bit))
        seen += 1
    assert seen == 768


@pytest.mark.parametrize("raw", [FRAME, FAIL])
def test_double_bit_flips_are_seen(raw):
    pairs = double_flips(DOUBLE_FLIPS)
    print(f"seed {SEED}: {len(pairs)} different double flips of {BITS * (BITS - 1) // 2}")
    assert len(pairs) == DOUBLE_FLIPS
    for pair in pairs:
        with pytest.raises(Refusal):
            header.unpack(flipped(raw, *pair))


def double_flips(count):
    rng = random.Random(SEED)
    pairs: dict[tuple[int, int], None] = {}
    while len(pairs) < count:
        first, second = sorted(rng.sample(range(BITS), 2))
        pairs[first, second] = None
    return list(pairs)


@pytest.mark.parametrize("meaning", CODES)
def test_no_flip_leaves_or_makes_a_pass(meaning):
    """Not of a pass either: a flip may have made it one of another part."""
    raw = vectors.parts(f"verdict_{meaning.value}")[0]
    flips = [(bit,) for bit in range(BITS)] + double_flips(2_000)
    assert len(flips) == 2_768
    assert not any(means_pass(flipped(raw, *flip)) for flip in flips)


def test_control_without_crc_and_complement_flips_become_a_pass():
    raw = vectors.parts("verdict_pass")[0]
    through = [bit for bit in range(BITS) if means_pass_unchecked(flipped(raw, bit))]
    assert len(through) == BITS - 8
    differing = CODES[Outcome.PASS] ^ CODES[Outcome.FAIL]
    burst = [CODE_AT * 8 + bit for bit in range(8) if differing >> bit & 1]
    assert not means_pass_unchecked(FAIL)
    assert means_pass_unchecked(flipped(FAIL, *burst))
    assert not means_pass(flipped(FAIL, *burst))


def test_the_pass_itself_is_one():
    assert means_pass(vectors.parts("verdict_pass")[0])


def test_codes_are_four_bits_apart():
    words = [*CODES.values(), 0x00, 0xFF]
    apart = [(a ^ b).bit_count() for i, a in enumerate(words) for b in words[:i]]
    assert len(apart) == 13 * 12 // 2
    assert min(apart) >= 4


@pytest.mark.parametrize("code", [0x00, 0xFF, 0xA5, 0x0F, 0xCC])
def test_illegal_and_spare_codes_mean_nothing(code):
    assert code not in CODES.values()
    with pytest.raises(WireError, match=f"0x{code:02x}"):
        codes.outcome_of(code, code ^ 0xFF)


def test_only_one_word_of_65536_is_a_pass():
    passes, known = [], 0
    for code in range(256):
        for complement in range(256):
            try:
                meaning = codes.outcome_of(code, complement)
            except WireError:
                continue
            known += 1
            if meaning[0] is Outcome.PASS:
                passes.append((code, complement))
    assert passes == [(0x5A, 0xA5)]
    assert known == len(CODES)


def is_pass(code, complement):
    try:
        return codes.outcome_of(code, complement)[0] is Outcome.PASS
    except WireError:
        return False


def nibbles_swapped(byte):
    return (byte << 4 | byte >> 4) & 0xFF


TURNS = {
    "bytes swapped": lambda code, complement: (complement, code),
    "nibbles swapped": lambda code, complement: (
        nibbles_swapped(code),
        nibbles_swapped(complement),
    ),
    "word reversed by nibbles": lambda code, complement: (
        nibbles_swapped(complement),
        nibbles_swapped(code),
    ),
    "inverted": lambda code, complement: (code ^ 0xFF, complement ^ 0xFF),
    "inverted and bytes swapped": lambda code, complement: (complement ^ 0xFF, code ^ 0xFF),
}


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
@pytest.mark.parametrize("meaning", CODES)
def test_no_turned_word_makes_another_outcome_a_pass(turn, meaning):
    code, complement = turn(CODES[meaning], CODES[meaning] ^ 0xFF)
    if meaning is Outcome.PASS and (code, complement) == (0x5A, 0xA5):
        return
    assert not is_pass(code, complement)


def test_control_a_fail_that_is_the_complement_of_pass_turns_into_it():
    assert is_pass(*TURNS["bytes swapped"](0xA5, 0xA5 ^ 0xFF))


def test_every_outcome_has_its_code_back():
    for meaning, code in CODES.items():
        outcome, reason = codes.outcome_of(code, code ^ 0xFF)
        assert codes.code_of(outcome, reason) == code
        assert meaning in (outcome, reason)


def test_a_verdict_has_names_of_its_own():
    read = header.unpack(FAIL)
    assert (read.code, read.complement) == (0xF0, 0x0F)
    assert (read.latency_us, read.defect_class, read.roi_count, read.station) == (11_000, 1, 2, 1)
    assert header.unpack(vectors.parts("verdict_pass")[0]).defect_class == NO_CLASS
    assert read.chain == struct.unpack_from("<I", FAIL, 88)[0]


def test_rows_are_a_multiple_of_16_bytes():
    assert Header(type=Type.FRAME, stride_16=40).stride == 640


def test_flags_are_read_by_name():
    both = Header(type=Type.VERDICT, flags=Flag.HISTORICAL | Flag.TEST)
    assert both.has(Flag.HISTORICAL)
    assert both.has(Flag.TEST)
    assert not both.has(Flag.REPLAY)


def test_the_chain_is_the_crc_of_the_previous_value_and_the_body():
    assert records.chained(0x01020304, b"body") == zlib.crc32(b"\x04\x03\x02\x01body")


def test_a_header_cannot_be_changed():
    with pytest.raises(AttributeError):
        header.unpack(FRAME).seq = 2  # type: ignore[misc]
