"""A station that observes: everything is judged and logged, nothing is driven, the pair is kept."""

import json
import threading

import pytest

from edge_inspector import clock
from edge_inspector.cli.main import main
from edge_inspector.client import Publisher
from edge_inspector.observe.incumbents import read_said
from edge_inspector.outbox import Log
from edge_inspector.recipe import load_recipe
from edge_inspector.records import Baseline, Outcome
from edge_inspector.settings import load_settings
from edge_inspector.studies.harness import Station, free_port
from edge_inspector.studies.observed import observe
from edge_inspector.wire.codes import Flag
from tests.integration.conftest import BAD, GOOD, write_recipe
from tests.integration.line import Controller
from tests.observe.registers import Controller as Registers

PASS, FAIL = Outcome.PASS, Outcome.FAIL
PLUGIN = """
from pathlib import Path
class Acts:
    def __init__(self, out): Path(out).write_text("opened")
    def publish(self, row): pass
    def publish_state(self, head_vseq, state): pass
    def close(self): pass
"""


def wait(condition, seconds=10.0):
    give_up_ns = clock.now_ns() + int(seconds * 1e9)
    while not condition() and clock.now_ns() < give_up_ns:
        threading.Event().wait(0.02)
    return condition()


class Line:
    """A running station with a gate, a publisher and a plug-in that would act."""

    def __init__(self, open_bench, folder, monkeypatch, *, sink=None, **changes):
        (folder / "acting.py").write_text(PLUGIN)
        monkeypatch.setenv("PYTHONPATH", str(folder))
        self.opened = folder / "opened"
        gate = f"tcp://127.0.0.1:{free_port()}"
        sinks = [
            {"type": "assured", "endpoint": gate, **(sink or {})},
            {"type": "acting:Acts", "actuates": True, "options": {"out": str(self.opened)}},
        ]
        self.bench = open_bench(sinks=sinks, **changes)
        self.path = self.bench.station.path
        self.gate = Controller(gate, station="test")
        self.gate.start()
        assert wait(lambda: self.gate.consumer.state == "ready")
        self.publisher = Publisher(self.bench.frames)

    def play(self, *units):
        """(unit id, pixels, what the incumbent says) one after the other; all their verdicts."""
        first = len(self.gate.heard)
        for number, (unit_id, pixels, incumbent) in enumerate(units, first + 1):
            self.publisher.send(pixels, unit_id=unit_id, incumbent=incumbent)
            assert wait(lambda number=number: len(self.gate.heard) >= number)
        return [delivered.verdict for delivered in self.gate.heard[first:]]

    def observed(self, **keys):
        settings = load_settings(self.path)
        recipe = load_recipe(settings.recipe)
        pairs = observe(settings, recipe, **keys).pairs
        return {pair.unit_key.rpartition("/")[2]: pair for pair in pairs}

    def close(self):
        self.publisher.close()
        self.gate.close()


@pytest.fixture
def open_line(open_bench, tmp_path, monkeypatch):
    lines = []

    def start(**changes):
        lines.append(Line(open_bench, tmp_path, monkeypatch, **changes))
        return lines[-1]

    yield start
    for line in lines:
        line.close()


UNITS = [("g", GOOD, "pass"), ("b", BAD, "fail:dent"), ("x", BAD, "pass"), ("y", GOOD, "fail")]


def test_without_observing_the_gate_opens_and_the_plugin_acts(open_line):
    line = open_line()
    verdicts = line.play(*UNITS[:2])
    assert [v.outcome for v in verdicts] == [PASS, FAIL], [v.detail for v in verdicts]
    assert [d.verdict.unit_id for d in line.gate.acted] == ["g"]
    assert not verdicts[0].advisory
    assert line.opened.exists()
    assert read_said(line.bench.folder / "state") == {}


def test_a_recipe_that_observes_is_judged_and_drives_nothing(open_line):
    line = open_line(recipe={"observe": True})
    verdicts = line.play(*UNITS)
    assert [v.outcome for v in verdicts] == [PASS, FAIL, FAIL, PASS]
    assert all(v.advisory for v in verdicts)
    assert all(d.flags & Flag.TEST for d in line.gate.heard)
    assert line.gate.acted == []
    assert not line.opened.exists()
    assert [row.verdict.advisory for row in Log(line.bench.folder / "state").read(1, 9)] == [
        True
    ] * 4
    assert "nothing is driven" in line.bench.log()
    assert "not opened: acting:Acts" in line.bench.log()


def test_a_sink_that_observes_is_flagged_alone_and_others_go_on_driving(open_line):
    line = open_line(sink={"observe": True})
    (verdict,) = line.play(UNITS[0])
    assert not verdict.advisory
    assert line.gate.heard[0].flags & Flag.TEST
    assert line.gate.acted == []
    assert line.opened.exists()
    assert "still driving: acting:Acts" in line.bench.log()


class Observing(Station):
    def command(self):
        return [*super().command(), "--observe"]


def test_run_observe_is_that_for_one_run(open_line):
    line = open_line(kind=Observing)
    assert line.play(UNITS[0])[0].advisory
    assert line.gate.acted == []


def test_the_incumbents_verdict_in_the_metadata_makes_the_pair_with_its_picture(
    open_line, tmp_path, capsys
):
    line = open_line(recipe={"observe": True})
    line.play(*UNITS)
    assert wait(lambda: len(line.observed()) == 4 and line.observed()["y"].theirs is FAIL)
    pairs = line.observed()
    assert {unit: (p.ours, p.theirs, p.disagrees) for unit, p in pairs.items()} == {
        "g": (PASS, PASS, False), "b": (FAIL, FAIL, False),
        "x": (FAIL, PASS, True), "y": (PASS, FAIL, True),
    }  # fmt: skip
    assert pairs["b"].their_class == "dent"
    assert pairs["b"].their_ms is not None
    assert 0 <= pairs["b"].their_ms <= pairs["b"].our_ms
    assert wait(lambda: len(list((line.bench.folder / "rejects").glob("*u_test_y*.png"))) == 1)
    page = tmp_path / "page.html"
    assert main(["agreement", str(line.path), "--json", "--html", str(page)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["table"] == {"fail/fail": 1, "fail/pass": 1, "pass/fail": 1, "pass/pass": 1}
    assert sorted(d["unit"] for d in report["disagreements"]) == ["u:test/x", "u:test/y"]
    assert page.read_text(encoding="utf-8").count("data:image/") == 2


def test_a_line_controller_may_tell_the_incumbents_verdict_later(open_line):
    line = open_line(recipe={"observe": True})
    line.play(("y", GOOD, None), ("g", GOOD, None), ("n", GOOD, None))
    line.gate.consumer.incumbent(Baseline(FAIL, "dent"), unit_id="y")
    line.gate.consumer.incumbent(Baseline(PASS), unit_id="g")
    assert wait(lambda: line.observed()["g"].theirs is PASS)
    pairs = line.observed()
    assert (pairs["y"].theirs, pairs["y"].their_class) == (FAIL, "dent")
    assert pairs["y"].their_ms > pairs["y"].our_ms
    assert pairs["n"].theirs is None
    assert wait(lambda: len(list((line.bench.folder / "rejects").glob("*u_test_y*.png"))) == 1)
    assert not list((line.bench.folder / "rejects").glob("*u_test_g*.png"))


def test_the_incumbents_verdict_comes_from_registers_and_its_silence_is_told(open_line):
    plc = Registers()
    try:
        plc.say(1000, 1)
        asked = {"host": "127.0.0.1", "port": plc.port, "trigger": 0, "outcome": 2}
        line = open_line(observe=True, incumbent=asked | {"poll_ms": 5, "silent_s": 0.5})
        assert wait(lambda: plc.asked > 3)
        for number, outcome in ((1, 1), (2, 2)):
            line.publisher.send(GOOD, trigger_id=number)
            assert wait(lambda number=number: len(line.gate.heard) >= number)
            plc.say(number, outcome)
            assert wait(lambda number=number: line.observed()[str(number)].theirs is not None)
        assert {u: p.theirs for u, p in line.observed().items()} == {"1": PASS, "2": FAIL}
        plc.mute = True
        line.publisher.send(GOOD, trigger_id=3)
        assert wait(lambda: "incumbent_silent" in line.bench.log())
        assert line.observed()["3"].theirs is None
    finally:
        plc.close()


def test_another_recipe_judges_beside_and_drives_nothing(open_line, tiny_engine, tmp_path):
    (tmp_path / "old").mkdir()
    blind = write_recipe(tmp_path / "old", tiny_engine)
    text = blind.read_text(encoding="utf-8").replace("threshold = 3.0", "threshold = 9000.0")
    blind.write_text(text, encoding="utf-8")
    line = open_line(recipe={"shadow": str(blind)})
    good, bad = line.play(("g", GOOD, None), ("b", BAD, None))
    assert (good.outcome, good.shadow.outcome) == (PASS, PASS)
    assert (bad.outcome, bad.shadow.outcome) == (FAIL, PASS)
    assert bad.shadow.score == pytest.approx(bad.anomaly_score, rel=1e-3)
    assert bad.stages_us["shadow"] > 0
    assert [d.verdict.unit_id for d in line.gate.acted] == ["g"]
    assert line.observed(other="shadow")["b"].disagrees
