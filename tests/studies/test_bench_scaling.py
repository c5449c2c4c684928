"""What the scaling bench counts, and that its cases are what their names say."""

import numpy as np
import pytest

from edge_inspector import clock
from edge_inspector.inspector import open_inspector
from edge_inspector.records import Frame, FrameHead, FrameKey, Outcome, Reason, Verdict
from edge_inspector.studies.bench_pipeline import Stages, core_stages_ms
from edge_inspector.studies.bench_scaling import run, summary
from edge_inspector.studies.scaling_cases import CASES, write_case

MS = clock.NS_PER_MS
REGIONS = {name: int(name.partition(", ")[2].split()[0]) for name in CASES}


def verdict(outcome=Outcome.PASS, reason=None, trigger_id=1, **more):
    return Verdict(
        unit_key=f"t:{trigger_id}",
        station="s",
        outcome=outcome,
        reason=reason,
        frames=(FrameKey("l", "e", trigger_id),),
        recipe="r",
        trigger_id=trigger_id,
        **more,
    )


def test_only_what_was_inspected_and_received_in_time_counts_as_done():
    due_ns = np.arange(5) * 10 * MS
    received = {
        1: (verdict(), 5 * MS),
        2: (verdict(Outcome.FAIL), 10 * MS + 90 * MS),
        3: (verdict(), 20 * MS + 101 * MS),
        4: (verdict(Outcome.UNINSPECTED, Reason.SHED), 31 * MS),
    }
    found = summary(received, 1, due_ns, due_ns, 100.0)
    assert (found["offered"], found["inspected"], found["in_time"], found["lost"]) == (5, 3, 2, 1)
    assert found["outcomes"] == {"pass": 2, "fail": 1, "shed": 1}
    assert found["offered_hz"] == 100.0
    assert found["in_time_hz"] == round(2 / 0.121, 1)
    assert found["latency_ms"]["max"] == 101.0


def test_latency_is_from_when_a_unit_was_due_not_from_when_a_busy_line_offered_it():
    due_ns, offered_ns = np.array([0, 10 * MS]), np.array([0, 60 * MS])
    found = summary({2: (verdict(trigger_id=2), 70 * MS)}, 1, due_ns, offered_ns, 50.0)
    assert (found["inspected"], found["in_time"]) == (1, 0)
    assert found["latency_ms"]["p50"] == 60.0


def test_overhead_is_without_inference_and_without_who_only_watches():
    stages = Stages()
    times = {"arrival": 200, "infer": 1000, "decide": 100, "baseline": 2000}
    stages.add(verdict(stages_us=times, time_zero_ns=MS, decided_ns=5 * MS), 7 * MS)
    stages.add(verdict(Outcome.UNINSPECTED, Reason.SHED, trigger_id=2), 9 * MS)
    assert stages.overhead_ms({1: 0}) == [4.0]
    assert stages.socket_ms == [2.8]
    assert stages.shed == 1
    assert stages.ms["handover"] == [0.7]
    assert stages.ms["to_controller"] == [2.0, 9.0]


def test_a_station_that_was_killed_did_not_say_its_latency(tmp_path):
    (tmp_path / "daemon.log").write_text('{"event":"ready"}\n')
    with pytest.raises(KeyError, match="did not stop in order"):
        core_stages_ms(tmp_path / "daemon.log")


@pytest.mark.parametrize("name", CASES)
def test_a_case_has_the_frames_and_regions_of_its_name(name, tiny_engine, tmp_path):
    case = CASES[name]
    path = write_case(tmp_path, case, tiny_engine, "openvino")
    frames = np.load(tmp_path / "frames.npy", mmap_mode="r")
    size = name.partition(",")[0].removesuffix("x3").split("x")
    assert [int(side) for side in size] == [frames.shape[2], frames.shape[1]]
    assert frames.ndim == (4 if case.channels == 3 else 3)
    assert not np.array_equal(frames[0], frames[1])
    with open_inspector(path) as inspector:
        found = [inspector.inspect(_frame(pixels)) for pixels in frames[:2]]
    assert [one.outcome for one in found] == [Outcome.PASS] * 2, found[0].detail
    assert [len(one.regions) for one in found] == [REGIONS[name]] * 2


def _frame(pixels):
    head = FrameHead(
        key=FrameKey("line", "e", 1),
        station="s",
        camera="main",
        recipe="bench",
        arrived_ns=0,
        time_zero_ns=0,
    )
    return Frame(head, np.ascontiguousarray(pixels))


@pytest.mark.slow
def test_a_station_is_loaded_beyond_what_it_can_do_and_every_unit_is_accounted_for(
    tiny_engine, tmp_path
):
    name = "256x256, 1 region"
    found = run(tmp_path, tiny_engine, cases=[name], workers=[1], seconds=0.3)
    rows = found["rows"]
    assert [row["share"] for row in rows] == [0.0, 0.5, 0.9, 1.2, 3.0]
    for row in rows:
        assert row["lost"] == 0
        assert sum(row["outcomes"].values()) == row["offered"]
        assert row["in_time"] <= row["inspected"] <= row["offered"]
    assert rows[-1]["offered_hz"] > rows[1]["offered_hz"]
    (peak,) = found["peaks"]
    assert peak["at_most_hz"] == max(row["in_time_hz"] for row in rows) > 0
    assert {"core", "ingest", "worker", "delivery"} <= rows[0]["cpu_ms_per_unit"].keys()
    assert peak["memory_mb"] > 50
