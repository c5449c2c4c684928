"""Lots from the frame to the count: what a frame names is in its verdict, and each unit counts once."""

import json

import pytest

from edge_inspector.cli.main import main
from edge_inspector.client import FrameSource, Listener, Publisher
from edge_inspector.errors import Misuse
from edge_inspector.outbox import Log
from edge_inspector.records import Outcome, Reason
from tests.integration.conftest import BAD, GOOD, subscribed
from tests.integration.test_assured_faults import until


def counted(bench, capsys):
    capsys.readouterr()
    assert main(["lots", str(bench.station.path), "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {lot["lot"]: (lot["passed"], sum(lot["failed"].values())) for lot in found}


def test_a_publisher_names_lots_and_a_bad_name_is_bad_input(bench, capsys):
    with Listener(bench.verdicts) as listener, Publisher(bench.frames) as line:
        assert subscribed(bench, listener)
        for number, (pixels, lot) in enumerate([(GOOD, "A"), (BAD, "A"), (GOOD, "B")]):
            line.send(pixels, unit_id=f"u{number}", lot=lot)
        line.send(GOOD, unit_id="u9", lot="no name!")
        heard = {note.unit_id: note for note in bench.collect(listener, 4)}
    assert [heard[f"u{n}"].lot for n in range(3)] == ["A", "A", "B"]
    assert heard["u9"].reason is Reason.BAD_INPUT
    assert "'no name!'" in heard["u9"].detail
    assert bench.station.stop() == 0
    found = counted(bench, capsys)
    assert (found["A"], found["B"]) == ((1, 1), (1, 0))


def test_an_assured_source_names_them_too_and_a_kill_counts_nothing_twice(open_bench, capsys):
    bench = open_bench(source="assured", recipe={"latency_budget_ms": 3000.0})
    with FrameSource(bench.frames, name="line") as source:
        until(lambda: source.link)
        for trigger_id in range(1, 9):
            source.offer(GOOD, trigger_id=trigger_id, lot="A" if trigger_id % 2 else None)
        assert source.wait_all(timeout_ms=10_000)
        until(lambda: counted(bench, capsys).get("A") == (4, 0))
        bench.station.kill()
        assert main(["lots", str(bench.station.path), "--begin", "C"]) == 0
        bench.station.start()
        until(lambda: source.link)
        for trigger_id in range(9, 12):
            source.offer(GOOD, trigger_id=trigger_id)
        assert source.wait_all(timeout_ms=10_000)
        with pytest.raises(Misuse, match="A-Z a-z 0-9"):
            source.offer(GOOD, trigger_id=12, lot="no name!")
    assert bench.station.stop() == 0
    assert counted(bench, capsys) == {"": (4, 0), "A": (4, 0), "C": (3, 0)}
    rows = Log(bench.folder / "state").read(1, 20)
    assert [row.verdict.lot for row in rows[:4]] == ["A", "", "A", ""]
    assert all(row.verdict.outcome is Outcome.PASS for row in rows)
