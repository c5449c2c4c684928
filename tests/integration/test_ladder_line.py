"""A line too fast for its recipe goes on by a lower step, and every verdict says so."""

import threading
from pathlib import Path

from edge_inspector.client import Listener, Publisher
from edge_inspector.records import Outcome
from edge_inspector.studies.bench_pipeline import core_stages_ms
from tests.conftest import write_engine
from tests.integration.conftest import BAD, GOOD, subscribed, write_recipe

UNITS = 8


def test_units_that_the_whole_recipe_would_make_late_are_judged_by_the_next_step(
    open_bench, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    small = write_engine(tmp_path / "small" / "1", side=16)
    quick = write_recipe(tmp_path, small, {"engines": {"tiny": str(small)}})
    bench = open_bench(
        recipe={
            "latency_budget_ms": 100.0,  # the whole takes 60 ms, and must be thought to fit twice
            "ladder": [{"name": "quick", "recipe": str(quick)}],
        },
        workers={"backends": ["slow_backend:SlowWhenLarge"]},
    )
    with Listener(bench.verdicts) as listener, Publisher(bench.frames) as line:
        assert subscribed(bench, listener)
        for number in range(UNITS):
            line.send(BAD if number % 2 else GOOD, unit_id=f"u{number}")
            threading.Event().wait(0.15)
        notes = bench.collect(listener, UNITS)
    told = {note.unit_id: note for note in notes}
    assert len(told) == UNITS
    assert {note.degraded for note in notes if note.unit_id != "u0"} == {("all but quick",)}
    for number in range(1, UNITS):
        expected = Outcome.FAIL if number % 2 else Outcome.PASS
        assert told[f"u{number}"].outcome is expected
    assert bench.station.stop() == 0
    stages = core_stages_ms(bench.station.log_path)
    assert stages["commit"]["count"] == stages["total"]["count"] == UNITS
