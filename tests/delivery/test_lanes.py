"""The lanes of one consumer, without socket and clock: order, windows, the rate of history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_inspector.delivery.lanes import (
    AFTER_NS,
    BURST_NS,
    BUSY_NS,
    HISTORY_WINDOW,
    IDLE_NS,
    LIVE_WINDOW,
    MAX_REPLAYS,
    Bucket,
    Lanes,
)
from edge_inspector.wire.codes import Flag

SECOND_NS = 1_000_000_000
T0_NS = 10**12
FLAGS = {"live": 0, "history": Flag.HISTORICAL, "replay": Flag.REPLAY}

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.integers(1, 1500)),
        st.tuples(st.just("live"), st.integers(1, 2000)),
        st.tuples(st.just("past"), st.integers(0, 3000)),
        st.tuples(st.just("ack"), st.floats(0, 1), st.floats(0, 1)),
        st.tuples(st.just("replay"), st.floats(0, 1), st.integers(0, 50)),
    ),
    max_size=60,
)


class Line:
    """A consumer that gets what its lanes offer, and checks each verdict as it comes."""

    def __init__(self, start, head, strict):
        self.lanes = Lanes(start, head + 1, strict=strict)
        self.start, self.live_from, self.head = start, head + 1, head
        self.strict = strict
        self.live, self.history, self.again, self.wanted = [], [], [], []
        self.upto, self.live_upto = start - 1, head

    def send(self, stretch, count):
        """As much of a stretch as a pipe takes."""
        if stretch is None:
            return
        assert stretch.flags == FLAGS[stretch.lane]
        last = min(stretch.last, stretch.first + count - 1)
        assert stretch.lane == "live" or last == stretch.last
        sent = range(stretch.first, last + 1)
        getattr(self, {"replay": "again"}.get(stretch.lane, stretch.lane)).extend(sent)
        self.lanes.sent(stretch.lane, last)

    def do(self, event):
        match event:
            case ("commit", count):
                self.head += count
            case ("live", count):
                self.send(self.lanes.live(self.head), count)
            case ("past", tokens):
                self.send(self.lanes.past(tokens), tokens)
            case ("ack", *shares):
                self.ack(*shares)
            case ("replay", share, count) if self.head:
                first = 1 + int(share * (self.head - 1))
                last = min(self.head, first + count)
                if self.lanes.replay(first, last):
                    self.wanted += range(first, last + 1)

    def ack(self, share, live_share):
        """Of what came, a part: the history from its start, live ones from theirs."""
        came = self.history[-1] if self.history else self.start - 1
        live = self.live[-1] if self.live else self.live_from - 1
        upto = live if came == self.live_from - 1 else came
        self.upto += int(share * (upto - self.upto))
        self.live_upto += int(live_share * (live - self.live_upto))
        assert self.lanes.ack(self.upto, self.live_upto)

    def check(self):
        assert self.history == list(range(self.start, self.start + len(self.history)))
        assert self.live == list(range(self.live_from, self.live_from + len(self.live)))
        assert not self.history or self.history[-1] < self.live_from
        assert not self.live or self.live[-1] <= self.head
        assert self.again == self.wanted[: len(self.again)]
        if self.strict and self.live:
            assert self.history == list(range(self.start, self.live_from))


@given(st.integers(0, 6000), st.floats(0, 1), st.booleans(), EVENTS)
def test_each_lane_ascends_without_a_gap_and_keeps_its_window(head, share, strict, events):
    line = Line(1 + int(share * head), head, strict)
    for event in events:
        known = len(line.live), len(line.history)
        line.do(event)
        line.check()
        if len(line.live) > known[0]:
            assert line.live[-1] - max(line.upto, line.live_upto) <= LIVE_WINDOW
        if len(line.history) > known[1]:
            assert line.history[-1] - line.upto <= HISTORY_WINDOW


@given(st.integers(0, 6000), st.floats(0, 1), st.booleans(), EVENTS)
def test_a_consumer_that_acknowledges_gets_everything(head, share, strict, events):
    line = Line(1 + int(share * head), head, strict)
    for event in events:
        line.do(event)
    for _ in range(2000):
        line.do(("past", 3000))
        line.do(("live", 3000))
        line.do(("ack", 1.0, 1.0))
    assert line.history == list(range(line.start, line.live_from))
    assert line.live == list(range(line.live_from, line.head + 1))
    assert line.again == line.wanted


@given(st.integers(1, 5000), st.integers(0, 3000))
def test_history_holds_no_live_verdict_back_with_two_lanes(head, sent):
    lanes = Lanes(1, head + 1)
    if sent and (stretch := lanes.past(sent)):
        lanes.sent("history", stretch.last)
    assert lanes.live(head + 1) == ("live", head + 1, head + 1, 0)


@given(
    st.integers(1, 100_000),
    st.lists(
        st.tuples(st.integers(0, 50_000_000), st.integers(1, 500), st.booleans(), st.booleans()),
        max_size=200,
    ),
)
def test_history_takes_no_more_than_its_rate(hz, steps):
    bucket, now_ns, spent = Bucket(hz), 10**12, []
    for pause_ns, wanted, busy, done in steps:
        now_ns += pause_ns
        if done:
            bucket.pour(now_ns)
        count = min(wanted, bucket.tokens(now_ns, busy=busy))
        if count:
            bucket.spend(count)
            spent.append((now_ns, count))
    burst = max(hz * BURST_NS, hz * BUSY_NS + SECOND_NS + hz) / SECOND_NS
    for at, (since_ns, _) in enumerate(spent):
        total = 0
        for until_ns, count in spent[at:]:
            total += count
            assert total <= (until_ns - since_ns) * hz / SECOND_NS + burst


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("unit_ns", [SECOND_NS, 20_000_000, 1_000_000])
@pytest.mark.parametrize("hz", [5, 6000])
def test_history_gets_its_full_rate_whatever_the_line_does(hz, unit_ns, busy):
    bucket, sent, done_ns = Bucket(hz), 0, 0
    bucket.rest(T0_NS)
    for now_ns in range(T0_NS, T0_NS + 4 * SECOND_NS, 2_100_000):
        if now_ns - done_ns >= unit_ns:
            done_ns = now_ns
            bucket.pour(now_ns)
        count = min(64, bucket.tokens(now_ns, busy=busy))
        bucket.spend(count)
        sent += count
    assert hz * (4 * SECOND_NS - BUSY_NS) / SECOND_NS - 2 <= sent <= 4 * hz + 64


def test_history_goes_out_when_a_unit_is_done():
    bucket = Bucket(1000)
    bucket.rest(T0_NS)
    owed_ns = T0_NS + IDLE_NS // 4
    assert bucket.tokens(owed_ns) == 0
    bucket.pour(owed_ns)
    assert bucket.tokens(owed_ns + AFTER_NS - 1) == 0
    assert bucket.tokens(owed_ns + AFTER_NS, busy=True) == 0
    assert bucket.tokens(owed_ns + AFTER_NS) == 22
    bucket.spend(22)
    assert bucket.tokens(owed_ns + AFTER_NS) == 0
    assert bucket.tokens(owed_ns + AFTER_NS + 10_000_000) == 0


def test_history_does_not_wait_for_ever():
    idle, busy = Bucket(1000), Bucket(1000)
    idle.rest(T0_NS)
    busy.rest(T0_NS)
    assert idle.tokens(T0_NS + IDLE_NS - 10_000_001) == 0
    assert idle.tokens(T0_NS + IDLE_NS - 10_000_000) == 40
    assert busy.tokens(T0_NS + BUSY_NS - 10_000_000, busy=True) == 0
    assert busy.tokens(T0_NS + BUSY_NS - 9_000_000, busy=True) == 1


def test_what_nobody_wanted_is_not_owed():
    bucket = Bucket(1000)
    bucket.rest(T0_NS)
    bucket.rest(T0_NS + SECOND_NS)
    bucket.pour(T0_NS + SECOND_NS)
    assert bucket.tokens(T0_NS + SECOND_NS + AFTER_NS) == 12


def test_an_ack_of_what_was_never_sent_is_not_taken():
    lanes = Lanes(1, 11)
    assert not lanes.ack(11, 10)
    assert not lanes.ack(0, 11)
    lanes.sent("live", 11)
    assert lanes.ack(0, 11)


def test_what_was_held_from_an_earlier_connection_may_be_acknowledged_before_it_comes():
    lanes = Lanes(5, 11)
    assert lanes.ack(10, 10)
    assert lanes.past(100) == ("history", 5, 10, Flag.HISTORICAL)


def test_what_retention_took_needs_no_ack():
    lanes = Lanes(1, 1_000_001)
    lanes.skip("history", 900_000)
    assert lanes.past(10_000) == (*("history", 900_001, 900_000 + HISTORY_WINDOW, Flag.HISTORICAL),)


def test_only_so_many_replays_wait():
    lanes = Lanes(1, 11)
    assert all(lanes.replay(1, 2) for _ in range(MAX_REPLAYS))
    assert not lanes.replay(1, 2)
    lanes.sent("replay", 2)
    assert lanes.replay(1, 2)
