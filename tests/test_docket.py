"""The docket's rules, one by one."""

from collections import Counter

import msgspec
import pytest

from edge_inspector.docket import (
    Capacity,
    Commit,
    Dispatch,
    Docket,
    Inspected,
    Journal,
    Journaled,
    Note,
    Offered,
    Publish,
    Release,
    Reply,
    SequenceReset,
    Settled,
    Tick,
    WorkerLost,
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
GOOD = Inspection(outcome=Outcome.PASS, anomaly_score=0.1, stages_us={"infer": 700})
BAD = Inspection(outcome=Outcome.FAIL, anomaly_score=9.0, defect_class="missing")


class Line:
    """A docket whose journal and log answer at once, unless told otherwise."""

    def __init__(self, cameras=("main",), max_queue=4, free=1, remembered=1000):
        self.docket = Docket("s", cameras, BUDGET_MS * 1000, max_queue, "bga", 3, remembered)
        self.now = 0
        self.log = []
        self.verdicts = {}
        self.arrivals = 0
        self.act(Capacity(free))

    def act(self, event, store=True):
        pending = [event]
        seen = []
        while pending:
            for action in self.docket.step(pending.pop(0), self.now):
                seen.append(action)
                if store and isinstance(action, Journal):
                    pending.append(Journaled(action.head.key))
                if store and isinstance(action, Commit):
                    pending.append(Settled(self.settle(action.verdict)))
        self.log += seen
        return seen

    def settle(self, verdict):
        assert verdict.unit_key not in self.verdicts
        self.verdicts[verdict.unit_key] = verdict
        body = msgspec.msgpack.encode(verdict)
        return Committed(vseq=len(self.verdicts), verdict=verdict, body=body, chain=0)

    def offer(self, at_ms=None, store=True, **fields):
        self.now = self.now if at_ms is None else int(at_ms * MS)
        self.arrivals += 1
        defaults = {
            "key": FrameKey("src", "e", self.arrivals),
            "station": "s",
            "camera": "main",
            "recipe": "bga",
            "arrived_ns": self.now,
            "time_zero_ns": self.now,
            "slot": self.arrivals,
            "digest": self.arrivals,
        }
        head = FrameHead(**{**defaults, **fields})
        return head, self.act(Offered(head), store)

    def answer(self, head, inspection=GOOD, at_ms=None, store=True):
        self.now = self.now if at_ms is None else int(at_ms * MS)
        return self.act(Inspected(head.key, inspection), store)

    def tick(self, at_ms):
        self.now = int(at_ms * MS)
        return self.act(Tick())

    def numbered(self, seq, at_ms=None, epoch="e", **fields):
        key = FrameKey("src", epoch, seq)
        return self.offer(at_ms, key=key, numbered=True, digest=1000 + seq, **fields)


def of(kind, actions):
    return [action for action in actions if isinstance(action, kind)]


def only(kind, actions):
    found = of(kind, actions)
    assert len(found) == 1, actions
    return found[0]


def test_a_frame_is_journaled_and_dispatched_at_once():
    head, actions = Line().offer(at_ms=7, store=False)
    assert actions == [Journal(head, 57 * MS), Dispatch(head, 57 * MS)]


def test_an_answer_releases_the_slot_commits_and_then_publishes():
    line = Line()
    head, _ = line.offer(at_ms=1, time_zero_ns=0, unit_id="A7")
    actions = line.answer(head, at_ms=5)
    assert [type(action) for action in actions] == [Release, Commit, Publish]
    verdict = line.verdicts["u:s/A7"]
    assert (verdict.outcome, verdict.recipe_version, verdict.unit_id) == (Outcome.PASS, 3, "A7")
    assert verdict.frames == (head.key,)
    assert verdict.stages_us == {"infer": 700, "arrival": 1000, "queue": 0}
    assert (verdict.deadline_ns, verdict.decided_ns) == (50 * MS, 5 * MS)


def test_nothing_is_published_before_it_is_settled():
    line = Line()
    head, _ = line.offer(store=False)
    assert of(Publish, line.answer(head, store=False)) == []


@pytest.mark.parametrize(("budget_us", "due_ms"), [(None, 50), (20_000, 20), (90_000, 50)])
def test_the_smaller_budget_counts(budget_us, due_ms):
    line = Line()
    line.offer(at_ms=0, budget_us=budget_us)
    assert line.docket.next_due() == due_ms * MS


def test_the_deadline_is_a_timeout_and_not_a_nanosecond_early():
    line = Line()
    head, _ = line.offer(at_ms=0)
    line.now = 50 * MS - 1
    assert line.act(Tick()) == []
    verdict = only(Commit, line.tick(50)).verdict
    assert (verdict.outcome, verdict.reason) == (Outcome.UNINSPECTED, Reason.TIMEOUT)
    assert "was with a worker" in verdict.detail
    assert of(Release, line.log) == []
    late = line.answer(head, BAD, at_ms=60)
    assert [type(action) for action in late] == [Release, Note]
    assert len(line.verdicts) == 1


def test_an_answer_at_the_deadline_is_late_even_before_the_tick():
    line = Line()
    head, _ = line.offer(at_ms=0)
    line.answer(head, at_ms=50)
    assert line.verdicts[head.unit_key].reason is Reason.TIMEOUT


def test_a_frame_that_comes_after_its_deadline_is_recorded_and_not_inspected():
    line = Line()
    _, actions = line.offer(at_ms=100, time_zero_ns=0)
    assert [type(a) for a in actions] == [Journal, Commit, Release, Publish]
    assert only(Commit, actions).verdict.reason is Reason.TIMEOUT


def test_a_waiting_frame_gives_its_slot_back_at_the_deadline():
    line = Line(free=0)
    head, _ = line.offer(at_ms=0)
    actions = line.tick(50)
    assert only(Release, actions).slot == head.slot
    assert line.docket.queued == 0
    assert of(Dispatch, line.act(Capacity(4))) == []


def test_the_queue_is_first_in_first_out_and_the_newest_is_shed():
    line = Line(max_queue=2, free=0)
    first, _ = line.offer(at_ms=0)
    second, _ = line.offer(at_ms=1)
    third, actions = line.offer(at_ms=2)
    assert [type(a) for a in actions] == [Journal, Release, Commit, Publish]
    assert line.verdicts[third.unit_key].reason is Reason.SHED
    dispatched = of(Dispatch, line.act(Capacity(2)))
    assert [action.head for action in dispatched] == [first, second]


def test_capacity_is_what_workers_take_now():
    line = Line(free=1)
    line.offer()
    assert of(Dispatch, line.offer()[1]) == []
    assert len(of(Dispatch, line.act(Capacity(1)))) == 1


@pytest.mark.parametrize("reason", [Reason.BAD_INPUT, Reason.CAMERA_FAULT])
def test_a_frame_with_a_fault_is_recorded_with_it(reason):
    line = Line()
    head, actions = line.offer(fault=reason, detail="why", slot=-1)
    assert [type(a) for a in actions] == [Journal, Commit, Publish]
    verdict = line.verdicts[head.unit_key]
    assert (verdict.reason, verdict.detail) == (reason, "why")


def test_a_camera_that_the_recipe_does_not_have_is_bad_input():
    line = Line()
    line.offer(camera="sidewise", unit_id="1")
    verdict = line.verdicts["u:s/1"]
    assert verdict.reason is Reason.BAD_INPUT
    assert "sidewise" in verdict.detail
    assert "main" in verdict.detail


def test_a_lost_worker_is_a_model_fault_of_the_frames_it_held():
    line = Line(free=2)
    heads = [line.offer()[0] for _ in range(2)]
    actions = line.act(WorkerLost(tuple(head.key for head in heads), "signal 11"))
    assert sorted(a.slot for a in of(Release, actions)) == sorted(h.slot for h in heads)
    assert {v.reason for v in line.verdicts.values()} == {Reason.MODEL_FAULT}
    assert all("signal 11" in v.detail for v in line.verdicts.values())


def test_an_answer_for_an_unknown_frame_changes_nothing():
    line = Line()
    actions = line.act(Inspected(FrameKey("src", "e", 99), BAD))
    assert only(Note, actions).kind == "unknown"
    assert len(actions) == 1


class TestTwoCameras:
    def pair(self, first=GOOD, second=GOOD):
        line = Line(cameras=("top", "side"), free=2)
        top, _ = line.offer(at_ms=0, camera="top", trigger_id=5)
        side, _ = line.offer(at_ms=2, camera="side", trigger_id=5)
        line.answer(top, first)
        assert line.verdicts == {}
        line.answer(side, second)
        return line.verdicts["t:s/0/5"]

    @pytest.mark.parametrize("swap", [False, True])
    def test_fail_beats_uninspected_beats_pass(self, swap):
        unread = Inspection(outcome=Outcome.UNINSPECTED, reason=Reason.BAD_INPUT, detail="dark")
        for answers, outcome in [
            ((GOOD, GOOD), Outcome.PASS),
            ((GOOD, unread), Outcome.UNINSPECTED),
            ((unread, BAD), Outcome.FAIL),
            ((BAD, GOOD), Outcome.FAIL),
        ]:
            verdict = self.pair(*(answers[::-1] if swap else answers))
            assert verdict.outcome is outcome
            assert len(verdict.frames) == 2

    def test_a_camera_without_a_frame_has_no_image_and_is_named(self):
        line = Line(cameras=("top", "side"), free=2)
        top, _ = line.offer(at_ms=0, camera="top", unit_id="u")
        line.answer(top)
        assert line.verdicts == {}
        line.tick(50)
        verdict = line.verdicts["u:s/u"]
        assert (verdict.outcome, verdict.reason) == (Outcome.UNINSPECTED, Reason.NO_IMAGE)
        assert "'side'" in verdict.detail

    def test_a_frame_after_the_verdict_is_late(self):
        line = Line(cameras=("top", "side"), free=2)
        line.offer(at_ms=0, camera="top", unit_id="u")
        line.tick(50)
        side, actions = line.offer(at_ms=60, camera="side", unit_id="u")
        assert [type(a) for a in actions] == [Release, Note]
        assert only(Release, actions).slot == side.slot

    def test_the_earlier_deadline_is_the_units(self):
        line = Line(cameras=("top", "side"), free=2)
        line.offer(at_ms=0, camera="top", unit_id="u")
        line.offer(at_ms=1, camera="side", unit_id="u", budget_us=9_000)
        assert line.docket.next_due() == 10 * MS
        line.tick(10)
        assert line.verdicts["u:s/u"].deadline_ns == 10 * MS


class TestOfferedAgain:
    def test_the_same_pixels_get_the_stored_verdict_and_no_second_one(self):
        line = Line()
        head, _ = line.offer(unit_id="A", digest=1)
        line.answer(head, BAD)
        again, actions = line.offer(unit_id="A", digest=1, ticket=9)
        assert [type(a) for a in actions] == [Release, Note, Reply, Reply]
        assert only(Release, actions).slot == again.slot
        final = of(Reply, actions)[-1]
        assert final.final
        assert final.committed.verdict == line.verdicts["u:s/A"]
        assert not final.committed.fresh

    def test_before_the_verdict_the_second_one_waits_with_the_first(self):
        line = Line()
        head, _ = line.offer(unit_id="A", digest=1, ticket=1)
        line.offer(unit_id="A", digest=1, ticket=2)
        actions = line.answer(head)
        assert [(r.ticket, r.kind) for r in of(Reply, actions)] == [(1, "verdict"), (2, "verdict")]

    def test_other_pixels_before_the_verdict_make_it_a_conflict(self):
        line = Line()
        head, _ = line.offer(unit_id="A", digest=1)
        other, actions = line.offer(unit_id="A", digest=2)
        assert line.verdicts["u:s/A"].reason is Reason.CONFLICT
        assert only(Release, actions).slot == other.slot
        assert [type(a) for a in line.answer(head)] == [Release, Note]

    def test_other_pixels_after_the_verdict_change_nothing(self):
        line = Line()
        head, _ = line.offer(unit_id="A", digest=1)
        line.answer(head)
        _, actions = line.offer(unit_id="A", digest=2, ticket=3)
        assert only(Note, actions).kind == "conflict"
        reply = only(Reply, actions)
        assert (reply.kind, reply.final, reply.committed) == ("no", True, None)
        assert line.verdicts["u:s/A"].outcome is Outcome.PASS

    def test_frames_without_any_identity_are_units_of_their_own(self):
        line = Line(free=9)
        heads = [line.offer(digest=7)[0] for _ in range(3)]
        for head in heads:
            line.answer(head)
        assert len(line.verdicts) == 3
        assert all(verdict.advisory for verdict in line.verdicts.values())

    def test_a_unit_that_the_log_knows_takes_the_stored_verdict(self):
        line = Line(free=0)
        head, _ = line.offer(unit_id="old", ticket=4, store=False)
        stored = Verdict(
            unit_key="u:s/old", station="s", outcome=Outcome.FAIL, frames=(), recipe="bga"
        )
        row = Committed(vseq=3, verdict=stored, body=b"", chain=0, fresh=False)
        actions = line.act(Journaled(head.key, row))
        assert [type(a) for a in actions] == [Reply, Release, Reply]
        assert of(Reply, actions)[-1].committed is row
        assert line.docket.next_due() is None

    def test_other_pixels_in_the_log_are_refused(self):
        line = Line(free=1)
        head, _ = line.offer(unit_id="old", ticket=4, store=False)
        stored = Verdict(
            unit_key="u:s/old", station="s", outcome=Outcome.PASS, frames=(), recipe="bga"
        )
        row = Committed(vseq=3, verdict=stored, body=b"", chain=0, fresh=False)
        actions = line.act(Journaled(head.key, row, conflict=True))
        assert [type(a) for a in actions] == [Note, Reply]
        assert only(Reply, actions).kind == "no"
        assert [type(a) for a in line.answer(head)] == [Release, Note]

    def test_memory_is_bounded(self):
        line = Line(remembered=10)
        for n in range(50):
            line.act(Capacity(1))
            line.answer(line.offer(at_ms=n)[0])
        assert len(line.docket._past) == 10
        assert line.docket.open_units == 0
        assert len(line.docket._desk.frames) == 0


class TestNumbers:
    def test_each_missing_number_has_no_image_when_the_budget_after_the_gap_is_over(self):
        line = Line(free=9)
        for seq in (1, 2, 5):
            line.answer(line.numbered(seq, at_ms=seq)[0])
        assert len(line.verdicts) == 3
        line.tick(54.9)
        assert len(line.verdicts) == 3
        line.tick(55)
        missing = [line.verdicts[f"f:src/e/{seq}"] for seq in (3, 4)]
        assert {v.reason for v in missing} == {Reason.NO_IMAGE}
        assert [v.frames for v in missing] == [
            (FrameKey("src", "e", 3),),
            (FrameKey("src", "e", 4),),
        ]
        assert all(v.advisory for v in missing)

    def test_a_late_arrival_cancels_its_gap(self):
        line = Line(free=9)
        line.answer(line.numbered(1, at_ms=0)[0])
        line.answer(line.numbered(3, at_ms=1)[0])
        line.answer(line.numbered(2, at_ms=2)[0])
        line.tick(500)
        assert Counter(v.outcome for v in line.verdicts.values()) == {Outcome.PASS: 3}

    def test_a_late_arrival_with_a_trigger_cancels_its_gap_too(self):
        line = Line(free=9)
        for seq in (1, 3, 2):
            line.answer(line.numbered(seq, at_ms=seq, trigger_id=70 + seq)[0])
        line.tick(500)
        assert sorted(line.verdicts) == ["t:s/0/71", "t:s/0/72", "t:s/0/73"]

    def test_a_frame_after_its_no_image_is_late(self):
        line = Line(free=9)
        line.numbered(1, at_ms=0)
        line.numbered(3, at_ms=1)
        line.tick(51)
        _, actions = line.numbered(2, at_ms=52)
        assert only(Note, actions).kind == "late"
        assert line.verdicts["f:src/e/2"].reason is Reason.NO_IMAGE

    @pytest.mark.parametrize("jump", [0, 11, 300])
    def test_a_backward_or_large_jump_is_a_new_epoch_without_invented_frames(self, jump):
        line = Line(free=99)
        for seq in range(100, 121):
            line.answer(line.numbered(seq, at_ms=0)[0])
        _, actions = line.numbered(jump if jump < 100 else 120 + jump, at_ms=1)
        assert only(SequenceReset, actions).source == "src"
        assert only(Journal, actions).head.key.epoch == "e+1"
        line.tick(500)
        assert Reason.NO_IMAGE not in {v.reason for v in line.verdicts.values()}

    def test_a_gap_of_100_is_counted_and_one_of_101_is_not(self):
        for missing, expected in [(100, 100), (101, 0)]:
            line = Line(free=9)
            line.numbered(1, at_ms=0)
            line.numbered(2 + missing, at_ms=1)
            line.tick(500)
            reasons = Counter(v.reason for v in line.verdicts.values())
            assert reasons[Reason.NO_IMAGE] == expected

    def test_the_same_number_and_pixels_again_is_a_duplicate_however_old(self):
        line = Line(free=99)
        for seq in range(30):
            line.answer(line.numbered(seq)[0])
        _, actions = line.numbered(2)
        assert only(Note, actions).kind == "duplicate"
        line.numbered(30)
        line.tick(500)
        assert len(line.verdicts) == 31

    def test_frames_that_share_a_number_are_kept_apart(self):
        line = Line(cameras=("top", "side"), free=9)
        top, _ = line.numbered(7, camera="top", trigger_id=1)
        _, actions = line.numbered(7, camera="side", trigger_id=1)
        side = only(Journal, actions).head
        assert side.key != top.key
        line.answer(top)
        line.answer(side)
        assert line.verdicts["t:s/0/1"].frames == (top.key, side.key)


class TestReplies:
    def test_ok_when_the_accept_row_is_on_disk_and_the_verdict_later(self):
        line = Line()
        head, actions = line.offer(ticket=5, store=False)
        assert of(Reply, actions) == []
        actions = line.act(Journaled(head.key))
        assert only(Reply, actions) == Reply(5, "ok")
        final = only(Reply, line.answer(head))
        assert (final.kind, final.final) == ("verdict", True)

    def test_no_with_the_reason_when_shed(self):
        line = Line(max_queue=1, free=0)
        line.offer()
        _, actions = line.offer(ticket=6)
        kinds = [(r.kind, r.final) for r in of(Reply, actions)]
        assert kinds == [("no", False), ("verdict", True)]
        assert of(Reply, actions)[0].detail.startswith("shed: ")
