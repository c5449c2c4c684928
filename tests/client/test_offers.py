"""What a source holds and sends, in virtual time; the seeded line loses, repeats and reorders."""

import heapq
import itertools
import random
from collections import Counter
from typing import Any

import pytest

from edge_inspector.client import offers as module
from edge_inspector.client.frames import Draft
from edge_inspector.client.held import Credit, Held
from edge_inspector.client.offers import Offers
from edge_inspector.clock import NS_PER_MS
from edge_inspector.errors import Breakage, Misuse
from edge_inspector.records import Outcome, Reason
from edge_inspector.wire.assured import Nack, Welcome
from edge_inspector.wire.codes import TOMBSTONES, Flag, Type, Why
from edge_inspector.wire.header import Header

EPOCH = bytes(range(16))
PASS = (1, Outcome.PASS, None, "")


def terms(**changes) -> Welcome:
    values: dict[str, Any] = {
        "version": 1,
        "link": "a",
        "state": "ready",
        "credit_msgs": 8,
        "credit_bytes": 1000,
        "settled_upto": 0,
        "max_part": 100,
        "max_payload": 1000,
        "ttl_ms": 300,
    }
    return Welcome(**(values | changes))


def frame(size=10, *, at_ms=0, budget_ms=300, why=None, recipe=None):
    header = Header(
        type=Type.FRAME,
        t_mono_ns=at_ms * NS_PER_MS,
        budget_us=budget_ms * 1000,
        digest=7,
        width=size,
    )
    pixels = bytes(size) if why is None else None
    return Draft(header=header, pixels=pixels, why=why, recipe=recipe)


def send_all(offers, at_ms=0):
    """Everything that is due now, as if the pipe had room."""
    sendings = []
    while (sending := offers.next(at_ms * NS_PER_MS)) is not None:
        offers.sent(sending, at_ms * NS_PER_MS)
        sendings.append(sending)
    return sendings


def seqs(sendings):
    return [sending.header.seq for sending in sendings]


def offered(count=1, welcome=None, **changes):
    offers = Offers(EPOCH)
    offers.welcome(welcome or terms())
    for _ in range(count):
        offers.offer(frame(**changes), 0)
    return offers


# --- one frame -------------------------------------------------------------------------------


def test_numbers_count_from_one_without_holes():
    assert seqs(send_all(offered(3))) == [1, 2, 3]


def test_nothing_is_sent_before_welcome_and_after_the_link_is_gone():
    offers = Offers(EPOCH)
    offers.offer(frame(), 0)
    assert send_all(offers) == []
    offers.welcome(terms())
    offers.unlink()
    assert send_all(offers) == []


def test_a_settled_frame_is_forgotten():
    offers = offered()
    send_all(offers)
    settlement = offers.settle(1, (41, Outcome.FAIL, None, "why"))
    assert settlement is not None
    assert (settlement.seq, settlement.vseq, settlement.outcome) == (1, 41, Outcome.FAIL)
    assert (offers.unsettled, offers.held_bytes) == (0, 0)
    assert send_all(offers, at_ms=1000) == []


def test_a_frame_settled_twice_counts_once():
    offers = offered()
    offers.settle(1, PASS)
    assert offers.settle(1, PASS) is None
    assert (offers.counts["settled"], offers.counts["unknown"]) == (1, 1)


@pytest.mark.parametrize(("budget_ms", "timer_ms"), [(300, 100), (3000, 250)])
def test_the_timer_of_a_frame_is_a_third_of_its_budget_and_at_most_250_ms(budget_ms, timer_ms):
    offers = offered(budget_ms=budget_ms)
    sent = [ms for ms in range(budget_ms) if send_all(offers, at_ms=ms)]
    assert sent == [0, timer_ms, 2 * timer_ms]


def test_each_frame_has_a_timer_of_its_own():
    offers = offered()
    send_all(offers)
    offers.offer(frame(at_ms=60), 60 * NS_PER_MS)
    send_all(offers, at_ms=60)
    assert seqs(send_all(offers, at_ms=100)) == [1]
    assert seqs(send_all(offers, at_ms=160)) == [2]


def test_an_accepted_frame_is_not_sent_again_before_its_deadline():
    offers = offered()
    send_all(offers)
    offers.accept(1)
    assert [ms for ms in range(1, 400) if send_all(offers, at_ms=ms)] == []
    assert offers.held_bytes == 0
    assert [s.facts.why for s in send_all(offers, at_ms=400)] == ["expired"]


def test_the_age_grows_while_a_frame_waits():
    offers = offered()
    assert [s.facts.age_us for s in send_all(offers, at_ms=0)] == [0]
    assert [s.facts.age_us for s in send_all(offers, at_ms=100)] == [100_000]


def test_recipes_are_numbered_as_the_daemon_lists_them():
    offers = Offers(EPOCH)
    for name in ("b", "gone", None):
        offers.offer(frame(recipe=name), 0)
    offers.welcome(terms(recipes=["a", "b"]))
    assert [s.header.recipe for s in send_all(offers)] == [2, 0xFFFF, 0]
    with pytest.raises(Misuse, match="recipe 'c'; the daemon knows a, b"):
        offers.offer(frame(recipe="c"), 0)


# --- tombstones ------------------------------------------------------------------------------


def test_a_frame_that_was_never_sent_becomes_a_tombstone_at_its_deadline():
    offers = Offers(EPOCH)
    offers.offer(frame(), 0)
    assert offers.next(300 * NS_PER_MS) is None
    assert offers.held_bytes == 0
    offers.welcome(terms())
    (sending,) = send_all(offers, at_ms=301)
    assert Flag(sending.header.flags) == Flag.TOMBSTONE | Flag.LAST
    assert (sending.facts.why, sending.header.width) == ("expired", 0)
    assert sending.header.digest == 7, "of the pixels that it stands for"
    assert len(sending.payload) == 0


def test_a_frame_older_than_its_budget_is_expired_at_once():
    offers = offered(at_ms=0, budget_ms=300)
    offers.offer(frame(at_ms=0, budget_ms=50), 60 * NS_PER_MS)
    assert [s.facts.why for s in send_all(offers)] == [None, "expired"]


def test_what_does_not_fit_into_the_waiting_room_is_shed():
    offers = Offers(EPOCH, hold_bytes=25)
    for _ in range(3):
        offers.offer(frame(), 0)
    assert (offers.held_bytes, offers.counts["no_credit"]) == (20, 1)
    offers.welcome(terms())
    assert [s.facts.why for s in send_all(offers)] == [None, None, "no_credit"]


def test_a_tombstone_is_sent_until_it_is_settled():
    offers = offered(why="camera_fault")
    sent = [ms for ms in range(3000) if send_all(offers, at_ms=ms)]
    assert sent == list(range(0, 3000, 250))
    offers.settle(1, PASS)
    assert send_all(offers, at_ms=5000) == []


def test_tombstones_need_no_credit_and_64_are_open_at_once():
    offers = offered(100, welcome=terms(credit_msgs=0), why="no_image")
    assert seqs(send_all(offers)) == list(range(1, 65))
    for seq in (3, 4):
        offers.settle(seq, PASS)
    assert seqs(send_all(offers)) == [65, 66]


def test_waiting_tombstones_do_not_hold_up_fresh_frames():
    offers = offered(100, why="no_image")
    send_all(offers)
    seq = offers.offer(frame(), 0)
    assert seqs(send_all(offers)) == [seq]


def test_after_a_long_outage_no_number_jumps_further_than_a_daemon_takes():
    offers = Offers(EPOCH)
    for _ in range(2000):
        offers.offer(frame(why="no_image"), 0)
    fresh = offers.offer(frame(), 0)
    offers.welcome(terms())
    while offers.first_unsettled <= fresh - 1000:
        sent = seqs(send_all(offers))
        assert fresh not in sent
        for seq in sent:
            offers.settle(seq, PASS)
    assert fresh in seqs(send_all(offers))


def test_too_many_unsettled_frames_get_no_number():
    offers = Offers(EPOCH, max_unsettled=2)
    for _ in range(2):
        offers.offer(frame(why="no_image"), 0)
    with pytest.raises(Breakage, match="2 frames are not settled; the limit is 2"):
        offers.offer(frame(), 0)
    assert (offers.next_seq, offers.counts["offered"]) == (3, 2)


# --- credit and chunks -----------------------------------------------------------------------


def test_credit_in_messages_is_a_running_total():
    offers = offered(5, welcome=terms(credit_msgs=2))
    assert seqs(send_all(offers)) == [1, 2]
    offers.credit.grant(3, 1000)
    offers.credit.grant(3, 1000)
    assert seqs(send_all(offers)) == [3]
    offers.credit.grant(2, 0)
    assert send_all(offers) == []


def test_credit_in_bytes_is_a_running_total():
    offers = offered(5, welcome=terms(credit_bytes=25))
    assert seqs(send_all(offers)) == [1, 2]
    offers.credit.grant(8, 30)
    assert seqs(send_all(offers)) == [3]


def test_a_repetition_costs_credit_too():
    offers = offered(1, welcome=terms(credit_msgs=2))
    assert [len(send_all(offers, at_ms=ms)) for ms in (0, 100, 200)] == [1, 1, 0]


def test_a_large_frame_goes_in_chunks_and_each_costs_one_message():
    offers = offered(1, size=250, welcome=terms(credit_msgs=2))
    first, second = send_all(offers)
    offers.credit.grant(3, 1000)
    (third,) = send_all(offers)
    chunks = (first, second, third)
    assert [(s.header.offset, len(s.payload)) for s in chunks] == [(0, 100), (100, 100), (200, 50)]
    assert [bool(s.header.flags & Flag.LAST) for s in chunks] == [False, False, True]
    assert {s.facts.total_len for s in chunks} == {250}
    assert (offers.credit.used_msgs, offers.credit.used_bytes) == (3, 250)


def test_chunks_of_two_frames_are_not_mixed():
    offers = offered(2, size=150, welcome=terms(credit_msgs=1))
    sent = send_all(offers)
    for msgs in (2, 3, 4):
        offers.credit.grant(msgs, 1000)
        sent += send_all(offers)
    assert [(s.header.seq, s.header.offset) for s in sent] == [(1, 0), (1, 100), (2, 0), (2, 100)]


def test_the_pixels_of_a_frame_in_pieces_are_dropped_at_the_deadline_too():
    offers = offered(1, size=150, welcome=terms(credit_msgs=1))
    send_all(offers)
    assert send_all(offers, at_ms=300) == []
    assert [s.facts.why for s in send_all(offers, at_ms=400)] == ["expired"]


def test_a_frame_over_the_limit_of_the_daemon_is_misuse():
    offers = offered(0)
    with pytest.raises(Misuse, match="frame of 1001 bytes; the limit is 1000"):
        offers.offer(frame(1001), 0)
    assert offers.next_seq == 1


def test_a_frame_offered_before_the_limit_was_known_becomes_a_tombstone():
    offers = Offers(EPOCH)
    offers.offer(frame(1001), 0)
    offers.welcome(terms())
    assert [s.facts.why for s in send_all(offers)] == ["no_image"]


# --- a new link ------------------------------------------------------------------------------


def test_on_a_new_link_everything_unsettled_is_offered_again_in_order():
    offers = offered(3)
    offers.offer(frame(why="no_image"), 0)
    offers.offer(frame(), 0)
    send_all(offers)
    offers.accept(3)
    offers.settle(2, PASS)
    offers.welcome(terms(link="b"))
    assert seqs(send_all(offers)) == [1, 3, 4, 5]
    assert offers.counts["resent"] == 3


def test_credit_begins_anew_with_a_link():
    offers = offered(3, welcome=terms(credit_msgs=1))
    send_all(offers)
    offers.welcome(terms(credit_msgs=2))
    assert seqs(send_all(offers)) == [1, 2]


def test_welcome_releases_what_is_settled():
    offers = offered(3)
    send_all(offers)
    released = offers.welcome(terms(settled_upto=2))
    assert [(s.seq, s.vseq, s.outcome) for s in released] == [(1, None, None), (2, None, None)]
    assert seqs(send_all(offers)) == [3]
    assert offers.first_unsettled == 3


def test_a_partly_sent_frame_starts_again_on_a_new_link():
    offers = offered(1, size=150, welcome=terms(credit_msgs=1))
    send_all(offers)
    offers.welcome(terms())
    assert [s.header.offset for s in send_all(offers)] == [0, 100]


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize("why", [Why.BUSY, Why.OVER_CREDIT])
def test_a_busy_daemon_is_asked_again_after_its_own_time(why):
    offers = offered()
    send_all(offers)
    offers.refuse(1, Nack(why=why, retry_ms=30), 0)
    assert [ms for ms in range(1, 300) if send_all(offers, at_ms=ms)] == [30, 130]


def test_a_conflict_settles_the_frame_as_one():
    offers = offered()
    settlement = offers.refuse(1, Nack(why=Why.CONFLICT, detail="other pixels"), 0)
    assert settlement is not None
    assert (settlement.reason, settlement.vseq) == (Reason.CONFLICT, None)
    assert offers.unsettled == 0


def test_a_frame_whose_header_is_refused_is_given_up():
    offers = offered()
    send_all(offers)
    offers.refuse(1, Nack(why=Why.BAD_HEADER), 0)
    assert [s.facts.why for s in send_all(offers)] == ["no_image"]


def test_a_refused_tombstone_is_not_hammered():
    offers = offered(why="no_image")
    send_all(offers)
    offers.refuse(1, Nack(why=Why.BUSY, retry_ms=1), 0)
    assert [ms for ms in range(1, 501) if send_all(offers, at_ms=ms)] == [250, 500]


def test_a_refusal_of_a_frame_that_is_not_held_is_counted():
    offers = offered(0)
    assert offers.refuse(9, Nack(why=Why.BUSY), 0) is None
    assert offers.counts["unknown"] == 1


def test_a_long_outage_does_not_make_the_next_link_slow():
    """The lock that `offer` needs is held meanwhile, so WELCOME must not walk what waits."""
    offers = Offers(EPOCH)
    for _ in range(20_000):
        offers.offer(frame(why="no_image"), 0)
    touched = offers._held
    offers._held = _Untouched(touched)
    offers.welcome(terms())
    assert seqs(send_all(offers)) == list(range(1, 65))


class _Untouched(dict[int, Held]):
    def values(self):
        raise AssertionError("walks every frame")


# --- the seeded line -------------------------------------------------------------------------

HOLD_BYTES = 3000
FRAMES = 400
SECOND = 1000 * NS_PER_MS


class Line:
    """
    One source and a daemon that forgets links, drops and repeats replies and refuses frames.

    Frames of a link arrive in order, as they do over TCP; replies come in any order. `log` is the
    daemon's memory, which survives; each broken rule is an assertion.
    """

    def __init__(self, seed, kind=Offers):
        self.random = random.Random(seed)
        self.offers = kind(EPOCH, hold_bytes=HOLD_BYTES)
        self.events, self.order = [], itertools.count()
        self.now = 0
        self.log, self.heard = {}, {}
        self.faults: Counter[str] = Counter()
        self.calm = False
        self.link, self.arrives = 0, 0
        self.tries: Counter[int] = Counter()
        self.open: set[int] = set()
        self.judging, self.used, self.granted = set(), [0, 0], [0, 0]

    def later(self, delay_ms, event, *arguments):
        at = self.now + round(delay_ms * NS_PER_MS)
        heapq.heappush(self.events, (at, next(self.order), event, arguments))

    def run(self):
        for number in range(FRAMES):
            self.later(number * 10 + self.random.uniform(0, 5), self.take_picture)
        for _ in range(8):
            self.later(self.random.uniform(0, FRAMES * 10), self.restart)
        self.later(FRAMES * 10 + 500, self.be_calm)
        self.later(self.random.uniform(0, 100), self.greet, 0)
        while (self.events or self.offers.unsettled) and self.now < 60 * SECOND:
            self.step()
        return self

    def step(self):
        due = self.offers.due_ns()
        if due is not None and self.now < due and (not self.events or due < self.events[0][0]):
            self.now = due
        else:
            self.now, _, event, arguments = heapq.heappop(self.events)
            event(*arguments)
        self.send()
        held = sum(len(h.pixels or b"") for h in self.offers._held.values())
        assert self.offers.held_bytes == held, "bytes held are not what is counted"
        assert held <= HOLD_BYTES, "holds more than it may"
        assert len(self.offers._timers) <= 2048 + 4 * self.offers.unsettled, "timers pile up"

    def take_picture(self):
        if self.random.random() < 0.02:
            draft = frame(why="camera_fault", at_ms=self.now // NS_PER_MS)
        else:
            size, budget = self.random.choice([10, 90, 250, 600]), self.random.choice([30, 300])
            draft = frame(size, at_ms=self.now // NS_PER_MS, budget_ms=budget)
        self.offers.offer(draft, self.now)

    def greet(self, link):
        if link != self.link or self.offers.linked:
            return
        upto = self.settled_upto() if self.random.random() < 0.5 else 0
        self.used, self.granted = [0, 0], [4, 700]
        self.tries.clear()
        self.open.clear()
        welcome = terms(credit_msgs=4, credit_bytes=700, settled_upto=upto)
        for settlement in self.offers.welcome(welcome):
            self.note(settlement)

    def settled_upto(self):
        return next(seq for seq in itertools.count(1) if seq not in self.log) - 1

    def restart(self):
        """A new link: what is on its way is lost; half of the restarts lose the daemon too."""
        self.faults["links lost"] += 1
        self.offers.unlink()
        self.link += 1
        for seq in self.judging if self.random.random() < 0.5 else ():
            self.settle(seq, Outcome.UNINSPECTED, Reason.ABORTED)
        self.later(self.random.choice([1, 20, 600]), self.greet, self.link)

    def be_calm(self):
        self.calm = True

    def chance(self, share, name):
        hit = not self.calm and self.random.random() < share
        self.faults[name] += hit
        return hit

    def send(self):
        while (sending := self.offers.next(self.now)) is not None:
            if self.chance(0.05, "pipe full"):
                self.later(1, lambda: None)
                return
            self.offers.sent(sending, self.now)
            seq = sending.header.seq
            if sending.header.flags & Flag.TOMBSTONE:
                self.open.add(seq)
                assert len(self.open) <= 64, "more than 64 tombstones are open"
            elif sending.header.offset == 0:
                self.tries[seq] += 1
                assert self.tries[seq] <= 3, "pixels went more than three times"
            self.arrives = max(self.arrives, self.now + self.random.randrange(3 * NS_PER_MS))
            self.later((self.arrives - self.now) / NS_PER_MS, self.arrive, self.link, sending)

    def arrive(self, link, sending):
        if link != self.link:
            return
        header, why = sending.header, sending.facts.why
        if why is not None:
            if header.seq not in self.judging:
                self.settle(header.seq, Outcome.UNINSPECTED, TOMBSTONES[why])
                self.reply_settled(header.seq)
            return
        self.spend(len(sending.payload))
        if self.chance(0.05, "busy"):
            self.reply(self.offers.refuse, header.seq, Nack(why=Why.BUSY, retry_ms=5))
        elif header.flags & Flag.LAST and not self.chance(0.05, "frame dropped"):
            self.judge(header.seq)

    def spend(self, size):
        self.used = [self.used[0] + 1, self.used[1] + size]
        assert self.used[0] <= self.granted[0], "messages over credit"
        assert self.used[1] <= self.granted[1], "bytes over credit"
        self.later(self.random.uniform(0, 40), self.give_back, self.link, size)

    def give_back(self, link, size):
        if link == self.link:
            self.granted = [self.granted[0] + 1, self.granted[1] + size]
            self.reply(self.offers.credit.grant, *self.granted)

    def judge(self, seq):
        if seq in self.log:
            self.reply_settled(seq)
        elif seq not in self.judging:
            self.judging.add(seq)
            self.reply(self.offers.accept, seq)
            self.later(self.random.uniform(0, 60), self.infer, seq)

    def infer(self, seq):
        self.settle(seq, self.random.choice([Outcome.PASS, Outcome.FAIL]), None)
        self.reply_settled(seq)

    def settle(self, seq, outcome, reason):
        self.log.setdefault(seq, (len(self.log) + 1, outcome, reason))
        self.judging = self.judging - {seq}

    def reply_settled(self, seq):
        if self.offers.linked:
            self.reply(lambda: self.note(self.offers.settle(seq, (*self.log[seq], ""))))

    def reply(self, event, *arguments):
        for _ in range(1 + self.chance(0.1, "reply repeated")):
            if not self.chance(0.1, "reply dropped") or event == self.offers.credit.grant:
                self.later(self.random.uniform(0, 8), self.hear, self.link, event, arguments)

    def hear(self, link, event, arguments):
        if link == self.link and self.offers.linked:
            event(*arguments, *([self.now] if event == self.offers.refuse else []))

    def note(self, settlement):
        if settlement is not None:
            assert settlement.seq not in self.heard, "settled twice"
            self.heard[settlement.seq] = settlement
            self.open.discard(settlement.seq)


@pytest.mark.parametrize("seed", range(40))
def test_every_number_gets_its_verdict_and_no_rule_is_broken(seed):
    line = Line(seed).run()
    wanted = {"links lost": 8, "reply dropped": 30, "reply repeated": 30, "busy": 10}
    assert {
        name: line.faults[name] for name, least in wanted.items() if line.faults[name] < least
    } == {}
    assert line.offers.unsettled == 0
    assert sorted(line.heard) == list(range(1, FRAMES + 1)) == sorted(line.log)
    told = {s.seq: (s.vseq, s.outcome, s.reason) for s in line.heard.values() if s.vseq is not None}
    assert told == {seq: line.log[seq] for seq in told}
    assert len(told) > FRAMES * 0.9


class Limitless(Credit):
    def covers(self, size):
        return True


class Spendthrift(Offers):
    def welcome(self, terms):
        released = super().welcome(terms)
        self.credit = Limitless(terms.credit_msgs, terms.credit_bytes)
        return released


def broken(kind=Offers):
    """The first rule that a run breaks, one of twenty seeds."""
    for seed in range(20):
        try:
            Line(seed, kind).run()
        except AssertionError as error:
            return str(error)
    return "none"


def test_control_a_source_that_ignores_credit_is_caught():
    assert "over credit" in broken(kind=Spendthrift)


def test_control_a_source_that_opens_too_many_tombstones_is_caught(monkeypatch):
    monkeypatch.setattr(module, "MAX_OPEN", 1000)
    line = Line(0)
    line.later(0, lambda: [line.offers.offer(frame(why="no_image"), 0) for _ in range(100)])
    with pytest.raises(AssertionError, match="more than 64"):
        line.run()


def test_control_a_source_that_never_gives_up_is_caught(monkeypatch):
    monkeypatch.setattr(module, "TRIES", 1000)
    assert "more than three times" in broken()
