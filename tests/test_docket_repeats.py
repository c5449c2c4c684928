"""A frozen camera is found by the second of its equal frames; what is offered again is not one."""

import pytest

from edge_inspector.docket import Dispatch, Docket, Journal, Offered
from edge_inspector.docket.repeats import KEPT
from edge_inspector.docket.words import Capacity, Commit, Inspected, Note, Settled, Tick
from edge_inspector.records import (
    Committed,
    FrameHead,
    FrameKey,
    Inspection,
    Outcome,
    Reason,
    Verdict,
)

BUDGET_US = 50_000


@pytest.fixture
def offer():
    """Offers a frame with a digest; what the docket took it for, None when it was known."""
    docket = Docket("s", ("main",), BUDGET_US, 8, "bga", 1, never_repeat=("main",))
    return offering(docket)


def offering(docket):
    docket.step(Capacity(8), 0)

    def put(number, digest, camera="main", source="line", unit=None, **fields):
        head = FrameHead(
            key=FrameKey(source, "e", number),
            station="s",
            camera=camera,
            recipe="bga",
            arrived_ns=0,
            time_zero_ns=0,
            unit_id=unit or f"{source}{number}",
            **{"slot": number, "size": 4, "digest": digest, **fields},
        )
        actions = docket.step(Offered(head), 1)
        put.actions = actions  # type: ignore[attr-defined]
        taken = [action.head for action in actions if isinstance(action, Journal)]
        judged = any(isinstance(action, Dispatch) for action in actions)
        assert judged == bool(taken and taken[0].fault is None)
        return taken[0] if taken else None

    def settle(*, on_disk):
        """All that is open has its verdict, on disk or on the way there."""
        actions = docket.step(Tick(), 2 * BUDGET_US * 1000)
        verdicts = [action.verdict for action in actions if isinstance(action, Commit)]
        for vseq, verdict in enumerate(verdicts if on_disk else (), 1):
            docket.step(Settled(Committed(vseq=vseq, verdict=verdict, body=b"", chain=0)), 10**9)

    def verdicts(number, outcome=Outcome.PASS):
        """What a worker's answer about a frame leads to."""
        found = Inspection(outcome=outcome)
        actions = docket.step(Inspected(FrameKey("line", "e", number), found), 2)
        return [(a.verdict.unit_key, a.verdict.outcome) for a in actions if isinstance(a, Commit)]

    put.settle, put.verdicts = settle, verdicts  # type: ignore[attr-defined]
    put.docket = docket  # type: ignore[attr-defined]
    put.actions = []  # type: ignore[attr-defined]
    return put


def test_the_second_of_equal_frames_is_a_fault_and_so_are_all_after_it(offer):
    heads = [offer(number, digest) for number, digest in enumerate((7, 8, 8, 8, 9, 8))]
    faults = [head.fault for head in heads]
    frozen = Reason.CAMERA_FAULT
    assert faults == [None, None, frozen, frozen, None, frozen], "the last from an old buffer"
    assert "camera 'main' is frozen" in heads[2].detail
    assert "refuse_repeats = false in [quality.main]" in heads[2].detail


def test_a_frame_offered_again_is_no_repeat(offer):
    assert offer(1, 8).fault is None
    assert offer(1, 8) is None
    assert offer(2, 9).fault is None


def test_cameras_and_sources_do_not_repeat_each_other():
    offer = offering(Docket("s", ("main", "side"), BUDGET_US, 8, "bga", 1, never_repeat=("main",)))
    assert offer(1, 8).fault is None
    assert offer(1, 8, source="other").fault is None
    assert offer(2, 8, camera="side").fault is None
    assert offer(3, 8, camera="side").fault is None


def test_frames_without_pixels_say_nothing_of_a_camera(offer):
    assert offer(1, 0).fault is None
    assert offer(2, 0).fault is None


def test_a_frame_that_repeats_one_given_up_at_the_source_is_a_fault(offer):
    gone = {"slot": -1, "given_up": 8, "assured": True, "tombstone": True}
    assert offer(1, 0, fault=Reason.TIMEOUT, **gone).fault is Reason.TIMEOUT
    assert offer(2, 8, assured=True).fault is Reason.CAMERA_FAULT
    assert offer(3, 9, assured=True).fault is None


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_frame_that_repeats_one_that_came_after_its_verdict_is_a_fault(offer, on_disk):
    assert offer(1, 8, unit="late").fault is None
    offer.settle(on_disk=on_disk)
    assert offer(2, 9, unit="late") is None
    assert offer(3, 9).fault is Reason.CAMERA_FAULT


@pytest.mark.parametrize(
    ("between", "fault"),
    [(1, Reason.CAMERA_FAULT), (KEPT - 1, Reason.CAMERA_FAULT), (KEPT, None)],
)
def test_a_picture_from_an_old_buffer_is_found_and_recorded_units_may_be_played_again(
    offer, between, fault
):
    assert offer(1, 8).fault is None
    for number in range(2, 2 + between):
        offer(number, 1000 + number, fault=Reason.BAD_INPUT, slot=-1)
    assert offer(1000, 8).fault is fault


def test_a_copy_that_overtook_its_original_gives_no_verdict(offer):
    """The frame before is sent once more, or its tombstone waits behind others."""
    gone = {"slot": -1, "given_up": 8, "assured": True, "tombstone": True}
    assert offer(2, 8, assured=True).fault is None
    assert offer(1, 0, fault=Reason.TIMEOUT, **gone).fault is Reason.TIMEOUT
    spoilt = [a.verdict for a in offer.actions if isinstance(a, Commit)]
    assert [(v.unit_id, v.reason) for v in spoilt] == [
        ("line1", Reason.TIMEOUT),
        ("line2", Reason.CAMERA_FAULT),
    ]
    assert "frozen" in spoilt[1].detail
    assert offer.verdicts(2) == []


def test_the_original_is_judged_though_its_copy_overtook_it(offer):
    assert offer(3, 8).fault is None
    assert offer(2, 8).fault is None, "the first copy"
    assert offer(1, 8).fault is None
    assert [offer.verdicts(n) for n in (3, 2)] == [[], []]
    assert [outcome for _, outcome in offer.verdicts(1)] == [Outcome.PASS]


def test_an_original_that_comes_after_the_verdict_on_its_copy_is_told(offer):
    assert offer(2, 8).fault is None
    assert offer.verdicts(2)
    assert offer(1, 8).fault is None
    notes = [a for a in offer.actions if isinstance(a, Note)]
    assert [(note.kind, note.unit_key) for note in notes] == [("conflict", "u:s/line2")]


def test_other_pixels_under_a_known_identity_are_an_exposure_too(offer):
    assert offer(1, 8, unit="twice").fault is None
    assert offer(2, 9, unit="twice") is None
    assert offer(3, 9).fault is Reason.CAMERA_FAULT


def test_a_source_that_says_so_is_believed_whatever_has_come(offer):
    """Its frame before may be lost, may wait, or may have gone with the core before this one."""
    assert offer(2, 8, repeat=True).fault is Reason.CAMERA_FAULT
    assert offer(1, 8).fault is None
    assert offer(3, 8).fault is Reason.CAMERA_FAULT
    assert offer(4, 9, repeat=True, camera="main").fault is Reason.CAMERA_FAULT


def test_a_restart_forgets_no_picture_that_the_log_knows():
    docket = Docket("s", ("main",), BUDGET_US, 8, "bga", 1, never_repeat=("main",))
    verdict = Verdict(
        unit_key="u:s/line1",
        station="s",
        outcome=Outcome.PASS,
        frames=(FrameKey("line", "e", 1),),
        recipe="bga",
    )
    docket.resume([(0, 0)], [(verdict, {"main": 8, "side": 7})])
    offer = offering(docket)
    assert offer(2, 8).fault is Reason.CAMERA_FAULT
    assert offer(1, 8).fault is None, "offered again, since its source heard of no verdict"
    assert offer(3, 7).fault is None
