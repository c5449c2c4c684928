"""The docket's rules for ASSURED sources: gaps, tombstones, re-offers, runs."""

import random
from collections import Counter

import msgspec
import pytest

from edge_inspector.docket import (
    Capacity,
    Commit,
    Dispatch,
    Docket,
    Expected,
    Inspected,
    Journal,
    Journaled,
    Note,
    Offered,
    Release,
    Reply,
    RunBegan,
    Settled,
    Tick,
)
from edge_inspector.records import (
    Committed,
    FrameHead,
    FrameKey,
    Inspection,
    Outcome,
    Reason,
    Verdict,
)

MS = 1_000_000
BUDGET_MS = 50
GOOD = Inspection(outcome=Outcome.PASS, anomaly_score=0.1)
BAD = Inspection(outcome=Outcome.FAIL, anomaly_score=9.0)


class Line:
    """A docket whose journal and log answer at once, fed by ASSURED sources."""

    def __init__(self, docket_type=Docket, cameras=("main",), free=1000):
        self.docket = docket_type("s", cameras, BUDGET_MS * 1000, 4, "bga", 3)
        self.now = 0
        self.verdicts = {}
        self.committed = {}
        self.slots = 0
        self.act(Capacity(free))

    def act(self, event):
        pending, seen = [event], []
        while pending:
            for action in self.docket.step(pending.pop(0), self.now):
                seen.append(action)
                if isinstance(action, Journal):
                    pending.append(Journaled(action.head.key))
                if isinstance(action, Commit):
                    pending.append(Settled(self.settle(action.verdict)))
        return seen

    def settle(self, verdict):
        assert verdict.unit_key not in self.verdicts, "a second verdict of one unit"
        self.verdicts[verdict.unit_key] = verdict
        body = msgspec.msgpack.encode(verdict)
        return Committed(vseq=len(self.verdicts), verdict=verdict, body=body, chain=0)

    def offer(self, seq, at_ms=None, **fields):
        """A frame whose ticket is its number, and its digest 1000 more, unless told otherwise."""
        self.now = self.now if at_ms is None else int(at_ms * MS)
        self.slots += 1
        defaults = {
            "key": FrameKey(fields.pop("source", "line"), fields.pop("epoch", "e"), seq),
            "station": "s",
            "camera": "main",
            "recipe": "bga",
            "arrived_ns": self.now,
            "time_zero_ns": self.now,
            "slot": self.slots,
            "digest": 1000 + seq,
            "ticket": seq,
            "numbered": True,
            "assured": True,
        }
        head = FrameHead(**{**defaults, **fields})
        return head, self.act(Offered(head))

    def tombstone(self, seq, at_ms=None, reason=Reason.SHED, **fields):
        return self.offer(seq, at_ms, fault=reason, tombstone=True, digest=0, slot=-1, **fields)

    def judged(self, seq, at_ms=None, inspection=GOOD, **fields):
        head, actions = self.offer(seq, at_ms, **fields)
        return head, actions + self.answer(head, inspection)

    def answer(self, head, inspection=GOOD):
        return self.act(Inspected(head.key, inspection))

    def tick(self, at_ms):
        self.now = int(at_ms * MS)
        return self.act(Tick())

    def outcome(self, unit_key):
        verdict = self.verdicts[unit_key]
        return verdict.reason or verdict.outcome


def of(kind, actions):
    return [action for action in actions if isinstance(action, kind)]


def final(actions, ticket):
    [reply] = [one for one in of(Reply, actions) if one.ticket == ticket and one.final]
    return reply


def frame(seq, epoch="e"):
    return f"f:line/{epoch}/{seq}"


def part(trigger_id, run=0):
    return f"t:s/{run}/{trigger_id}"


def no_images(line):
    return sorted(key for key, v in line.verdicts.items() if v.reason is Reason.NO_IMAGE)


@pytest.fixture(params=["frame numbers", "trigger ids"])
def counted(request):
    """The two ways in which a gap shows: how the n-th frame is offered, and its unit's key."""
    by_trigger = request.param == "trigger ids"

    def offer(line, n, at_ms, how="judged", **fields):
        names = {"trigger_id": n, "ticket": n} if by_trigger else {}
        return getattr(line, how)(n + by_trigger, at_ms, **names, **fields)

    return offer, part if by_trigger else frame


class TestGaps:
    def test_each_missing_one_has_no_image_at_the_deadline_once(self, counted):
        offer, key = counted
        line = Line()
        offer(line, 1, 1)
        offer(line, 4, 4)
        line.tick(4 + BUDGET_MS - 0.001)
        assert no_images(line) == []
        line.tick(4 + BUDGET_MS)
        assert no_images(line) == [key(2), key(3)]
        line.tick(1000)
        assert len(line.verdicts) == 4
        assert line.docket.open_units == 0

    def test_one_that_is_filled_in_time_has_its_own_verdict(self, counted):
        offer, key = counted
        line = Line()
        offer(line, 1, 1)
        offer(line, 4, 4)
        offer(line, 3, 20, inspection=BAD)
        line.tick(1000)
        assert line.outcome(key(3)) is Outcome.FAIL
        assert no_images(line) == [key(2)]

    def test_one_that_is_filled_has_the_deadline_of_its_frame(self, counted):
        offer, key = counted
        line = Line(free=0)
        offer(line, 1, 1)
        offer(line, 3, 3)
        head, _ = offer(line, 2, 30, time_zero_ns=10 * MS)
        assert head.key in line.docket._desk.frames
        line.tick(59.9)
        assert key(2) not in line.verdicts
        line.tick(60)
        assert line.outcome(key(2)) is Reason.TIMEOUT

    def test_a_late_frame_gets_the_answer_of_its_gap(self, counted):
        offer, key = counted
        line = Line()
        offer(line, 1, 1)
        offer(line, 3, 3)
        line.tick(60)
        _, actions = offer(line, 2, 61)
        reply = final(actions, 2)
        assert reply.committed.verdict == line.verdicts[key(2)]
        assert of(Dispatch, actions) == []
        assert len(of(Release, actions)) == 1
        assert len(line.verdicts) == 3

    @pytest.mark.parametrize(("missing", "expected"), [(100, 100), (101, 0), (5000, 0)])
    def test_a_jump_over_more_than_a_hundred_invents_nothing(self, counted, missing, expected):
        offer, _ = counted
        line = Line()
        offer(line, 1, 1)
        offer(line, 2 + missing, 2)
        line.tick(1000)
        assert len(no_images(line)) == expected

    def test_what_follows_a_jump_is_counted_from_there(self, counted):
        offer, key = counted
        line = Line()
        for number in (1, 900, 902):
            offer(line, number, 2)
        line.tick(1000)
        assert no_images(line) == [key(901)]

    @pytest.mark.parametrize("how", ["offer", "tombstone"])
    def test_a_frame_that_comes_late_hides_no_loss(self, counted, how):
        """However late: it is more than a gap behind the others."""
        offer, key = counted
        line = Line()
        for number in [1, *range(3, 200)]:
            offer(line, number, 1)
        offer(line, 2, 60, how)
        offer(line, 201, 61)
        line.tick(1000)
        assert no_images(line) == [key(2), key(200)]

    def test_trigger_ids_that_were_set_anew_without_a_new_run_count_from_there(self):
        line = Line()
        for seq, trigger_id in enumerate((10**6, 5, 7), start=1):
            line.judged(seq, 1, trigger_id=trigger_id)
        line.tick(1000)
        assert no_images(line) == [part(6)]

    def test_a_frame_offered_again_opens_none(self, counted):
        offer, _ = counted
        line = Line()
        for number in (1, 2, 3, 4, 1, 2, 4, 3, 5):
            offer(line, number, 2)
        line.tick(1000)
        assert no_images(line) == []
        assert len(line.verdicts) == 5

    def test_an_epoch_begins_anywhere(self):
        line = Line()
        line.judged(70, 1)
        line.judged(1, 2, epoch="other")
        line.tick(1000)
        assert no_images(line) == []

    def test_trigger_ids_go_on_where_the_source_starts_again(self):
        """It cannot name the frames that it lost; the parts' numbers can."""
        line = Line()
        line.judged(10, 1, trigger_id=500)
        line.judged(1, 2, epoch="other", trigger_id=503)
        line.tick(1000)
        assert no_images(line) == [part(501), part(502)]

    def test_where_frames_have_trigger_ids_their_own_numbers_open_no_gap(self):
        line = Line()
        line.judged(1, 1, trigger_id=500)
        line.judged(4, 2, trigger_id=501)
        line.tick(1000)
        assert no_images(line) == []

    def test_a_part_that_the_other_camera_saw_is_not_missing(self):
        line = Line(cameras=("top", "side"))
        for trigger_id in (1, 3):
            line.judged(trigger_id, 1, trigger_id=trigger_id, camera="top", source="a")
        for trigger_id in (1, 2, 3):
            line.judged(trigger_id, 2, trigger_id=trigger_id, camera="side", source="b")
        line.judged(2, 3, trigger_id=2, camera="top", source="a")
        line.tick(1000)
        assert {line.outcome(part(n)) for n in (1, 2, 3)} == {Outcome.PASS}

    def test_a_unit_named_by_its_frame_number_is_found_in_its_gap(self):
        """Frame 2 was missed under its number only; it comes with the unit's name."""
        line = Line()
        line.judged(1, 1)
        line.judged(3, 2)
        line.judged(2, 3, unit_id="B")
        line.tick(1000)
        assert line.outcome("u:s/B") is Outcome.PASS
        assert no_images(line) == []

    def test_once_the_gap_is_answered_for_a_name_opens_no_second_unit(self):
        line = Line()
        line.judged(1, 1)
        line.judged(3, 2)
        line.tick(60)
        _, actions = line.judged(2, 61, unit_id="B")
        assert final(actions, 2).committed.verdict == line.verdicts[frame(2)]
        assert "u:s/B" not in line.verdicts

    def test_without_gap_detection_no_lost_frame_is_missed(self):
        """Control: with the protection off, the first test of gaps would fail."""

        class GapsOff(Docket):
            def __init__(self, *given):
                super().__init__(*given)
                self._numbers._await = lambda missing, after: None  # type: ignore[method-assign]

        def missed(docket_type):
            line = Line(docket_type)
            line.judged(1, 1)
            line.judged(4, 4)
            line.tick(1000)
            return no_images(line)

        assert missed(Docket) == [frame(2), frame(3)]
        assert missed(GapsOff) == []


class TestTombstones:
    @pytest.mark.parametrize(
        "reason", [Reason.SHED, Reason.CAMERA_FAULT, Reason.NO_IMAGE, Reason.TIMEOUT]
    )
    def test_it_is_the_frames_verdict(self, reason):
        line = Line()
        _, actions = line.tombstone(1, 1, reason)
        assert line.outcome(frame(1)) is reason
        assert final(actions, 1).committed.verdict == line.verdicts[frame(1)]

    def test_it_fills_a_gap(self, counted):
        offer, key = counted
        line = Line()
        offer(line, 1, 1)
        offer(line, 3, 1)
        offer(line, 2, 2, "tombstone", reason=Reason.CAMERA_FAULT)
        line.tick(1000)
        assert line.outcome(key(2)) is Reason.CAMERA_FAULT

    @pytest.mark.parametrize("settled", [False, True])
    def test_after_its_frame_it_changes_nothing(self, settled):
        line = Line()
        head, _ = line.offer(1, 1)
        if settled:
            line.answer(head, BAD)
        _, actions = line.tombstone(1, 2, Reason.TIMEOUT, ticket=50)
        assert [note.kind for note in of(Note, actions)] == ["duplicate"]
        if not settled:
            actions = line.answer(head, BAD)
        assert final(actions, 50).committed.verdict == line.verdicts[frame(1)]
        assert line.outcome(frame(1)) is Outcome.FAIL
        assert len(line.verdicts) == 1

    def test_a_frame_after_it_gets_what_is_stored(self):
        line = Line()
        line.tombstone(1, 1, Reason.SHED)
        _, actions = line.offer(1, 2, ticket=50)
        assert final(actions, 50).committed.verdict == line.verdicts[frame(1)]
        assert of(Dispatch, actions) == []
        assert line.outcome(frame(1)) is Reason.SHED


class TestOfferedAgain:
    def test_before_the_verdict_both_wait_for_it(self):
        line = Line()
        head, _ = line.offer(1, 1)
        _, actions = line.offer(1, 2, ticket=50)
        assert len(of(Release, actions)) == 1
        actions = line.answer(head)
        for ticket in (1, 50):
            assert final(actions, ticket).committed.verdict == line.verdicts[frame(1)]

    def test_after_the_verdict_it_is_told_again(self):
        line = Line()
        line.judged(1, 1, inspection=BAD)
        _, actions = line.offer(1, 2, ticket=50)
        assert final(actions, 50).committed.vseq == 1
        assert len(line.verdicts) == 1

    def test_under_another_epoch_it_is_the_same_unit_where_it_has_a_name(self):
        line = Line()
        line.judged(9, 1, trigger_id=70)
        _, actions = line.offer(1, 2, epoch="other", trigger_id=70, digest=1009, ticket=50)
        assert final(actions, 50).committed.verdict == line.verdicts[part(70)]

    def test_other_pixels_while_open_make_the_unit_a_conflict_and_both_hear_it(self):
        line = Line()
        head, _ = line.offer(1, 1)
        _, actions = line.offer(1, 2, digest=7, ticket=50)
        assert line.outcome(frame(1)) is Reason.CONFLICT
        for ticket in (1, 50):
            assert final(actions, ticket).committed.verdict == line.verdicts[frame(1)]
        assert [note.kind for note in of(Note, actions)] == ["conflict"]
        line.answer(head, GOOD)
        assert len(line.verdicts) == 1

    def test_other_pixels_of_a_settled_unit_are_refused_and_the_verdict_stands(self):
        line = Line()
        line.judged(1, 1)
        _, actions = line.offer(1, 2, digest=7, ticket=50)
        reply = final(actions, 50)
        assert (reply.kind, reply.committed) == ("no", None)
        assert "conflict" in reply.detail
        assert line.outcome(frame(1)) is Outcome.PASS

    def test_a_conflict_that_only_the_log_knows_is_refused(self):
        line = Line()
        head, _ = line.offer(1, 1, ticket=50)
        docket = Docket("s", ("main",), BUDGET_MS * 1000, 4, "bga", 3)
        docket.step(Capacity(1), 0)
        docket.step(Offered(head), 1)
        stored = Verdict(
            unit_key=frame(1), station="s", outcome=Outcome.PASS, frames=(), recipe="bga"
        )
        row = Committed(vseq=3, verdict=stored, body=b"", chain=0, fresh=False)
        reply = final(docket.step(Journaled(head.key, row, conflict=True), 2), 50)
        assert (reply.kind, reply.committed) == ("no", None)


class TestManyFrames:
    """
    A line that loses, doubles, delays, reorders and gives up frames, from a fixed seed.

    Frame n is taken n ms after the start; nothing comes later than 200 ms, no frame moves by more
    than that, and the last ones all come, so that every loss shows.
    """

    COUNT = 5000

    def deliveries(self, rng):
        """(ms, n, what) in order of time; the faults by name."""
        plan, fate = [], {}
        for n in range(1, self.COUNT + 1):
            roll = rng.random() if 1 < n < self.COUNT - 100 else 1.0
            fate[n] = "lost" if roll < 0.05 else "given up" if roll < 0.1 else "sent"
            if fate[n] == "lost":
                continue
            late = rng.uniform(60, 200) if 0.1 <= roll < 0.15 else rng.uniform(0, 8)
            how = "tombstone" if fate[n] == "given up" else "offer"
            plan.append((n + late, n, how))
            if rng.random() < 0.1:
                plan.append((n + late + rng.uniform(0, 30), n, "offer"))
                fate[n] += " twice"
        return sorted(plan), fate

    @pytest.mark.parametrize("by_trigger", [False, True])
    def test_each_has_one_verdict_and_each_offer_its_answer(self, by_trigger):
        rng, line, answered = random.Random(17), Line(free=10**9), Counter[int]()
        plan, fate = self.deliveries(rng)
        key = part if by_trigger else frame
        told: dict[int, set[str]] = {}
        seen = []
        for ticket, (at_ms, n, how) in enumerate(plan, start=1):
            names = {"trigger_id": n} if by_trigger else {}
            zero = {"time_zero_ns": int(n * MS), "ticket": ticket}
            while (due := line.docket.next_due()) is not None and due <= at_ms * MS:
                seen += line.tick(due / MS)
            head, actions = getattr(line, how)(n, at_ms, **names, **zero)
            told[ticket] = {key(n)}
            seen += actions
            seen += line.answer(head, rng.choice((GOOD, BAD)))
        line.tick(10**6)
        for reply in of(Reply, seen):
            if reply.final:
                answered[reply.ticket] += 1
                assert {reply.committed.verdict.unit_key} == told[reply.ticket]
        faults = Counter(fate.values())
        outcomes = Counter(v.reason or v.outcome for v in line.verdicts.values())
        print(f"seed 17: {dict(faults)} -> {dict(outcomes)}")
        assert sorted(line.verdicts) == sorted(key(n) for n in fate)
        assert set(answered) == set(told)
        assert set(answered.values()) == {1}
        assert min(faults.values()) > 10
        lost = {key(n) for n, what in fate.items() if what == "lost"}
        assert lost <= set(no_images(line))
        assert line.docket.open_units == 0


class TestRuns:
    def test_trigger_ids_count_anew(self):
        line = Line()
        line.judged(1, 1, trigger_id=900)
        line.act(RunBegan(1))
        line.judged(2, 2, trigger_id=1)
        line.judged(3, 3, trigger_id=900)
        line.tick(1000)
        assert sorted(line.verdicts) == [part(900), part(1, run=1), part(900, run=1)]
        assert line.verdicts[part(900, run=1)].run == 1

    def test_a_frame_that_was_captured_before_belongs_to_the_run_before(self):
        line = Line()
        line.judged(1, 1, trigger_id=900)
        line.now = 10 * MS
        line.act(RunBegan(1))
        line.judged(2, 12, trigger_id=901, time_zero_ns=10 * MS - 1)
        line.judged(3, 12, trigger_id=1, time_zero_ns=10 * MS)
        assert {part(900), part(901), part(1, run=1)} == set(line.verdicts)

    def test_a_frame_offered_again_stays_in_its_run(self):
        line = Line()
        line.judged(1, 1, trigger_id=5, inspection=BAD)
        line.now = 10 * MS
        line.act(RunBegan(1))
        _, actions = line.offer(1, 12, trigger_id=5, ticket=50, time_zero_ns=1 * MS)
        assert final(actions, 50).committed.verdict == line.verdicts[part(5)]
        assert len(line.verdicts) == 1

    def test_gaps_do_not_reach_over_a_new_run(self):
        line = Line()
        line.judged(1, 1, trigger_id=5)
        line.act(RunBegan(1))
        line.judged(2, 2, trigger_id=8)
        line.tick(1000)
        assert no_images(line) == []


class TestExpected:
    def expect(self, line, trigger_id, at_ms=0.0):
        line.now = int(at_ms * MS)
        return line.act(Expected(trigger_id))

    def test_an_announced_unit_that_nobody_sees_has_no_image(self):
        line = Line(cameras=("top", "side"))
        self.expect(line, 7, 10)
        line.tick(59.9)
        assert line.verdicts == {}
        line.tick(60)
        verdict = line.verdicts[part(7)]
        assert (verdict.reason, verdict.trigger_id) == (Reason.NO_IMAGE, 7)
        assert "'top'" in verdict.detail
        assert "'side'" in verdict.detail
        assert (verdict.source, verdict.advisory) == ("", False)
        assert verdict.deadline_ns - verdict.time_zero_ns == BUDGET_MS * MS

    def test_one_that_is_seen_has_its_own_verdict_and_deadline(self):
        line = Line()
        self.expect(line, 7)
        head, _ = line.offer(1, 45, trigger_id=7, time_zero_ns=40 * MS)
        line.tick(89)
        line.answer(head)
        line.tick(1000)
        assert line.outcome(part(7)) is Outcome.PASS
        assert line.verdicts[part(7)].deadline_ns == 90 * MS
        assert len(line.verdicts) == 1

    def test_one_that_was_seen_before_is_announced_for_nothing(self):
        line = Line()
        line.judged(1, 1, trigger_id=7)
        head, _ = line.offer(2, 2, trigger_id=8)
        self.expect(line, 7, 3)
        self.expect(line, 8, 3)
        line.answer(head)
        line.tick(1000)
        assert {line.outcome(part(n)) for n in (7, 8)} == {Outcome.PASS}
        assert len(line.verdicts) == 2

    def test_one_that_comes_too_late_gets_the_stored_answer(self):
        line = Line()
        self.expect(line, 7)
        line.tick(60)
        _, actions = line.offer(1, 61, trigger_id=7)
        assert final(actions, 1).committed.verdict.reason is Reason.NO_IMAGE
        assert of(Dispatch, actions) == []

    def test_announced_twice_it_is_one_unit_with_the_first_deadline(self):
        line = Line()
        self.expect(line, 7, 0)
        self.expect(line, 7, 30)
        line.tick(50)
        assert no_images(line) == [part(7)]
        line.tick(1000)
        assert len(line.verdicts) == 1

    def test_it_counts_in_the_run_of_its_announcement(self):
        line = Line()
        self.expect(line, 7)
        line.now = 10 * MS
        line.act(RunBegan(1))
        self.expect(line, 7, 20)
        line.tick(1000)
        assert no_images(line) == [part(7), part(7, run=1)]

    def test_in_a_gap_it_is_missed_once_and_at_its_own_deadline(self):
        line = Line()
        line.judged(1, 1, trigger_id=6)
        self.expect(line, 7, 2)
        line.judged(2, 30, trigger_id=8)
        line.tick(52)
        assert no_images(line) == [part(7)]
        line.tick(1000)
        assert len(line.verdicts) == 3

    def test_a_controller_that_counts_wildly_opens_no_more_than_the_limit(self):
        line = Line()
        refused = [
            note
            for trigger_id in range(1, 1124)
            for note in of(Note, self.expect(line, trigger_id))
            if note.kind == "refused"
        ]
        assert line.docket.open_units == 1024
        assert len(refused) == 99
        line.tick(1000)
        assert len(no_images(line)) == 1024


class TestResume:
    def resumed(self, run, *rows):
        line = Line()
        line.docket.resume([(0, run)], [(row, {}) for row in rows])
        return line

    def verdict(self, trigger_id, run):
        return Verdict(
            unit_key=part(trigger_id, run),
            station="s",
            outcome=Outcome.PASS,
            frames=(),
            recipe="bga",
            run=run,
            trigger_id=trigger_id,
        )

    def test_it_goes_on_in_the_run_and_misses_what_a_restart_lost(self):
        line = self.resumed(3, self.verdict(40, 3))
        line.judged(1, 1, trigger_id=43)
        line.tick(1000)
        assert no_images(line) == [part(41, run=3), part(42, run=3)]

    def test_a_gap_that_the_log_passed_over_is_answered_for_when_the_source_is_back(self):
        line = self.resumed(3, *(self.verdict(number, 3) for number in (37, 40, 38, 41)))
        line.judged(1, 1, trigger_id=42)
        line.tick(1000)
        assert no_images(line) == [part(39, run=3)]

    def test_what_is_offered_again_after_a_restart_is_no_gap(self):
        line = self.resumed(3, *(self.verdict(number, 3) for number in (37, 40)))
        line.judged(1, 1, trigger_id=38)
        line.judged(2, 2, trigger_id=39)
        line.tick(1000)
        assert no_images(line) == []

    def test_a_counter_that_the_log_saw_fall_leaves_no_gap(self):
        line = self.resumed(3, *(self.verdict(number, 3) for number in (400, 401, 1, 2)))
        line.judged(1, 1, trigger_id=4)
        line.tick(1000)
        assert no_images(line) == [part(3, run=3)]

    @pytest.mark.parametrize("last", ["none", "of another run", "without a trigger id"])
    def test_otherwise_the_first_part_is_the_first(self, last):
        known = {
            "none": [],
            "of another run": [self.verdict(40, 2)],
            "without a trigger id": [msgspec.structs.replace(self.verdict(40, 3), trigger_id=None)],
        }
        line = self.resumed(3, *known[last])
        line.judged(1, 1, trigger_id=43)
        line.tick(1000)
        assert list(line.verdicts) == [part(43, run=3)]
