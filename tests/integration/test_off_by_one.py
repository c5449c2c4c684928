"""
Numbered units through a real station, its Modbus gateway and a simulated controller.

CI size; `python -m bench.bench_offbyone` runs 20,000 units with a kill each 20 s.
"""

from pathlib import Path

import pytest

pytest.importorskip("pymodbus", reason="the off-by-one drill is not run: pymodbus is missing")

from bench import bench_offbyone
from bench.bench_offbyone import VICTIMS, Drill, sound
from bench.offbyone_camera import FAULTS
from bench.offbyone_reader import draw, number_in, read
from edge_inspector.simulator.plc import PlcLogic

pytestmark = [pytest.mark.fault, pytest.mark.slow]
UNITS, RATE_HZ, EVERY_S = 1500, 25.0, 12.0
CONTROL_UNITS = 250


@pytest.fixture(autouse=True)
def _reader_is_found(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(bench_offbyone.__file__).parent))


def test_what_is_drawn_is_what_is_read():
    for number in (1, 2, 1023, 20_000, 2**20 - 1):
        for defective in (False, True):
            score = read(draw(number, defective=defective))
            assert score is not None
            assert number_in(score) == number
            assert (score >= 150_000) == defective
    spoilt = draw(7, defective=False)
    spoilt[:4, :4] = 140 - (spoilt[0, 0] - 60)
    assert read(spoilt) is None


@pytest.mark.timeout(240)
def test_no_verdict_reaches_another_unit_whatever_is_lost_late_or_killed(tmp_path):
    drill = Drill(tmp_path / "station", UNITS, RATE_HZ, seed=7)
    drill.run(EVERY_S)
    report = drill.report()
    print(report)
    assert report["units"] == UNITS
    assert report["defective"] > 0.05 * UNITS
    assert min(report["faults"][fault] for fault in FAULTS) >= 5
    assert set(report["kills"]) == set(VICTIMS)
    assert report["escapes"] == []
    assert report["wrong_unit"] == []
    assert report["excess_rejects"] <= report["allowed"]
    assert report["passed"] > 0.5 * UNITS
    assert sound(report)


class Careless(PlcLogic):
    """A controller that gives each result to the oldest part without one."""

    def _judge(self, trigger_id: int, good: bool) -> None:
        for place in reversed(range(len(self.belt))):
            if self.belt[place].part and not self.belt[place].seen:
                self.belt[place] = self.belt[place]._replace(seen=True, good=good)
                return


@pytest.mark.timeout(120)
def test_a_controller_that_does_not_compare_numbers_lets_defective_units_through(tmp_path):
    """The negative control: results in order, and units announced by nobody."""
    drill = Drill(tmp_path / "station", CONTROL_UNITS, RATE_HZ, seed=3, fault_rate=0.03)
    careless = Careless(len(drill.line.logic.belt))
    drill.line.logic = careless
    drill.run(0)
    assert drill.report()["escapes"]


@pytest.mark.timeout(120)
def test_a_frozen_camera_that_may_repeat_gives_verdicts_of_other_units(tmp_path):
    """The negative control: without `refuse_repeats` a frozen picture is judged."""
    drill = Drill(
        tmp_path / "station",
        CONTROL_UNITS,
        RATE_HZ,
        seed=3,
        refuse_repeats=False,
        fault_rate=0.03,
    )
    drill.run(0)
    assert drill.report()["wrong_unit"]
