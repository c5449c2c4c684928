import msgspec
import pytest
from prometheus_client import generate_latest

from edge_inspector import __version__
from edge_inspector.metrics import Metrics
from edge_inspector.records import Committed, FrameKey, Outcome, Reason, Verdict

MS = 1_000_000


def committed(
    outcome: Outcome,
    reason: Reason | None = None,
    *,
    fresh: bool = True,
    degraded: tuple[str, ...] = (),
    due_ms: int = 30,
) -> Committed:
    verdict = Verdict(
        unit_key="u:s/1",
        station="s",
        outcome=outcome,
        reason=reason,
        frames=(FrameKey("a", "e", 1),),
        recipe="p",
        time_zero_ns=10 * MS,
        decided_ns=13 * MS,
        deadline_ns=due_ms * MS,
        stages_us={"infer": 900},
        degraded=degraded,
    )
    return Committed(vseq=1, verdict=verdict, body=b"", chain=0, committed_ns=15 * MS, fresh=fresh)


def count(metrics, row):
    metrics.settled(row, row.committed_ns + MS // 2)


def test_units_are_counted_by_outcome():
    metrics = Metrics(20.0)
    count(metrics, committed(Outcome.PASS))
    count(metrics, committed(Outcome.PASS))
    count(metrics, committed(Outcome.FAIL))
    read = metrics.registry.get_sample_value
    assert read("edge_inspector_parts_total", {"verdict": "pass"}) == 2
    assert read("edge_inspector_parts_total", {"verdict": "fail"}) == 1
    assert missed(metrics) == [0, 0, 0]


def test_each_step_left_out_is_counted():
    metrics = Metrics(20.0)
    count(metrics, committed(Outcome.FAIL, degraded=("classifier",)))
    count(metrics, committed(Outcome.FAIL, degraded=("classifier", "classifier fault")))
    read = metrics.registry.get_sample_value
    assert read("edge_inspector_degraded_total", {"step": "classifier"}) == 2
    assert read("edge_inspector_degraded_total", {"step": "classifier fault"}) == 1


def test_a_verdict_told_again_is_not_counted_again():
    metrics = Metrics(20.0)
    count(metrics, committed(Outcome.PASS))
    count(metrics, committed(Outcome.PASS, fresh=False))
    read = metrics.registry.get_sample_value
    assert read("edge_inspector_parts_total", {"verdict": "pass"}) == 1


def test_a_timeout_is_a_missed_deadline_and_a_dropped_frame():
    metrics = Metrics(20.0)
    count(metrics, committed(Outcome.UNINSPECTED, Reason.TIMEOUT))
    count(metrics, committed(Outcome.UNINSPECTED, Reason.SHED))
    metrics.dropped("no_slot", 3)
    read = metrics.registry.get_sample_value
    assert missed(metrics) == [1, 0, 0]
    row = committed(Outcome.UNINSPECTED, Reason.TIMEOUT)
    given_out = msgspec.structs.replace(row.verdict, stages_us={"arrival": 5, "queue": 7})
    count(metrics, msgspec.structs.replace(row, verdict=given_out))
    assert missed(metrics) == [1, 1, 0]
    decided = msgspec.structs.replace(given_out, stages_us={"queue": 7, "decide": 9})
    count(metrics, msgspec.structs.replace(row, verdict=decided))
    assert missed(metrics) == [1, 1, 1]
    another_camera = msgspec.structs.replace(decided, decided_ns=decided.deadline_ns)
    count(metrics, msgspec.structs.replace(row, verdict=another_camera))
    assert missed(metrics) == [1, 2, 1]
    assert read("edge_inspector_frames_dropped_total", {"reason": "timeout"}) == 4
    assert read("edge_inspector_frames_dropped_total", {"reason": "shed"}) == 1
    assert read("edge_inspector_frames_dropped_total", {"reason": "no_slot"}) == 3


def test_stage_times_are_seconds_in_buckets_around_the_budget():
    metrics = Metrics(20.0)
    count(metrics, committed(Outcome.PASS))
    read = metrics.registry.get_sample_value
    name = "edge_inspector_stage_duration_seconds"
    assert read(f"{name}_sum", {"stage": "infer"}) == 0.0009
    assert read(f"{name}_sum", {"stage": "total"}) == 0.005
    assert read(f"{name}_bucket", {"stage": "total", "le": "0.004"}) == 0
    assert read(f"{name}_bucket", {"stage": "total", "le": "0.006"}) == 1
    assert read(f"{name}_bucket", {"stage": "total", "le": "0.02"}) == 1


def test_every_stage_is_there_before_the_first_unit_and_counted_with_it():
    metrics = Metrics(20.0)
    read = metrics.registry.get_sample_value
    name = "edge_inspector_stage_duration_seconds"
    stages = [
        "arrival",
        "queue",
        "decode",
        "cut",
        "infer",
        "decide",
        "handover",
        "commit",
        "publish",
        "total",
    ]
    assert [read(f"{name}_count", {"stage": stage}) for stage in stages] == [0] * 10
    count(metrics, committed(Outcome.PASS))
    found = {stage: read(f"{name}_sum", {"stage": stage}) for stage in stages[4:]}
    assert found == {
        "infer": 0.0009,
        "decide": 0,
        "handover": 0.0021,
        "commit": 0.002,
        "publish": 0.0005,
        "total": 0.005,
    }


def test_a_frame_that_nobody_inspected_was_not_handed_over():
    metrics = Metrics(20.0)
    row = committed(Outcome.UNINSPECTED, Reason.SHED)
    count(metrics, msgspec.structs.replace(row, verdict=without_stages(row.verdict)))
    read = metrics.registry.get_sample_value
    name = "edge_inspector_stage_duration_seconds_count"
    assert read(name, {"stage": "handover"}) == 0
    assert read(name, {"stage": "total"}) == 1


def missed(metrics):
    """Of units that waited, were with a worker, and were being written."""
    read, name = metrics.registry.get_sample_value, "edge_inspector_deadline_missed_total"
    return [read(name, {"stage": stage}) for stage in ("queue", "worker", "commit")]


def without_stages(verdict):
    return msgspec.structs.replace(verdict, stages_us={})


def test_percentiles_of_each_stage_go_up_to_the_longest():
    metrics = Metrics(20.0)
    for late_ms in (5, 5, 5, 9):
        row = committed(Outcome.PASS)
        count(metrics, msgspec.structs.replace(row, committed_ns=(10 + late_ms) * MS))
    read = metrics.registry.get_sample_value
    name = "edge_inspector_stage_quantile_seconds"
    assert read(name, {"stage": "total", "quantile": "0.5"}) == pytest.approx(0.005, rel=1 / 128)
    assert read(name, {"stage": "total", "quantile": "1.0"}) == 0.009
    told = metrics.stages_ms()
    assert told["total"]["count"] == 4
    assert (told["total"]["max"], told["commit"]["max"]) == (9.0, 6.0)
    assert "decode" not in told


def test_a_verdict_on_disk_after_its_deadline_is_missed_unless_nobody_could_inspect():
    metrics = Metrics(20.0)
    count(metrics, committed(Outcome.PASS, due_ms=15))
    assert missed(metrics) == [0, 0, 0]
    count(metrics, committed(Outcome.FAIL, due_ms=14))
    count(metrics, committed(Outcome.UNINSPECTED, Reason.NO_IMAGE, due_ms=14))
    assert missed(metrics) == [0, 0, 1]


def test_the_registry_can_be_read_as_prometheus_text():
    metrics = Metrics(20.0)
    count(metrics, committed(Outcome.PASS))
    text = generate_latest(metrics.registry).decode()
    assert "# TYPE edge_inspector_stage_duration_seconds histogram" in text
    assert f'edge_inspector_build_info{{version="{__version__}"}} 1.0' in text
    assert 'stage_duration_seconds_bucket{le="+Inf",stage="total"} 1.0' in text


def test_the_depth_of_the_outbox_is_asked_for_when_read():
    metrics = Metrics(20.0)
    waiting = [1, 2]
    metrics.watch_outbox(lambda: len(waiting))
    waiting.append(3)
    assert metrics.registry.get_sample_value("edge_inspector_outbox_depth") == 3
