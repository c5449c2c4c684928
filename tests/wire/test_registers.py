"""The Modbus block: frozen vectors, what only a pass looks like, and what is refused."""

import json
import random
import struct
import zlib
from pathlib import Path

import pytest

from edge_inspector.errors import WireError
from edge_inspector.simulator.plc import intact
from edge_inspector.wire.codes import CODES, NO_CLASS
from edge_inspector.wire.registers import (
    COUNT,
    COUNTERS,
    PASS_WORD,
    Result,
    Status,
    Trouble,
    counter_of,
    decode,
    encode,
)

BLOCKS = json.loads(
    (Path(__file__).parents[1] / "golden" / "modbus1" / "blocks.json").read_text(encoding="utf-8")
)
SHOWN = Status.ONLINE | Status.READY | Status.RESULT_VALID | Status.TOGGLE


def result(number, what):
    fail = what.value == "fail"
    return Result(
        counter=number,
        trigger_id=70_000 + number,
        code=CODES[what],
        defect_class=2 if fail else NO_CLASS,
        score=1.25 if fail else 0.5,
        latency_us=23_456,
        vseq=0x1_0000_0000 + number,
        engine=0x89ABCDEF,
    )


@pytest.mark.parametrize(("number", "what"), list(enumerate(CODES, 1)))
def test_each_outcome_is_the_frozen_block(number, what):
    told = result(number, what)
    block = encode(SHOWN, 4711, 0, told, 3, Trouble.NONE)
    assert list(block) == BLOCKS[what.value]
    read = decode(block)
    assert read.code == told.code
    assert (read.trigger_id, read.score, read.engine) == (70_000 + number, told.score, told.engine)
    assert (read.vseq, read.latency_us) == (number, 23_000), "32 bit, and whole milliseconds"


def test_the_states_without_a_result_are_the_frozen_blocks():
    nothing = encode(Status.ONLINE, 1, 0, Result(), 0, Trouble.NONE)
    assert list(nothing) == BLOCKS["nothing yet"]
    silent = Status.FAULT | Status.OVERRUN
    gone = encode(silent, 9, 5, Result(counter=65_535), 64, Trouble.CORE_SILENT)
    assert list(gone) == BLOCKS["core silent"]
    assert {nothing[7], gone[7]} == {0}


def test_the_crc_covers_registers_4_to_16_as_they_travel():
    for block in BLOCKS.values():
        crc = zlib.crc32(struct.pack(">13H", *block[4:17]))
        assert (block[17] << 16 | block[18]) == crc
        assert intact(block)


def test_only_the_pass_block_has_the_word_of_a_pass():
    assert [name for name, block in BLOCKS.items() if block[7] == PASS_WORD] == ["pass"]


def test_values_beyond_a_register_stop_at_its_end():
    block = encode(
        SHOWN, 70_000, 0, Result(counter=1, score=99.0, latency_us=10**9), 70_000, Trouble.NONE
    )
    assert (block[2], block[9], block[10], block[11]) == (4464, 65_535, 65_535, 65_535)
    assert encode(SHOWN, 0, 0, Result(counter=1, score=-1.0), 0, Trouble.NONE)[9] == 0


def test_every_flip_of_one_or_two_bits_that_could_turn_the_result_is_refused():
    chance = random.Random(11)
    refused = 0
    for name, block in BLOCKS.items():
        flips: list[tuple[int, ...]] = [(bit,) for bit in range(64, 16 * COUNT)]
        flips += [tuple(chance.sample(range(64, 16 * COUNT), 2)) for _ in range(2000)]
        for bits in flips:
            hurt = list(block)
            for bit in bits:
                hurt[bit // 16] ^= 1 << bit % 16
            with pytest.raises(WireError):
                decode(hurt)
            refused += 1
        assert name
    assert refused == len(BLOCKS) * 2256


def test_bytes_nibbles_and_bits_the_other_way_round_are_no_pass():
    for block in BLOCKS.values():
        word = block[7]
        swapped = word >> 8 | (word & 0xFF) << 8
        nibbles = (word & 0xF0F0) >> 4 | (word & 0x0F0F) << 4
        for turned in (swapped, nibbles, word ^ 0xFFFF):
            assert turned != PASS_WORD


def test_another_map_and_half_a_block_are_refused():
    block = list(BLOCKS["pass"])
    with pytest.raises(WireError, match="map"):
        decode(block[:-1])
    with pytest.raises(WireError, match="map"):
        decode([0x0201, *block[1:]])
    with pytest.raises(WireError, match="map"):
        decode([])


def test_the_result_counter_is_never_0_and_does_not_repeat_soon():
    assert [counter_of(vseq) for vseq in (1, 2, COUNTERS, COUNTERS + 1)] == [1, 2, COUNTERS, 1]
    assert min(counter_of(vseq) for vseq in range(1, 2 * COUNTERS, 97)) > 0
