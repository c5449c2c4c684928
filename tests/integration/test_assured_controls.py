"""
Controls over a whole station: with its protection off, the checks of the fault tests must fail.

Each control is one scenario, once on a station that has the protection and once on one without.
"""

import random
import threading

import pytest

from edge_inspector import clock
from edge_inspector.client import FrameSource
from edge_inspector.outbox import Log
from edge_inspector.records import Reason
from tests.integration.conftest import GOOD
from tests.integration.crippled import COMMIT_S, BlindStation, Crippled, HastyStation
from tests.integration.line import Controller, check_heard, check_log, check_offered
from tests.integration.test_network_faults import Offering

pytestmark = pytest.mark.fault

SEED = 2
KILLS = 3
UNITS = 200
WAIT_S = 2.0


def wait_until_told(offering, controller):
    """Units have just passed the gate, and the source knows; bounded, as the log may confuse both."""
    acted, give_up_ns = len(controller.acted), clock.now_ns() + int(WAIT_S * 1e9)
    while clock.now_ns() < give_up_ns:
        threading.Event().wait(0.005)
        known = {one.vseq for one in offering.settled[-100:]}
        if len(controller.acted) > acted + 2 and controller.acted[-1].vseq in known:
            return


def kill_under_load(open_bench, kind):
    """A station whose core is killed again and again; its log and what the clients recorded."""
    bench = open_bench(
        source="assured",
        recipe={"max_queue": 64, "latency_budget_ms": 1500.0},
        frames={"max_bytes": 64 * 1024, "slots": 80},
        kind=kind,
    )
    chance = random.Random(SEED)
    offering, controller = Offering(bench.frames), Controller(bench.gate)
    controller.start()
    offering.start()
    try:
        for _ in range(KILLS):
            wait_until_told(offering, controller)
            threading.Event().wait(chance.uniform(0.0, 0.4 * COMMIT_S))
            bench.station.kill()
            bench.station.start()
        offering.stopping.set()
        offering.join()
        assert offering.source.wait_all(timeout_ms=5000)
        head = Log(bench.folder / "state").head()
        controller.until(head, seconds=2)
    finally:
        offering.stopping.set()
        offering.source.close()
        controller.close()
    assert bench.station.stop() == 0
    rows = check_log(bench.folder)
    print(f"seed {SEED}: {KILLS} kills, offered {len(offering.offered)}, verdicts {len(rows)}, "
          f"heard {len(controller.heard)}, acted {len(controller.acted)}, logs that the controller "
          f"took for others {controller.consumer.counts.other_logs}")  # fmt: skip
    return rows, offering, controller


def contradictions(rows, offering, controller):
    """What the source was told and what the controller acted on that the log does not hold so."""
    log = {row.vseq: row.verdict for row in rows}
    held = {(vseq, one.trigger_id, one.outcome, one.reason) for vseq, one in log.items()}
    told = [one for one in offering.settled if one.vseq is not None]
    return (
        [one for one in told if (one.vseq, one.trigger_id, one.outcome, one.reason) not in held],
        [one for one in controller.acted if log.get(one.vseq) != one.verdict],
    )


def test_a_slow_disk_and_kills_contradict_nothing(open_bench):
    """What the control below is held against: the same disk, the same kills."""
    rows, offering, controller = kill_under_load(open_bench, Crippled)
    assert contradictions(rows, offering, controller) == ([], [])
    assert check_offered(rows, offering.offered, offering.records()) == []
    check_heard(rows, controller)


def test_publishing_before_the_commit_contradicts_the_log(open_bench):
    """G2: the source was told `pass`, the gate has let the unit through, the log says `aborted`."""
    rows, offering, controller = kill_under_load(open_bench, HastyStation)
    told, acted = contradictions(rows, offering, controller)
    print(f"contradictions: {len(told)} told to the source, {len(acted)} acted on")
    assert told
    assert acted
    with pytest.raises(AssertionError):
        check_offered(rows, offering.offered, offering.records())
    with pytest.raises(AssertionError):
        check_heard(rows, controller)


def skip_some(open_bench, **kind):
    """A source that skips one trigger id in twenty and tells nobody; the log, what it skipped."""
    bench = open_bench(source="assured", **kind)
    with FrameSource(bench.frames, name="line") as source:
        for trigger_id in range(1, UNITS + 1):
            if trigger_id % 20 != 10:
                source.offer(GOOD, trigger_id=trigger_id)
                source.wait_all(timeout_ms=5000)
    assert bench.station.stop() == 0
    return check_log(bench.folder), range(10, UNITS, 20)


def check_skipped(rows, skipped):
    """Every part has a verdict, and one that nobody saw has no image."""
    reasons = {row.verdict.trigger_id: row.verdict.reason for row in rows}
    assert sorted(reasons) == list(range(1, UNITS + 1))
    assert [trigger for trigger, why in reasons.items() if why is Reason.NO_IMAGE] == [*skipped]


def test_a_source_that_skips_parts_is_found_out(open_bench):
    check_skipped(*skip_some(open_bench))


def test_without_an_eye_for_gaps_skipped_parts_have_no_verdict(open_bench):
    """G8."""
    rows, skipped = skip_some(open_bench, kind=BlindStation)
    assert len(rows) == UNITS - len(skipped)
    with pytest.raises(AssertionError):
        check_skipped(rows, skipped)
