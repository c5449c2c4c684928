"""A log written by an earlier version is still read, and what is added still fits."""

import msgspec

from edge_inspector.outbox.entries import MAX_BODY, as_stored
from edge_inspector.records import FrameKey, Outcome, RegionVerdict, Verdict

REGION = RegionVerdict(
    "cell-r10c10",
    Outcome.FAIL,
    12.3456,
    "position",
    (1000, 2000, 30, 40),
    "tools+engine",
    "row 10 col 10: ball 0.314 mm off its place (limit learned 0.125)",
    12.3456,
    11.5,
    0.9876,
)


def test_a_region_of_five_entries_is_one_of_which_nothing_more_is_known():
    body = msgspec.msgpack.encode(["r1", "fail", 4.5, "missing", [1, 2, 3, 4]])
    region = msgspec.msgpack.decode(body, type=RegionVerdict)
    assert region == RegionVerdict("r1", Outcome.FAIL, 4.5, "missing", (1, 2, 3, 4))
    assert (region.spoke, region.detail, region.engine_score) == ("", "", None)
    assert region.probability is None


def test_a_unit_whose_every_region_explains_itself_still_fits_one_message():
    verdict = Verdict(
        unit_key="t:s/0/1",
        station="s",
        outcome=Outcome.FAIL,
        frames=(FrameKey("line", "e", 1),),
        recipe="board",
        detail="d" * 300,
        regions=(REGION,) * 400,
    )
    stored, body = as_stored(verdict, 7)
    assert len(body) <= MAX_BODY
    assert 20 <= len(stored.regions) == 400 - stored.rois_omitted
    assert msgspec.msgpack.decode(body, type=Verdict) == stored
