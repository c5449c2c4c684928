"""Trouble on the wire costs time, never truth (G9): two hundred faults from a seed, both ways."""

import random
import threading
from collections import Counter

import pytest

from edge_inspector import clock
from edge_inspector.client import FrameSource, Settlement
from edge_inspector.outbox import Log
from tests.integration.conftest import BAD, GOOD
from tests.integration.line import (
    Controller,
    accepted_unjudged,
    check_heard,
    check_log,
    check_offered,
    code,
)
from tests.integration.proxy import KINDS, FaultProxy

FAULTS = 200
SEED = 9
RATE_HZ = 40
BACK_S = 1.0


class Offering(threading.Thread):
    """Offers units at a steady rate through the trouble; what it was told is its own record."""

    def __init__(self, endpoint, rate_hz=RATE_HZ):
        super().__init__(daemon=True)
        self.rate_hz = rate_hz
        self.offered = {}
        self.settled: list[Settlement] = []
        self.stopping = threading.Event()
        self.source = FrameSource(
            endpoint, name="line", budget_ms=1500, on_settled=self.settled.append
        )

    def run(self):
        while not self.stopping.wait(1 / self.rate_hz):
            trigger_id = len(self.offered) + 1
            bad = trigger_id % 5 == 0
            self.offered[trigger_id] = bad
            self.source.offer(BAD if bad else GOOD, trigger_id=trigger_id)

    def records(self):
        return [
            (one.trigger_id, one.vseq, (one.reason or one.outcome).value if one.outcome else None)
            for one in self.settled
        ]


def back_after(offering, controller):
    """Seconds until a unit offered from now on was settled and heard as a live verdict."""
    begun_ns = clock.now_ns()
    first = len(offering.offered) + 1
    while clock.now_ns() - begun_ns < 10e9:
        settled = any((one.trigger_id or 0) >= first for one in offering.settled[-400:])
        heard = any(
            (one.verdict.trigger_id or 0) >= first and not one.historical
            for one in controller.heard[-400:]
        )
        if settled and heard:
            return (clock.now_ns() - begun_ns) / 1e9
        threading.Event().wait(0.01)
    return 10.0


@pytest.mark.fault
@pytest.mark.timeout(500)
def test_two_hundred_faults_of_the_network_lose_nothing(open_bench):
    bench = open_bench(
        source="assured",
        recipe={"max_queue": 64, "latency_budget_ms": 1500.0},
        frames={"max_bytes": 64 * 1024, "slots": 80},
    )
    chance = random.Random(SEED)
    done: Counter[str] = Counter()
    back = []
    ports = [int(endpoint.rpartition(":")[2]) for endpoint in (bench.frames, bench.gate)]
    with FaultProxy(ports[0], SEED) as frames, FaultProxy(ports[1], SEED + 1) as gate:
        offering, controller = Offering(frames.endpoint), Controller(gate.endpoint)
        controller.start()
        offering.start()
        assert back_after(offering, controller) < 10
        for number in range(FAULTS):
            kind = KINDS[number % len(KINDS)]
            for proxy in chance.choice([(frames,), (gate,), (frames, gate)]):
                proxy.fault(kind)
            threading.Event().wait(chance.uniform(0.1, 0.5))
            frames.heal()
            gate.heal()
            back.append(back_after(offering, controller))
            done[kind] += 1
        offering.stopping.set()
        offering.join()
        assert offering.source.wait_all(timeout_ms=5000)
        head = Log(bench.folder / "state").head()
        assert controller.until(head) == head, controller.consumer.problem
        happened = frames.done + gate.done
        counts = offering.source.counts
        offering.source.close()
        controller.close()
    assert bench.station.stop() == 0
    rows = check_log(bench.folder)
    back.sort()
    print(f"seed {SEED}: {dict(done)}, seen to happen {dict(happened)}, offered "
          f"{len(offering.offered)}, verdicts {len(rows)}, {Counter(code(r.verdict) for r in rows)}, "
          f"back p50 {back[100]:.2f} p95 {back[190]:.2f} max {back[-1]:.2f} s, "
          f"reconnects {counts['reconnects']}, subscriptions {controller.consumer.counts}")  # fmt: skip
    assert sum(done.values()) == FAULTS
    assert set(happened) == set(KINDS)
    assert check_offered(rows, offering.offered, offering.records()) == []
    check_heard(rows, controller)
    assert accepted_unjudged(bench.folder) == 0
    assert back[-1] <= BACK_S
