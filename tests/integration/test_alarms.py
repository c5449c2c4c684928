"""A station that rejects too many: its gate shuts, its verdicts stay, and a reset opens it again."""

import json

import pytest

from edge_inspector import clock
from edge_inspector.cli.main import main
from edge_inspector.client import FrameSource, VerdictConsumer
from edge_inspector.records import Outcome, Reason
from tests.integration.conftest import BAD, GOOD
from tests.integration.test_assured_faults import until


class Line:
    """One part at a time: its frame is offered, and its verdict comes to the gate."""

    def __init__(self, bench, source, verdicts):
        self.bench, self.source, self.verdicts = bench, source, verdicts
        self.trigger_id = 0

    def part(self, pixels):
        self.trigger_id += 1
        self.source.offer(pixels, trigger_id=self.trigger_id)
        delivered = self.verdicts.receive(5000)
        assert delivered.verdict.trigger_id == self.trigger_id
        return delivered

    def passes(self, delivered):
        return self.verdicts.lets_through(delivered, trigger_id=delivered.verdict.trigger_id)


@pytest.fixture
def line(open_bench):
    bench = open_bench(
        source="assured", alarms={"in_a_row": {"rejects": 3}}, recipe={"latency_budget_ms": 3000.0}
    )
    with (
        FrameSource(bench.frames, name="line") as source,
        VerdictConsumer(bench.gate, consumer="plc", station="test") as verdicts,
    ):
        until(lambda: verdicts.state == "ready" and source.link)
        yield Line(bench, source, verdicts)


def test_three_rejects_in_a_row_shut_the_gate_until_somebody_resets_it(line, capsys):
    assert line.passes(line.part(GOOD))
    for _ in range(3):
        assert line.part(BAD).verdict.outcome is Outcome.FAIL
    until(lambda: line.verdicts.state == "fault")
    good = line.part(GOOD)
    assert good.verdict.outcome is Outcome.PASS
    assert not line.passes(good)

    line.bench.station.kill()
    line.bench.station.start()
    until(lambda: line.verdicts.state == "fault", 10)
    assert not line.passes(line.part(GOOD))

    station = str(line.bench.station.path)
    capsys.readouterr()
    assert main(["alarms", station, "--json"]) == 1
    [raised] = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert (raised["kind"], raised["holds"], raised["vseq"]) == ("in_a_row", True, 4)
    assert main(["alarms", station, "--reset", "--by", "mia"]) == 0
    until(lambda: line.verdicts.state == "ready")
    assert line.passes(line.part(GOOD))
    assert main(["alarms", station]) == 0
    assert "reset by mia" in capsys.readouterr().out
    assert main(["alarms", station, "--reset"]) == 2
    assert '"alarm_reset"' in line.bench.log()


def test_an_announced_part_that_nobody_sees_is_answered_at_its_deadline(line):
    announced_ns = clock.now_ns()
    line.verdicts.expect(77)
    delivered = line.verdicts.receive(6000)
    took_ms = (clock.now_ns() - announced_ns) / 1e6
    verdict = delivered.verdict
    assert (verdict.trigger_id, verdict.reason) == (77, Reason.NO_IMAGE)
    assert not line.passes(delivered)
    assert 3000 <= took_ms < 4000
