"""When the pass output of a discrete sink is on: inside the window of units that passed, else never."""

import itertools
import random

import pytest
from pydantic import ValidationError

from edge_inspector.channel import Pulse
from edge_inspector.gateways.relays import Relays
from edge_inspector.records import FrameKey, Outcome, Reason, Verdict
from edge_inspector.settings_sinks import DiscreteSink

MS = 1_000_000
DELAY, WINDOW, BEAT = 200, 50, 100
START = 10_000


class Gate:
    """Relays whose clock is told in ms, with core pulsing each 100 ms unless it is dead."""

    def __init__(self):
        self.relays = Relays(DELAY * MS, WINDOW * MS, BEAT * MS)
        self.vseq = 0
        self.toggle = False

    def unit(self, trigger_ms, at_ms, outcome=Outcome.PASS, **fields):
        self.vseq += 1
        values = {"vseq": self.vseq, "valid_us": 150_000, **fields}
        verdict = Verdict(
            unit_key=f"t:s/0/{self.vseq}",
            station="s",
            outcome=outcome,
            frames=(FrameKey("src", "e", self.vseq),),
            recipe="r",
            time_zero_ns=trigger_ms * MS,
            **values,
        )
        self.relays.settled(verdict, at_ms * MS)

    def pulse(self, at_ms, state="ready", *, moves=True):
        self.toggle ^= moves
        self.relays.pulse(Pulse(1, 1, state, self.toggle), at_ms * MS)

    def on(self, at_ms):
        self.pulse(at_ms - 1)
        return self.relays.passing(at_ms * MS)


@pytest.fixture
def gate():
    return Gate()


class TestPass:
    def test_it_is_on_from_the_first_to_the_last_of_the_window_only(self, gate):
        gate.unit(START, START + 30)
        at = START + DELAY
        assert [gate.on(ms) for ms in (START + 31, at - 1, at, at + WINDOW - 1, at + WINDOW)] == [
            False,
            False,
            True,
            True,
            False,
        ]

    @pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.UNINSPECTED])
    def test_only_a_pass_opens(self, gate, outcome):
        reason = Reason.TIMEOUT if outcome is Outcome.UNINSPECTED else None
        gate.unit(START, START + 30, outcome, reason=reason)
        assert not gate.on(START + DELAY + 10)

    def test_nothing_opens_without_a_verdict(self, gate):
        assert not gate.on(START)

    @pytest.mark.parametrize(
        ("at_ms", "fields"),
        [
            (DELAY + 1, {"valid_us": 400_000}),
            (150, {}),
            (-1, {}),
            (30, {"advisory": True}),
            (30, {"vseq": 0}),
        ],
        ids=["behind the window's start", "older than valid", "of the future", "advisory", "known"],
    )
    def test_what_may_not_be_acted_on_opens_nothing(self, gate, at_ms, fields):
        gate.unit(START, START + at_ms, **fields)
        assert not any(gate.on(START + ms) for ms in range(0, DELAY + WINDOW + 20, 5))

    def test_a_reject_shuts_the_window_that_it_shares(self, gate):
        gate.unit(START, START + 30)
        gate.unit(START + 20, START + 60, Outcome.FAIL)
        at = START + DELAY
        assert gate.on(at + 10)
        assert not gate.on(at + 20)
        assert not gate.on(at + 60)

    def test_a_late_pass_shuts_it_too(self, gate):
        gate.unit(START, START + 30)
        gate.unit(START + 20, START + 225, valid_us=400_000)
        assert not gate.on(START + 225)


class TestProgress:
    @pytest.fixture
    def open_gate(self, gate):
        """A window without an end, so that only core's life matters."""
        gate.relays = Relays(DELAY * MS, 10**6 * MS, BEAT * MS)
        gate.unit(START, START + 30)
        gate.pulse(START + DELAY)
        assert gate.relays.passing((START + DELAY) * MS)
        return gate

    def test_silence_of_core_shuts_the_gate_in_300_ms(self, open_gate):
        last = START + DELAY
        assert open_gate.relays.passing((last + 299) * MS)
        assert not open_gate.relays.passing((last + 300) * MS)

    def test_pulses_without_progress_are_silence(self, open_gate):
        for ms in range(50, 301, 50):
            open_gate.pulse(START + DELAY + ms, moves=False)
        assert not open_gate.relays.passing((START + DELAY + 300) * MS)

    @pytest.mark.parametrize("state", ["fault", "starting", "stopping"])
    def test_a_station_that_does_not_serve_opens_nothing(self, open_gate, state):
        open_gate.pulse(START + DELAY + 10, state)
        assert not open_gate.relays.passing((START + DELAY + 11) * MS)
        open_gate.pulse(START + DELAY + 20, "degraded")
        assert open_gate.relays.passing((START + DELAY + 21) * MS)

    def test_the_watchdog_changes_each_beat_while_core_moves_and_stands_still_after(self, gate):
        changes = []
        shown = gate.relays.beat(START * MS)
        for ms in range(START, START + 3000):
            if ms % 100 == 0 and ms < START + 2000:
                gate.pulse(ms)
            if gate.relays.beat(ms * MS) is not shown:
                shown = not shown
                changes.append(ms)
        assert changes[0] == START
        assert {b - a for a, b in itertools.pairwise(changes)} == {BEAT}
        assert changes[-1] == START + 2100  # heard last at 1900

    def test_it_waits_for_the_next_edge_and_never_in_a_busy_loop(self, gate):
        gate.unit(START, START + 30)
        assert gate.relays.next_change_ns((START + 150) * MS) == (START + DELAY) * MS
        inside = (START + DELAY + 1) * MS
        assert gate.relays.next_change_ns(inside) == (START + DELAY + WINDOW) * MS
        assert gate.relays.next_change_ns(10**6 * MS) == (10**6 + BEAT) * MS


@pytest.mark.parametrize("seed", range(3))
def test_no_moment_of_a_random_line_is_open_on_less_than_all_passes(gate, seed):
    """Each ms of a line with jitter, late verdicts and rejects against the rule said plainly."""
    rng = random.Random(seed)
    units, now = [], START
    for _ in range(60):
        now += rng.randrange(20, 120)
        late = rng.choice([20, 60, 140, 199, 210, 240])
        outcome = rng.choice([Outcome.PASS, Outcome.PASS, Outcome.FAIL])
        units.append((now + late, now, outcome, late))
    events = sorted(units, key=lambda unit: unit[0])
    opened = 0
    for ms in range(START, now + 400):
        while events and events[0][0] <= ms:
            heard, trigger, outcome, _ = events.pop(0)
            gate.unit(trigger, heard, outcome)
        at_gate = [u for u in units if u[0] <= ms and u[1] + DELAY <= ms < u[1] + DELAY + WINDOW]
        good = [outcome is Outcome.PASS and late < 150 for _, _, outcome, late in at_gate]
        assert gate.on(ms) == (bool(good) and all(good)), ms
        opened += gate.on(ms)
    assert opened > 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"watchdog_coil": 0},
        {"delay_ms": 0},
        {"window_ms": 5},
        {"host": ""},
        {"port": 0},
        {"beat_ms": 5},
        {"coil": 3},
    ],
)
def test_relays_that_cannot_be_meant_are_refused(wrong):
    good = {"type": "discrete", "host": "io", "delay_ms": 200.0, "window_ms": 50.0}
    assert DiscreteSink.model_validate(good).actuates
    with pytest.raises(ValidationError):
        DiscreteSink.model_validate(good | wrong)
