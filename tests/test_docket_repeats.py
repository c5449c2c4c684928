"""A frozen camera is found by the second of its equal frames; what is offered again is not one."""

import pytest

from edge_inspector.docket import Dispatch, Docket, Journal, Offered
from edge_inspector.docket.words import Capacity, Commit, Settled, Tick
from edge_inspector.records import Committed, FrameHead, FrameKey, Reason

BUDGET_US = 50_000


@pytest.fixture
def offer():
    """Offers a frame with a digest; what the docket took it for, None when it was known."""
    docket = Docket("s", ("main", "side"), BUDGET_US, 8, "bga", 1, never_repeat=("main",))
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

    put.settle = settle  # type: ignore[attr-defined]
    return put


def test_the_second_of_equal_frames_is_a_fault_and_so_are_all_after_it(offer):
    heads = [offer(number, digest) for number, digest in enumerate((7, 8, 8, 8, 9, 8))]
    faults = [head.fault for head in heads]
    frozen = Reason.CAMERA_FAULT
    assert faults == [None, None, frozen, frozen, None, None]
    assert "camera 'main' is frozen" in heads[2].detail
    assert "refuse_repeats = false in [quality.main]" in heads[2].detail


def test_a_frame_offered_again_is_no_repeat(offer):
    assert offer(1, 8).fault is None
    assert offer(1, 8) is None
    assert offer(2, 9).fault is None


def test_cameras_and_sources_do_not_repeat_each_other(offer):
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
