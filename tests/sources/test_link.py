"""What one connected source may do: credit, numbers, tombstones, round trips."""

import random

import pytest

from edge_inspector import settings
from edge_inspector.sources.link import (
    MAX_EPOCHS,
    MAX_JUMP,
    MAX_TOMBSTONES,
    Book,
    Link,
    Progress,
    Terms,
)
from edge_inspector.wire.assured import Credit, Hello
from edge_inspector.wire.codes import Refusal, Type, Why
from edge_inspector.wire.header import Header

MIB = 1024 * 1024
EPOCH = bytes(range(16))


def link_of(msgs=8, size=1000, max_part=100):
    return Link(
        peer=b"p",
        number=1,
        hello=Hello(name="line", versions=[1]),
        epoch=EPOCH,
        progress=Progress(),
        terms=Terms(msgs, size, max_part, size),
        heard_ns=0,
    )


def frame(seq, epoch=EPOCH):
    return Header(type=Type.FRAME, epoch=epoch, seq=seq)


class TestTerms:
    def of(self, max_bytes, **keys):
        source = settings.AssuredSource(
            type="assured", name="line", endpoint="ipc:///tmp/frames", **keys
        )
        return Terms.of(source, max_bytes)

    def test_by_default_eight_messages_and_64_mib(self):
        assert self.of(16 * MIB) == Terms(8, 64 * MIB, 4 * MIB, 16 * MIB)

    @pytest.mark.parametrize(
        ("max_bytes", "msgs", "mib", "max_part", "max_payload"),
        [
            (1000, 8, 64, 1000, 1000),
            (16 * MIB, 1, 64, 4 * MIB, 4 * MIB),
            (16 * MIB, 3, 64, 4 * MIB, 12 * MIB),
            (16 * MIB, 8, 1, MIB, MIB),
            (100 * MIB, 64, 64, 4 * MIB, 64 * MIB),
        ],
    )
    def test_a_frame_of_max_payload_fits_into_the_window(
        self, max_bytes, msgs, mib, max_part, max_payload
    ):
        terms = self.of(max_bytes, credit_msgs=msgs, credit_mib=mib)
        assert (terms.max_part, terms.max_payload) == (max_part, max_payload)
        link = link_of(terms.msgs, terms.bytes)
        for at in range(0, max_payload, max_part):
            link.charge(1, min(max_part, max_payload - at))


class TestCredit:
    def test_it_ends_by_messages(self):
        link = link_of(msgs=3)
        for seq in (1, 2, 3):
            link.charge(seq, 1)
        with pytest.raises(Refusal, match=r"4 messages and 4 bytes .* 3 and 1000 were") as refused:
            link.charge(4, 1)
        assert refused.value.why is Why.OVER_CREDIT
        assert link.used == (3, 3)

    def test_it_ends_by_bytes_and_not_one_early(self):
        link = link_of(size=1000)
        link.charge(1, 600)
        with pytest.raises(Refusal, match="1001 bytes"):
            link.charge(2, 401)
        link.charge(2, 400)

    def test_what_came_back_may_be_used_again(self):
        link = link_of(msgs=1, size=10)
        for seq in range(1, 1000):
            link.charge(seq, 10)
            link.give_back(1, 10)
        assert link.credit(always=False) == Credit(1000, 10_000)

    def test_totals_run_since_welcome_and_repeat_only_when_asked(self):
        link = link_of(msgs=4)
        for seq in (1, 2, 3):
            link.charge(seq, 5)
        link.give_back(1, 5)
        assert link.credit(always=False) == Credit(5, 1005)
        assert link.credit(always=False) is None
        assert link.credit(always=True) == Credit(5, 1005)
        link.give_back(2, 10)
        assert link.credit(always=True) == Credit(7, 1015)

    def test_nothing_is_told_while_the_source_has_more_than_half(self):
        link = link_of(msgs=8)
        for seq in (1, 2, 3):
            link.charge(seq, 1)
            link.give_back(1, 1)
            assert link.credit(always=False) is None
        link.charge(4, 1)
        link.give_back(1, 1)
        assert link.credit(always=False) == Credit(12, 1004)

    def test_a_large_frame_behind_a_small_one_never_waits_for_the_next_ping(self):
        """The first leaves less than half of the bytes owed, and the second needs them."""
        link = link_of(msgs=100, size=1000)
        link.charge(1, 450)
        link.give_back(1, 450)
        assert link.credit(always=False) is None
        link.charge(2, 100)
        assert link.credit(always=False) == Credit(101, 1450)

    def test_a_source_that_keeps_to_its_credit_is_never_refused(self):
        rng = random.Random(3)
        link = link_of(msgs=5, size=500)
        granted, used, ingest = [5, 500], [0, 0], []
        for seq in range(1, 3000):
            size = rng.randint(0, 250)
            if used[0] + 1 <= granted[0] and used[1] + size <= granted[1]:
                link.charge(seq, size)
                used = [used[0] + 1, used[1] + size]
                ingest.append(size)
            else:
                assert ingest, "a source without credit and nothing that could return it"
                link.give_back(1, ingest.pop(0))
            credit = link.credit(always=rng.random() < 0.01)
            if credit:
                granted = [credit.msgs, credit.bytes]
        assert used[0] > 1000


class TestNumbers:
    def test_they_count_from_one(self):
        link_of().check_number(frame(1))
        with pytest.raises(Refusal, match="frame number 0"):
            link_of().check_number(frame(0))

    def test_a_foreign_epoch_is_refused(self):
        with pytest.raises(Refusal, match="not that of HELLO") as refused:
            link_of().check_number(frame(1, epoch=bytes(16)))
        assert refused.value.why is Why.BAD_HEADER

    def test_a_jump_is_limited_from_the_highest_that_was_taken(self):
        link = link_of()
        link.check_number(frame(10**12))
        link.charge(100, 0)
        link.check_number(frame(100 + MAX_JUMP))
        with pytest.raises(Refusal, match="count by 1"):
            link.check_number(frame(101 + MAX_JUMP))
        link.check_number(frame(1))

    def test_what_is_refused_moves_no_number(self):
        link = link_of(msgs=1)
        link.charge(1, 0)
        for seq in (1001, 2001):
            with pytest.raises(Refusal):
                link.charge(seq, 0)
        assert link.progress.highest == 1

    def test_tombstones_move_it_too(self):
        link = link_of()
        link.bury(7)
        assert link.progress.highest == 7

    def test_no_number_is_larger_than_a_record_holds(self):
        link_of().check_number(frame(2**63 - 1))
        with pytest.raises(Refusal):
            link_of().check_number(frame(2**63))


class TestTombstones:
    def test_64_may_be_open(self):
        link = link_of(msgs=0)
        for seq in range(1, MAX_TOMBSTONES + 1):
            link.bury(seq)
        link.bury(1)
        with pytest.raises(Refusal, match="64 tombstones") as refused:
            link.bury(65)
        assert refused.value.why is Why.OVER_CREDIT
        link.settled(3)
        link.bury(65)
        assert MAX_TOMBSTONES == 64


class TestRoundTrips:
    def test_none_is_known_before_the_first_answer(self):
        assert link_of().round_trip_ns == 0

    def test_the_smallest_counts(self):
        link = link_of()
        for sent, took in ((0, 50), (1000, 20), (2000, 30)):
            link.pong(link.ping(sent + 1), sent + 1 + took)
        assert link.round_trip_ns == 20

    def test_only_the_last_sixteen_count(self):
        link = link_of()
        for took in [5, *[40] * 15]:
            link.pong(link.ping(1), 1 + took)
        assert link.round_trip_ns == 5
        link.pong(link.ping(1), 41)
        assert link.round_trip_ns == 40

    def test_an_answer_nobody_asked_for_or_that_came_twice_says_nothing(self):
        link = link_of()
        number = link.ping(20)
        link.pong(number + 1, 21)
        assert link.round_trip_ns == 0
        link.pong(number, 50)
        link.pong(number, 21)
        assert link.round_trip_ns == 30

    def test_four_pings_may_be_on_their_way(self):
        link = link_of()
        for _ in range(5):
            link.ping(10)
        link.pong(1, 11)
        assert link.round_trip_ns == 0
        link.pong(2, 40)
        assert link.round_trip_ns == 30


class TestProgress:
    def test_settled_upto_has_no_hole_below_it(self):
        progress = Progress()
        reached = []
        for seq in (2, 3, 1, 1, 5, 4):
            progress.settled(seq)
            reached.append(progress.upto)
        assert reached == [0, 0, 3, 3, 3, 5]

    def test_any_order_ends_at_the_last(self):
        progress = Progress()
        numbers = list(range(1, 501))
        random.Random(5).shuffle(numbers)
        for seq in numbers:
            progress.settled(seq)
        assert progress.upto == 500

    def test_behind_an_old_hole_it_promises_nothing_and_keeps_little(self):
        progress = Progress()
        for seq in range(2, 10_000):
            progress.settled(seq)
        assert progress.upto == 0
        assert len(progress._beyond) <= MAX_JUMP


class TestBook:
    def test_a_start_is_known_again_by_name_and_epoch(self):
        book = Book()
        book.of("line", EPOCH).settled(1)
        assert book.of("line", EPOCH).upto == 1
        assert book.of("line", bytes(16)).upto == 0
        assert book.of("other", EPOCH).upto == 0

    def test_the_longest_unused_starts_are_forgotten(self):
        book = Book()
        for number in range(MAX_EPOCHS):
            book.of("line", bytes([number] * 16)).settled(1)
        book.of("line", bytes(16))
        book.of("line", b"new" + bytes(13))
        assert book.of("line", bytes(16)).upto == 1
        assert book.of("line", bytes([1] * 16)).upto == 0
