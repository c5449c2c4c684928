"""The consumer rule and the lanes, without a socket: only one pattern opens the gate."""

from __future__ import annotations

import itertools
import random
import zlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_inspector.client.gate import HARMLESS, Gate
from edge_inspector.client.numbers import Numbers
from edge_inspector.records import Outcome, Verdict, chained
from edge_inspector.wire import assured, codes
from edge_inspector.wire.assured import Ack, Heartbeat, Replay, Run, Subscribed, Truncated
from edge_inspector.wire.codes import CODES, Flag, Type, outcome_of
from edge_inspector.wire.header import SIZE, Header, digest

MS = 1_000_000
NOW = 1_000_000 * MS
"""The consumer's clock; the daemon's shows something else."""
SENT = 77_000 * MS
TRIGGER = 1001


class Log:
    """Rows as a daemon commits them, numbered from `base + 1`."""

    def __init__(self, rows=0, base=0, chain=0, **facts):
        self.base = base
        self.chains = {base: chain}
        self.bodies = {}
        for _ in range(rows):
            self.commit(**facts)

    @property
    def head(self):
        return self.base + len(self.bodies)

    def commit(self, outcome=Outcome.PASS, reason=None, *, age_ms=10, **facts):
        vseq = self.head + 1
        verdict = Verdict(
            **{
                "unit_key": f"t:st1/1/{TRIGGER}",
                "station": "st1",
                "outcome": outcome,
                "reason": reason,
                "frames": (),
                "recipe": "board",
                "run": 1,
                "trigger_id": TRIGGER,
                "unit_id": "A-1",
                "time_zero_ns": SENT - age_ms * MS,
                "valid_us": 100_000,
                "vseq": vseq,
                **facts,
            }
        )
        self.bodies[vseq] = msgspec.msgpack.encode(verdict)
        self.chains[vseq] = chained(self.chains[vseq - 1], self.bodies[vseq])
        return vseq

    def parts(self, vseq, flags=0, **wrong):
        body = self.bodies[vseq]
        verdict = msgspec.msgpack.decode(body, type=Verdict)
        code = codes.code_of(verdict.outcome, verdict.reason)
        header = Header(
            type=Type.VERDICT,
            flags=flags,
            seq=vseq,
            trigger_id=verdict.trigger_id or 0,
            t_mono_ns=SENT,
            pixel_format=code,
            codec=code ^ 0xFF,
            digest=digest(body),
            offset=self.chains[vseq],
        )
        return assured.assemble(msgspec.structs.replace(header, **wrong), body)

    def subscribed(self, live_from=None, history_from=None, **facts):
        live_from = self.head + 1 if live_from is None else live_from
        history_from = live_from if history_from is None else history_from
        values = {
            "link": "1",
            "head": self.head,
            "oldest": self.base + 1,
            "acked": 0,
            "live_from": live_from,
            "live_chain": self.chains[live_from - 1],
            "history_from": history_from,
            "history_chain": self.chains[history_from - 1],
            "run": 1,
        }
        return said(Subscribed(**{**values, **facts}), Type.SUBSCRIBED)


def said(metadata, kind, flags=0, sent_ns=SENT):
    return assured.build(metadata, Header(type=kind, flags=flags, t_mono_ns=sent_ns))


def alive(state="ready", sent_ns=SENT):
    return said(Heartbeat(state=state, head_vseq=0), Type.HEARTBEAT, sent_ns=sent_ns)


def opened(log, *, kind=Gate, state="ready", live_from=1, history_from=None, **options):
    """A gate that is subscribed and has just heard a heartbeat."""
    gate = kind(**options)
    gate.hear(log.subscribed(live_from, history_from), NOW)
    if state is not None:
        gate.hear(alive(state), NOW)
    return gate


def taken(gate):
    return list(iter(gate.lanes.take, None))


def held(gate):
    numbers = taken(gate)
    for delivered in numbers:
        gate.lanes.hold(delivered)
    return [delivered.vseq for delivered in numbers]


def opens(gate, parts, now_ns=NOW, **unit):
    """Whether a message lets the unit at the gate through."""
    gate.hear(parts, now_ns)
    delivered = gate.lanes.take()
    return delivered is not None and not gate.why_not(
        delivered, now_ns, **(unit or {"trigger_id": TRIGGER})
    )


def why(log, now_ns=NOW, *, late_ms=0, **unit):
    gate = opened(log)
    gate.hear(log.parts(1), NOW)
    return gate.why_not(
        gate.lanes.take(), now_ns + late_ms * MS, **(unit or {"trigger_id": TRIGGER})
    )


# The rule


MEANINGS = [outcome_of(code, code ^ 0xFF) for code in CODES.values()]
STATES = ["starting", "ready", "degraded", "fault", "stopping", None]
FLAGS = [
    Flag(sum(some))
    for count in range(len(Flag) + 1)
    for some in itertools.combinations(Flag, count)
]


@pytest.mark.parametrize("state", STATES)
def test_of_all_outcomes_and_flags_only_a_plain_pass_of_a_serving_daemon_opens(state):
    openings = set()
    for outcome, reason in MEANINGS:
        log = Log(1, outcome=outcome, reason=reason)
        for flags in FLAGS:
            gate = opened(log, state=state)
            gate.lanes.replay(1, 1)
            assert gate.lanes.next_replay() == Replay(1, 1)
            gate.hear(log.parts(1, int(flags)), NOW)
            delivered = gate.lanes.take()
            assert delivered.vseq == 1
            if not gate.why_not(delivered, NOW, trigger_id=TRIGGER):
                openings.add((outcome, int(flags)))
    harmless = {0, Flag.DEGRADED, Flag.CLOCK_STEP, HARMLESS}
    expected = {(Outcome.PASS, int(flags)) for flags in harmless}
    assert openings == (expected if state in ("ready", "degraded") else set())
    assert len(MEANINGS) * len(FLAGS) == 11 * 128


def test_a_flag_that_nobody_knows_yet_keeps_the_gate_shut():
    log = Log(1)
    assert opens(opened(log), log.parts(1))
    assert not opens(opened(log), log.parts(1, 128))


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ({"trigger_id": TRIGGER}, ""),
        ({"unit_key": f"t:st1/1/{TRIGGER}"}, ""),
        ({"unit_id": "A-1"}, ""),
        ({"trigger_id": TRIGGER, "unit_id": "A-1"}, ""),
        ({"trigger_id": TRIGGER + 1}, "verdict of trigger 1001 in run 1; 1002 in run 1 is at"),
        ({"trigger_id": TRIGGER, "unit_id": "A-2"}, "verdict of unit A-1; A-2 is at the gate"),
        ({"unit_key": "t:st1/2/1001"}, "verdict of unit t:st1/1/1001; t:st1/2/1001 is at"),
        ({"trigger_id": None}, "no unit is at the gate"),
    ],
)
def test_only_the_unit_at_the_gate_goes_by_its_verdict(unit, expected):
    assert why(Log(1), **unit).startswith(expected)
    assert bool(why(Log(1), **unit)) == bool(expected)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"run": 2}, "verdict of trigger 1001 in run 2; 1001 in run 1 is at the gate"),
        ({"trigger_id": None}, "verdict of trigger None in run 1"),
        ({"advisory": True}, "advisory"),
        ({"age_ms": -1}, "time zero is 1000000 ns after the verdict was sent"),
        ({"age_ms": 100}, "100.0 ms old; verdicts are valid for 100.0 ms"),
        ({"valid_us": 0}, "10.0 ms old; verdicts are valid for 0.0 ms"),
        ({"time_zero_ns": 0}, "77000.0 ms old"),
        ({"outcome": Outcome.FAIL}, "the outcome is fail"),
    ],
)
def test_a_verdict_that_is_not_fit_says_why(facts, expected):
    assert why(Log(1, **facts)).startswith(expected)


def test_a_verdict_is_valid_for_so_long_and_no_longer():
    assert why(Log(1), late_ms=89) == ""
    assert why(Log(1), late_ms=90) == "100.0 ms old; verdicts are valid for 100.0 ms"


def test_a_validity_of_the_gates_own_takes_the_place_of_the_verdicts():
    log = Log(1, age_ms=150)
    assert opens(opened(log, validity_ms=200), log.parts(1))
    assert not opens(opened(log, validity_ms=150), log.parts(1))


def test_another_station_is_a_stranger():
    log = Log(1)
    assert opens(opened(log, station="st1"), log.parts(1))
    assert not opens(opened(log, station="st2"), log.parts(1))


def test_three_heartbeats_missed_shut_the_gate():
    log = Log(1, valid_us=10_000_000)
    assert why(log, late_ms=299) == ""
    assert why(log, late_ms=300) == "no heartbeat of the daemon in the last 300 ms"


def test_a_heartbeat_of_the_last_connection_is_none():
    log = Log(1)
    gate = opened(log)
    gate.disconnect()
    gate.hear(log.subscribed(1), NOW)
    assert gate.state(NOW) is None
    assert not opens(gate, log.parts(1))


def test_after_a_new_run_the_old_triggers_are_strangers():
    log = Log(1)
    gate = opened(log)
    gate.hear(said(Run("st1", 2), Type.RUN), NOW)
    assert not opens(gate, log.parts(1))


def test_what_waited_in_a_buffer_is_as_old_as_it_is():
    """The process was stopped for 200 ms; sockets deliver what they hold as if it were new."""
    log = Log(1)
    gate = opened(log)
    gate.hear(log.parts(1), NOW + 200 * MS)
    delivered = gate.lanes.take()
    gate.hear(alive(sent_ns=SENT + 200 * MS), NOW + 200 * MS)
    assert delivered.late_ns == 200 * MS
    reason = gate.why_not(delivered, NOW + 200 * MS, trigger_id=TRIGGER)
    assert reason == "210.0 ms old; verdicts are valid for 100.0 ms"


def test_a_heartbeat_that_waited_in_a_buffer_is_no_sign_of_life():
    gate = opened(Log(1))
    gate.hear(alive(sent_ns=SENT), NOW + 301 * MS)
    assert gate.state(NOW + 301 * MS) is None


# Bit patterns: the protections one by one, and what happens without them


class Careless(Gate):
    """Looks neither at the CRC nor at the complement."""

    def hear(self, parts, now_ns):
        body = parts[0][: SIZE - 4]
        return super().hear([body + zlib.crc32(body).to_bytes(4, "little"), *parts[1:]], now_ns)

    def why_not(self, delivered, now_ns, **unit):
        code = codes.code_of(delivered.verdict.outcome, delivered.verdict.reason)
        trusted = msgspec.structs.replace(delivered, code=code, complement=code ^ 0xFF)
        return super().why_not(trusted, now_ns, **unit)


class ByCode(Gate):
    """A controller that reads code and complement of the header, and nothing of the body."""

    def why_not(self, delivered, now_ns, **unit):
        if (delivered.code, delivered.complement) != (0x5A, 0xA5):
            return "not the pattern of pass"
        verdict = msgspec.structs.replace(delivered.verdict, outcome=Outcome.PASS, reason=None)
        return super().why_not(msgspec.structs.replace(delivered, verdict=verdict), now_ns, **unit)


def flips(raw):
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


SENT_AS = [
    (Log(1), 0),
    (Log(1, outcome=Outcome.FAIL), 0),
    (Log(1, age_ms=200), 0),
    (Log(1), Flag.HISTORICAL),
    (Log(1), Flag.TEST),
]
"""Of none may a bit be turned; but for the first they do not open the gate as they are."""


def flipped_openings(kind, part):
    """How many single-bit flips of the header (0) or the body (1) let the unit through."""
    count = tried = 0
    for log, flags in SENT_AS:
        sound = log.parts(1, flags)
        for changed in flips(sound[part]):
            gate = opened(log, kind=kind)
            count += opens(gate, [*sound[:part], changed, *sound[part + 1 :]])
            tried += 1
            assert kind is not Gate or (gate.lanes.again and gate.lanes.upto == 0)
    return count, tried


def test_no_flipped_bit_of_a_header_lets_a_unit_through():
    assert flipped_openings(Gate, 0) == (0, 768 * len(SENT_AS))


def test_no_two_flipped_bits_of_a_header_let_a_unit_through():
    log, rng = Log(1), random.Random(5)
    header, body = log.parts(1)
    sound = int.from_bytes(header, "little")
    for _ in range(20_000):
        one, other = rng.sample(range(SIZE * 8), 2)
        changed = (sound ^ 1 << one ^ 1 << other).to_bytes(SIZE, "little")
        assert not opens(opened(log), [changed, body]), (one, other)


def test_no_flipped_bit_of_a_body_lets_a_unit_through():
    count, tried = flipped_openings(Gate, 1)
    assert count == 0
    assert tried > 5 * 8 * 200


def test_control_without_crc_and_complement_flipped_bits_let_units_through():
    assert flipped_openings(Careless, 0)[0] > 0


def mangled_openings(kind, table):
    """How many rejects open the gate once their code is swapped, turned over or flipped."""
    count = 0
    for meaning, code in table.items():
        if meaning is Outcome.PASS:
            continue
        outcome, reason = MEANINGS[list(CODES).index(meaning)]
        log = Log(1, outcome=outcome, reason=reason)
        pair = code << 8 | code ^ 0xFF
        swapped = [pair >> 8 | pair << 8 & 0xFFFF, pair ^ 0xFFFF]
        nibbles = (pair & 0x0F0F) << 4 | (pair & 0xF0F0) >> 4
        doubles = [pair ^ 1 << a ^ 1 << b for a in range(16) for b in range(a + 1)]
        for word in [*swapped, nibbles, *doubles]:
            parts = log.parts(1, pixel_format=word >> 8, codec=word & 0xFF)
            count += opens(opened(log, kind=kind), parts)
    return count


def test_no_swapped_or_inverted_code_of_a_reject_is_the_code_of_pass():
    assert mangled_openings(Gate, CODES) == 0
    assert mangled_openings(ByCode, CODES) == 0


def test_control_a_fail_that_is_the_complement_of_pass_opens_the_gate_when_swapped():
    assert mangled_openings(ByCode, CODES | {Outcome.FAIL: 0xA5}) > 0


def test_a_code_that_is_not_that_of_the_body_is_recorded_and_never_acted_on():
    log = Log(1, outcome=Outcome.FAIL)
    gate = opened(log)
    gate.hear(log.parts(1, pixel_format=0x5A, codec=0xA5), NOW)
    delivered = gate.lanes.take()
    assert delivered.fault == "outcome code 0x5a is not that of fail"
    assert gate.why_not(delivered, NOW, trigger_id=TRIGGER) == delivered.fault


# Lanes, numbers and what is acknowledged


def test_live_verdicts_overtake_history_and_both_are_acknowledged():
    log = Log(5)
    gate = opened(log, live_from=4, history_from=1)
    for vseq, flags in [(1, Flag.HISTORICAL), (4, 0), (2, Flag.HISTORICAL), (5, 0)]:
        gate.hear(log.parts(vseq, flags), NOW)
    assert held(gate) == [4, 5, 1, 2]
    assert gate.lanes.ack == Ack(2, 5)
    gate.hear(log.parts(3, Flag.HISTORICAL), NOW)
    assert held(gate) == [3]
    assert gate.lanes.ack == Ack(5, 5)


def test_one_lane_is_in_strict_order():
    log = Log(4)
    gate = Gate(lanes=1)
    gate.hear(log.subscribed(3, 1), NOW)
    for vseq in (1, 2, 3, 4):
        gate.hear(log.parts(vseq, Flag.HISTORICAL if vseq < 3 else 0), NOW)
    assert held(gate) == [1, 2, 3, 4]
    assert gate.lanes.ack == Ack(4, 4)


def test_a_verdict_that_was_only_taken_is_not_acknowledged_and_not_handed_out_again():
    log = Log(3)
    gate = opened(log)
    gate.hear(log.parts(1), NOW)
    assert gate.lanes.take().vseq == 1
    assert gate.lanes.ack == Ack(0, 0)
    gate.disconnect()
    assert gate.lanes.start == 1
    gate.hear(log.subscribed(4, 1), NOW)
    for vseq in (1, 2, 3):
        gate.hear(log.parts(vseq, Flag.HISTORICAL), NOW)
    assert held(gate) == [2, 3]
    assert gate.lanes.counts.duplicates == 1
    assert gate.lanes.ack == Ack(0, 3)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"offset": 1}, "verdict 2: its chain value does not follow"),
        ({"digest": 1}, "verdict 2: its digest is not that of its bytes"),
        ({"seq": 3}, "verdict 3 came where 2 was due"),
    ],
)
def test_a_verdict_that_does_not_follow_is_asked_for_again(wrong, problem):
    log = Log(3)
    gate = opened(log)
    gate.hear(log.parts(1), NOW)
    assert held(gate) == [1]
    gate.hear(log.parts(2, **wrong), NOW)
    gate.hear(log.parts(2), NOW)
    assert gate.lanes.problem == problem
    assert gate.lanes.again
    assert not gate.lanes.subscribed
    assert taken(gate) == []
    gate.disconnect()
    assert gate.lanes.start == 2
    gate.hear(log.subscribed(4, 2), NOW)
    for vseq in (2, 3):
        gate.hear(log.parts(vseq, Flag.HISTORICAL), NOW)
    assert held(gate) == [2, 3]
    assert gate.lanes.counts.refused == 1


def test_a_row_that_is_wrong_in_the_log_stops_its_lane_and_not_the_live_one():
    log = Log(3)
    gate = Gate()
    for again in (True, False):
        gate.disconnect()
        gate.hear(log.subscribed(3, 1), NOW)
        gate.hear(log.parts(1, Flag.HISTORICAL), NOW)
        gate.hear(log.parts(2, Flag.HISTORICAL, digest=1), NOW)
        assert gate.lanes.again is again
    gate.hear(log.parts(3), NOW)
    assert held(gate) == [3, 1]
    assert gate.lanes.ack == Ack(1, 3)


def test_what_retention_took_is_counted_and_not_waited_for():
    log = Log(6)
    gate = Gate()
    gate.hear(log.subscribed(6, 1), NOW)
    gate.hear(log.parts(1, Flag.HISTORICAL), NOW)
    gate.hear(said(Truncated(2, 4, log.chains[4]), Type.TRUNCATED), NOW)
    gate.hear(log.parts(5, Flag.HISTORICAL), NOW)
    assert held(gate) == [1, 5]
    assert gate.lanes.ack == Ack(5, 5)
    assert gate.lanes.counts.lost == 3


def test_numbers_that_a_new_subscription_leaves_out_are_lost():
    log = Log(6)
    gate = opened(log, live_from=1)
    gate.hear(log.parts(1), NOW)
    assert held(gate) == [1]
    gate.disconnect()
    gate.hear(log.subscribed(7, 4, oldest=4), NOW)
    gate.hear(said(Truncated(2, 3, log.chains[3]), Type.TRUNCATED), NOW)
    gate.hear(log.parts(4, Flag.HISTORICAL), NOW)
    assert held(gate) == [4]
    assert (gate.lanes.upto, gate.lanes.counts.lost) == (4, 2)


def test_truncated_beyond_the_head_is_refused():
    gate = opened(Log(3), live_from=4)
    gate.hear(said(Truncated(1, 2**62, 0), Type.TRUNCATED), NOW)
    assert gate.lanes.again
    assert gate.lanes.problem == f"TRUNCATED 1 to {2**62}; the daemon's head is 3"
    assert gate.lanes.upto == 3


@pytest.mark.parametrize("rows", [5, 8, 20])
def test_a_log_that_began_anew_at_lower_numbers_does_not_wedge_the_gate(rows):
    """Fewer rows than are held, as many, and more: the head or the chain tells."""
    gate = opened(old := Log(8))
    for vseq in range(1, 9):
        gate.hear(old.parts(vseq), NOW)
    assert held(gate) == list(range(1, 9))
    gate.disconnect()
    new = Log(rows, recipe="other")
    start = min(gate.lanes.start, new.head + 1)
    gate.hear(new.subscribed(new.head + 1, start), NOW)
    assert gate.lanes.again
    gate.disconnect()
    assert gate.lanes.start == 0
    gate.hear(new.subscribed(new.head + 1, 1), NOW)
    gate.hear(alive(), NOW)
    for vseq in range(1, rows + 1):
        gate.hear(new.parts(vseq, Flag.HISTORICAL), NOW)
    assert held(gate) == list(range(1, rows + 1))
    assert opens(gate, new.parts(new.commit()))
    assert gate.lanes.counts.other_logs == 1


def test_a_log_that_began_anew_above_a_floor_goes_on():
    gate = opened(old := Log(8))
    for vseq in range(1, 9):
        gate.hear(old.parts(vseq), NOW)
    assert held(gate) == list(range(1, 9))
    gate.disconnect()
    new = Log(2, base=100)
    gate.hear(new.subscribed(103, 101), NOW)
    for vseq in (101, 102):
        gate.hear(new.parts(vseq, Flag.HISTORICAL), NOW)
    assert held(gate) == [101, 102]
    assert gate.lanes.ack == Ack(102, 102)


def test_a_verdict_of_the_old_log_is_not_held_in_the_new_one():
    gate = opened(old := Log(2), live_from=1)
    for vseq in (1, 2):
        gate.hear(old.parts(vseq), NOW)
    gate.disconnect()
    new = Log(1, recipe="other")
    gate.hear(new.subscribed(2, 1), NOW)
    gate.disconnect()
    gate.hear(new.subscribed(2, 1), NOW)
    assert [(d.vseq, d.log) for d in taken(gate)] == [(1, 0), (2, 0)]
    assert gate.lanes.upto == 0


def test_a_full_queue_stops_a_lane_which_comes_back_as_history():
    log = Log(12)
    gate = opened(log, capacity=8)
    for vseq in range(1, 13):
        gate.hear(log.parts(vseq), NOW)
    assert gate.lanes.counts.postponed == 1
    got = []
    while not gate.lanes.again:
        delivered = gate.lanes.take()
        gate.lanes.hold(delivered)
        got.append(delivered.vseq)
    assert got == [1, 2, 3, 4, 5, 6]
    gate.disconnect()
    gate.hear(log.subscribed(13, gate.lanes.start), NOW)
    for vseq in range(7, 13):
        gate.hear(log.parts(vseq, Flag.HISTORICAL), NOW)
    assert held(gate) == [7, 8, 9, 10, 11, 12]
    assert gate.lanes.ack == Ack(12, 12)


def test_a_replay_is_handed_out_once_though_it_is_held():
    log = Log(5)
    gate = opened(log)
    for vseq in range(1, 6):
        gate.hear(log.parts(vseq), NOW)
    assert held(gate) == [1, 2, 3, 4, 5]
    gate.lanes.replay(2, 4)
    assert gate.lanes.next_replay() == Replay(2, 4)
    assert gate.lanes.next_replay() is None
    gate.hear(log.parts(2, Flag.REPLAY), NOW)
    gate.disconnect()
    assert [d.vseq for d in taken(gate)] == [2]
    gate.hear(log.subscribed(6), NOW)
    assert gate.lanes.next_replay() == Replay(3, 4)
    for vseq in (2, 3, 3, 4, 5):
        gate.hear(log.parts(vseq, Flag.REPLAY), NOW)
    assert [(d.vseq, d.replay, d.lane) for d in taken(gate)] == [
        (3, True, "replay"),
        (4, True, "replay"),
    ]
    assert gate.lanes.next_replay() is None
    assert gate.lanes.upto == 5


def test_a_long_replay_is_asked_for_in_pieces():
    gate = opened(Log(1))
    gate.lanes.replay(1, 3000)
    assert gate.lanes.next_replay() == Replay(1, 1024)


class Wire:
    """A daemon's side of the lanes: what it sends next, and what is true of what it hears."""

    def __init__(self, lanes):
        self.log = Log(3)
        self.gate = Gate(lanes=lanes)
        self.single = lanes == 1
        self.acked = 0
        self.handed_out = []
        self.held = set()
        self.hand = []
        self.connect()

    def connect(self):
        self.gate.disconnect()
        self.live_from = self.live = self.log.head + 1
        start = self.gate.lanes.start
        assert start != "live"
        self.history = start or self.acked + 1
        self.gate.hear(self.log.subscribed(self.live, self.history), NOW)

    def step(self, name):
        getattr(self, name)()
        if self.gate.lanes.again:
            self.connect()
        ack = self.gate.lanes.ack
        assert ack is not None
        assert set(range(1, ack.upto + 1)) <= self.held
        assert set(range(self.live_from, ack.live_upto + 1)) <= self.held
        self.acked = max(self.acked, ack.upto)

    def commit(self):
        self.log.commit()

    def send_live(self, **wrong):
        if self.single and self.history < self.live_from:
            self.send_history(**wrong)
        elif self.live <= self.log.head:
            self.live += 1
            self.gate.hear(self.log.parts(self.live - 1, **wrong), NOW)

    def send_history(self, **wrong):
        if self.history < self.live_from:
            self.history += 1
            parts = self.log.parts(self.history - 1, Flag.HISTORICAL, **wrong)
            self.gate.hear(parts, NOW)

    def send_twice(self):
        for vseq in range(self.live_from, self.live):
            self.gate.hear(self.log.parts(vseq), NOW)

    def damage(self):
        self.send_live(digest=1)

    def skip(self):
        self.live += self.live < self.log.head
        self.send_live()

    def take(self):
        delivered = self.gate.lanes.take()
        if delivered is not None:
            self.handed_out.append(delivered.vseq)
            self.hand.append(delivered)

    def hold(self):
        if self.hand:
            delivered = self.hand.pop()
            self.held.add(delivered.vseq)
            self.gate.lanes.hold(delivered)

    def finish(self):
        """An undisturbed line: all that was committed comes, is taken and is held."""
        self.connect()
        while self.history < self.live_from:
            self.step("send_history")
        while self.live <= self.log.head:
            self.step("send_live")
        for name in ("take", "hold"):
            for _ in range(self.log.head):
                self.step(name)


STEPS = [
    "commit", "send_live", "send_history", "send_twice", "damage", "skip", "take", "hold", "connect",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(STEPS), max_size=60), st.sampled_from([1, 2]))
def test_whatever_the_order_each_verdict_is_handed_out_once_and_held_before_its_ack(steps, lanes):
    wire = Wire(lanes)
    for name in steps:
        wire.step(name)
    wire.finish()
    everything = list(range(1, wire.log.head + 1))
    assert sorted(wire.handed_out) == everything
    assert wire.acked == wire.log.head


def test_control_a_gate_that_forgets_what_it_saw_hands_out_twice():
    class Forgetful(Gate):
        def disconnect(self):
            super().disconnect()
            self.lanes._seen = Numbers(self.lanes.upto, 0)

    wire = Wire(2)
    wire.gate = Forgetful()
    wire.connect()
    for name in ["commit", "send_live", "take", "connect"]:
        wire.step(name)
    wire.finish()
    assert wire.handed_out.count(4) == 2
