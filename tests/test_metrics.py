from edge_inspector.metrics import Metrics
from edge_inspector.records import Committed, FrameKey, Outcome, Reason, Verdict

MS = 1_000_000


def committed(
    outcome: Outcome,
    reason: Reason | None = None,
    *,
    fresh: bool = True,
    degraded: tuple[str, ...] = (),
) -> Committed:
    verdict = Verdict(
        unit_key="u:s/1",
        station="s",
        outcome=outcome,
        reason=reason,
        frames=(FrameKey("a", "e", 1),),
        recipe="p",
        time_zero_ns=10 * MS,
        stages_us={"infer": 900},
        degraded=degraded,
    )
    return Committed(vseq=1, verdict=verdict, body=b"", chain=0, committed_ns=15 * MS, fresh=fresh)


def test_units_are_counted_by_outcome():
    metrics = Metrics(20.0)
    metrics.settled(committed(Outcome.PASS))
    metrics.settled(committed(Outcome.PASS))
    metrics.settled(committed(Outcome.FAIL))
    read = metrics.registry.get_sample_value
    assert read("edge_inspector_parts_total", {"verdict": "pass"}) == 2
    assert read("edge_inspector_parts_total", {"verdict": "fail"}) == 1
    assert read("edge_inspector_deadline_missed_total") == 0


def test_each_step_left_out_is_counted():
    metrics = Metrics(20.0)
    metrics.settled(committed(Outcome.FAIL, degraded=("classifier",)))
    metrics.settled(committed(Outcome.FAIL, degraded=("classifier", "classifier fault")))
    read = metrics.registry.get_sample_value
    assert read("edge_inspector_degraded_total", {"step": "classifier"}) == 2
    assert read("edge_inspector_degraded_total", {"step": "classifier fault"}) == 1


def test_a_verdict_told_again_is_not_counted_again():
    metrics = Metrics(20.0)
    metrics.settled(committed(Outcome.PASS))
    metrics.settled(committed(Outcome.PASS, fresh=False))
    read = metrics.registry.get_sample_value
    assert read("edge_inspector_parts_total", {"verdict": "pass"}) == 1


def test_a_timeout_is_a_missed_deadline_and_a_dropped_frame():
    metrics = Metrics(20.0)
    metrics.settled(committed(Outcome.UNINSPECTED, Reason.TIMEOUT))
    metrics.settled(committed(Outcome.UNINSPECTED, Reason.SHED))
    metrics.dropped("no_slot", 3)
    read = metrics.registry.get_sample_value
    assert read("edge_inspector_deadline_missed_total") == 1
    assert read("edge_inspector_frames_dropped_total", {"reason": "timeout"}) == 1
    assert read("edge_inspector_frames_dropped_total", {"reason": "shed"}) == 1
    assert read("edge_inspector_frames_dropped_total", {"reason": "no_slot"}) == 3


def test_stage_times_are_seconds_in_buckets_around_the_budget():
    metrics = Metrics(20.0)
    metrics.settled(committed(Outcome.PASS))
    read = metrics.registry.get_sample_value
    name = "edge_inspector_stage_duration_seconds"
    assert read(f"{name}_sum", {"stage": "infer"}) == 0.0009
    assert read(f"{name}_sum", {"stage": "total"}) == 0.005
    assert read(f"{name}_bucket", {"stage": "total", "le": "0.004"}) == 0
    assert read(f"{name}_bucket", {"stage": "total", "le": "0.006"}) == 1
    assert read(f"{name}_bucket", {"stage": "total", "le": "0.02"}) == 1


def test_the_depth_of_the_outbox_is_asked_for_when_read():
    metrics = Metrics(20.0)
    waiting = [1, 2]
    metrics.watch_outbox(lambda: len(waiting))
    waiting.append(3)
    assert metrics.registry.get_sample_value("edge_inspector_outbox_depth") == 3
