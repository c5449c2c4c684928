"""The line controller's logic: the table of cases in deploy/plc, the belt, and a block by block fuzz."""

import csv
import random
from pathlib import Path

import pytest

from edge_inspector.records import Outcome
from edge_inspector.simulator.plc import ANSWER_MS, SILENT_MS, PlcLogic, Slot, intact
from edge_inspector.wire import registers
from edge_inspector.wire.codes import CODES
from edge_inspector.wire.registers import Result, Status, Trouble

DEPLOY = Path(__file__).resolve().parents[2] / "deploy" / "plc"
CASES = list(csv.DictReader((DEPLOY / "cases.csv").read_text(encoding="utf-8").splitlines()))
SOURCES = ("FB_EdgeInspector.scl", "FB_EdgeInspector.st")
SLOTS = 4
PASS, FAIL = CODES[Outcome.PASS], CODES[Outcome.FAIL]


def block(toggle=0, echo=0, **result):
    status = Status.TOGGLE if toggle else Status(0)
    return list(registers.encode(status, 0, echo, Result(**result), 0, Trouble.NONE))


class Rig:
    """A PLC that is powered up and has its run."""

    def __init__(self, slots=SLOTS):
        self.plc = PlcLogic(slots)
        self.toggle = 0
        for echo in (0, 5, 0):
            self.beat(echo=echo)
        assert self.plc.running
        assert self.plc.healthy

    def beat(self, ms=100, **result):
        """The toggle changes, and the block is read at once."""
        self.toggle ^= 1
        return self.plc.scan(block(self.toggle, **result), ms)

    def read(self, ms=0, **result):
        return self.plc.scan(block(self.toggle, **result), ms)

    def enter(self):
        return self.plc.scan(None, 0, part=True)

    def move(self, count=1, ms=0, part=False):
        for _ in range(count - 1):
            self.plc.scan(None, ms, moved=True, part=part)
        return self.plc.scan(None, ms, moved=True, part=part)


def words(case):
    """The block of a case."""
    trigger = int(case["trigger"])
    counter, trailer = int(case["counter"]), int(case["trailer"])
    made = block(counter=counter, trigger_id=trigger, code=PASS)
    made[0], made[7], made[19] = int(case["map"], 16), int(case["word"], 16), trailer
    crc = registers._crc(made[4:17]) ^ (1 if case["crc"] == "bad" else 0)
    made[17:19] = crc >> 16, crc & 0xFFFF
    return made


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_a_case_of_the_table_opens_the_gate_or_keeps_it_shut(case):
    rig = Rig(slots=1)
    rig.plc._last = int(case["last"])
    rig.plc.belt[0] = Slot(part=True, trigger_id=int(case["slot"]))
    rig.beat()
    ms = int(case["silent_ms"])
    for _ in range(ms // 50):
        rig.read(ms=50)
    made = words(case)
    made[1] = rig.toggle << 15
    scanned = rig.plc.scan(made, ms % 50, moved=True)
    assert scanned.left.part
    assert scanned.opens == (case["gate"] == "opens")


@pytest.mark.parametrize("name", SOURCES)
def test_the_sources_hold_the_same_table_and_the_same_limits(name):
    text = (DEPLOY / name).read_text(encoding="utf-8")
    for case in CASES:
        assert " | ".join(case.values()) in text
    assert f":= {SILENT_MS};" in text
    assert f":= {ANSWER_MS};" in text
    assert "16#5AA5" in text


def test_the_two_sources_are_the_same_statements():
    bodies = []
    for name, begin in zip(SOURCES, ("BEGIN\n", "(* IMPLEMENTATION *)\n"), strict=True):
        body = (DEPLOY / name).read_text(encoding="utf-8").split(begin)[1]
        body = body.replace("END_FUNCTION_BLOCK", "").replace(".%X", ".").replace("16#", "16_")
        for word in ("#", "IN1 := ", "IN2 := ", "IN := ", "N := "):
            body = body.replace(word, "")
        bodies.append([line.strip() for line in body.splitlines() if line.strip()])
    assert bodies[0] == bodies[1]
    assert len(bodies[0]) > 100


def test_a_part_passes_with_its_own_verdict_alone():
    rig = Rig()
    for number in range(1, SLOTS + 1):
        rig.move(part=True)
        rig.beat(counter=number, trigger_id=number, code=PASS if number % 2 else FAIL)
    opened = []
    for _ in range(SLOTS):
        rig.beat()
        opened.append(rig.move().opens)
    assert opened == [True, False, True, False]
    assert rig.plc.counts["passed"] == rig.plc.counts["rejected"] == 2


def test_a_verdict_of_a_part_that_is_gone_helps_no_other():
    rig = Rig()
    rig.move(part=True)
    rig.move(SLOTS)
    rig.move(part=True)
    rig.beat(counter=1, trigger_id=1, code=PASS)
    assert rig.plc.counts["strangers"] == 1
    assert not rig.move(SLOTS).opens


def test_the_first_verdict_of_a_part_stands():
    rig = Rig()
    rig.move(part=True)
    rig.beat(counter=1, trigger_id=1, code=FAIL)
    rig.beat(counter=2, trigger_id=1, code=PASS)
    assert not rig.move(SLOTS).opens


def test_a_good_part_is_rejected_where_the_toggle_stands_still_at_the_gate():
    rig = Rig()
    rig.move(part=True)
    rig.beat(counter=1, trigger_id=1, code=PASS)
    for _ in range(4):
        rig.read(ms=75)
    assert rig.plc.healthy
    rig.read(ms=1)
    assert not rig.move(SLOTS).opens
    assert rig.plc.counts["silent"] == 1


def test_a_toggle_that_changed_at_an_unknown_time_is_no_sign_of_life():
    rig = Rig()
    rig.toggle ^= 1
    assert rig.read(ms=5000).writes
    assert not rig.plc.healthy
    rig.beat()
    assert rig.plc.healthy


def test_a_result_waits_without_an_ack_until_the_toggle_is_fresh():
    rig = Rig()
    rig.move(part=True)
    assert rig.read(ms=400, counter=9, trigger_id=1, code=PASS).writes[1] == 0
    assert rig.beat(counter=9, trigger_id=1, code=PASS).writes[1] == 9
    assert rig.move(SLOTS).opens


def test_a_result_seen_again_is_acknowledged_again_and_not_taken_again():
    rig = Rig()
    rig.beat(counter=9, trigger_id=1, code=PASS)
    rig.move(part=True)
    assert rig.beat(counter=9, trigger_id=1, code=PASS).writes[1] == 9
    assert not rig.move(SLOTS).opens


def test_nothing_passes_before_the_new_run_is_confirmed():
    plc = PlcLogic(1)
    toggle, asked = 0, []
    for number in range(60):
        toggle ^= 1
        good = block(toggle, counter=number + 1, trigger_id=plc.trigger_id + 1, code=PASS)
        scanned = plc.scan(good, 100, moved=True, part=True)
        asked.append(scanned.writes[2])
        assert not scanned.opens
    assert not plc.running
    assert plc.trigger_id == 0, "parts have no number before"
    assert asked.count(0) in (2, 3), "it asks again each two seconds"


def test_what_is_said_is_a_heartbeat_and_the_number_of_the_part():
    rig = Rig()
    rig.plc.trigger_id = 0x1_2344
    first = rig.move(part=True).writes
    second = rig.move().writes
    assert first[4:] == (0x1, 0x2345)
    assert second[0] == first[0] + 1


def test_no_flip_of_two_bits_of_the_block_of_another_outcome_opens_the_gate():
    chance = random.Random(5)
    wrong = flips = 0
    for code in set(CODES.values()) - {PASS}:
        sent = block(counter=7, trigger_id=1001, code=code, score=0.7, vseq=70, latency_us=9000)
        for _ in range(2000):
            hurt = list(sent)
            for bit in chance.sample(range(320), 2):
                hurt[bit // 16] ^= 1 << bit % 16
            flips += 1
            wrong += intact(hurt) and hurt[7] == 0x5AA5
    assert flips == 20_000
    assert wrong == 0


def test_no_flip_of_one_bit_changes_a_result_unseen():
    sent = block(counter=7, trigger_id=1001, code=PASS, score=0.7, vseq=70, latency_us=9000)
    for bit in range(64, 320):
        hurt = list(sent)
        hurt[bit // 16] ^= 1 << bit % 16
        assert not intact(hurt)


def test_without_crc_and_complement_a_flip_does_open_the_gate():
    """The negative control of G5: FAIL as the complement of pass, and only the code's byte read."""
    careless_fail = 0xA5
    sent = block(counter=7, trigger_id=1001, code=careless_fail)
    swapped = sent[7] >> 8 | (sent[7] & 0xFF) << 8
    assert swapped >> 8 == PASS
    sent[7] = swapped
    assert not intact(sent)
