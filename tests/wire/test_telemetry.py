import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_inspector.errors import WireError
from edge_inspector.records import Baseline, Committed, FrameKey, Outcome, RegionVerdict, Verdict
from edge_inspector.wire import telemetry
from edge_inspector.wire.telemetry import StateNote, VerdictNote

MS = 1_000_000


def committed(vseq=12, **keys):
    values = {
        "unit_key": "t:st1/0/7",
        "station": "st1",
        "outcome": Outcome.FAIL,
        "frames": (FrameKey("line", "e", 3),),
        "recipe": "board",
        "trigger_id": 7,
        "unit_id": "A-7",
        "defect_class": "missing",
        "anomaly_score": 4.5,
        "threshold": 3.0,
        "regions": (
            RegionVerdict(
                "r1",
                Outcome.FAIL,
                4.5,
                "missing",
                (1, 2, 3, 4),
                "tools",
                "blob 7 missing",
                1.5,
                4.5,
                0.875,
            ),
        ),
        "baseline": Baseline(Outcome.PASS, score=0.5),
        "engine": "bga/1",
        "time_zero_ns": 100 * MS,
        "deadline_ns": 150 * MS,
        "settled_utc_ns": 5,
        "stages_us": {"infer": 700},
    }
    verdict = Verdict(**{**values, **keys})
    return Committed(vseq=vseq, verdict=verdict, body=b"", chain=0, committed_ns=112 * MS)


def test_the_topic_is_station_source_and_outcome():
    assert telemetry.encode(committed())[0] == b"v1/st1/line/fail"


def test_the_json_has_the_keys_of_the_protocol():
    said = json.loads(telemetry.encode(committed())[1])
    promised = (
        "vseq station source run trigger_id unit_id outcome reason defect_class anomaly_score "
        "threshold rois latency_us deadline_met engine recipe settled_utc_ns baseline advisory "
        "stages_us unit_key"
    )
    assert set(promised.split()) <= set(said)
    assert said["rois"] == [
        {
            "name": "r1",
            "outcome": "fail",
            "score": 4.5,
            "defect_class": "missing",
            "box": [1, 2, 3, 4],
            "spoke": "tools",
            "detail": "blob 7 missing",
            "engine_score": 1.5,
            "rules_score": 4.5,
            "probability": 0.875,
        }
    ]
    assert (said["latency_us"], said["deadline_met"]) == (12_000, True)


def test_what_is_sent_is_heard():
    row = committed()
    assert telemetry.decode(telemetry.encode(row)) == telemetry.note(row)


def test_a_late_commit_did_not_meet_its_deadline():
    assert telemetry.note(committed(deadline_ns=111 * MS)).deadline_met is False


def test_a_score_that_is_no_number_travels_as_none():
    row = committed(anomaly_score=float("nan"))
    heard = telemetry.decode(telemetry.encode(row))
    assert isinstance(heard, VerdictNote)
    assert heard.anomaly_score is None


def test_a_unit_without_a_frame_has_no_source():
    assert telemetry.encode(committed(frames=()))[0] == b"v1/st1//fail"


def test_state_travels():
    parts = telemetry.encode_state("st1", 12, "running")
    assert telemetry.decode(parts) == StateNote(head_vseq=12, state="running", may_drop=True)


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"v1/st1/line/fail"],
        [b"v2/st1/line/fail", b"{}"],
        [b"v1/st1/line/fail", b"{}"],
        [b"v1/st1/state", b"[]"],
        [b"v1/st1/line/fail", b"[" * 5000],
        [b"v1/st1/line/fail", b"x" * 2_000_000],
    ],
)
def test_anything_else_is_a_wire_error(parts):
    with pytest.raises(WireError):
        telemetry.decode(parts)


@settings(derandomize=True, deadline=None)
@given(st.sampled_from([b"v1/a/b/c", b"v1/a/state", b"x"]), st.binary(max_size=200))
def test_nothing_but_wire_errors_escapes(topic, body):
    with pytest.raises(WireError):
        telemetry.decode([topic, body])
