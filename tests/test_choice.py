from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edge_inspector.bundle import Engine, open_engine
from edge_inspector.choice import Runtimes, candidates, in_turn, open_runner
from edge_inspector.errors import EngineRefused, Misuse
from tests.conftest import eight_bits

AUTO = ("auto",)


def _heavier(model: bytes) -> bytes:
    """The same scores, after convolutions whose answer adds less than a millionth."""
    onnx = pytest.importorskip("onnx", reason="the graph is made with the onnx package")
    helper, array = onnx.helper, onnx.numpy_helper.from_array
    rng = np.random.default_rng(0)
    proto = onnx.load_from_string(model)
    graph = proto.graph
    weights = [rng.normal(0, 0.02, (64, c, 5, 5)).astype(np.float32) for c in (1, 64, 64)]
    graph.initializer.extend(array(w, f"w{i}") for i, w in enumerate(weights))
    graph.initializer.extend([array(np.float32(1e-12), "tiny"), array(np.array([1, 2, 3]), "rest")])
    score = next(node for node in graph.node if node.output[0] == "score")
    score.output[0] = "light"
    names = ["planes", "c0", "c1", "c2"]
    graph.node.extend(
        helper.make_node("Conv", [names[i], f"w{i}"], [names[i + 1]], pads=[2, 2, 2, 2])
        for i in range(3)
    )
    graph.node.extend(
        [
            helper.make_node("ReduceMean", ["c2", "rest"], ["much"], keepdims=0),
            helper.make_node("Mul", ["much", "tiny"], ["little"]),
            helper.make_node("Add", ["light", "little"], ["score"]),
        ]
    )
    return bytes(proto.SerializeToString())


def _two(engine: Engine, int8: bytes, float32: bytes | None = None, off: float = 0.0) -> Engine:
    """The engine with a graph in eight bits, whose scores are said to be `off` by so much."""
    models = {"float32": float32 or engine.model, "int8": int8}
    manifest = engine.manifest.model_copy(update={"int8": eight_bits(engine, off)})
    return dataclasses.replace(engine, manifest=manifest, models=models)


@pytest.fixture
def engine(tiny_engine: Path) -> Engine:
    return open_engine(tiny_engine)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def runtimes(tmp_path: Path, told: list[str]) -> Runtimes:
    return Runtimes(AUTO, 1, tmp_path / "store", told.append)


def _note(runtimes: Runtimes) -> Path:
    assert runtimes.store is not None
    (found,) = (runtimes.store / "runners").iterdir()
    return found


def _chosen(engine: Engine, runtimes: Runtimes, precision=None, crops=1) -> str:
    runner, session = open_runner(engine, runtimes, precision=precision, crops=crops)
    assert session.run(engine.bad[np.newaxis])["score"][0] == pytest.approx(
        engine.manifest.challenge.bad_score, abs=1e-4
    )
    session.close()
    return runner


def test_the_fastest_serves_and_is_kept_with_what_was_measured(engine, runtimes, told):
    runner = _chosen(engine, runtimes, crops=4)
    kept = json.loads(_note(runtimes).read_text())
    assert kept["runner"] == runner == min(kept["times_ms"], key=kept["times_ms"].get)
    assert {"openvino", "onnxruntime"} <= kept["times_ms"].keys()
    assert kept["times_ms"].keys() | kept["refused"].keys() == set(candidates(engine))
    assert kept["key"]["engine"] == engine.digest
    assert kept["key"]["crops"] == 4
    assert len(told) == 1
    assert "nothing was measured yet" in told[0]
    assert f"{runner} is the fastest of" in told[0]


def test_a_lighter_graph_wins_whatever_its_precision(engine, runtimes):
    heavy = _heavier(engine.model)
    assert _chosen(_two(engine, int8=heavy), runtimes).endswith(":int8") is False
    _note(runtimes).unlink()
    assert _chosen(_two(engine, int8=engine.model, float32=heavy), runtimes).endswith(":int8")


def test_what_was_measured_serves_without_measuring_again(engine, runtimes, told):
    _chosen(engine, runtimes)
    note = _note(runtimes)
    kept = json.loads(note.read_text())
    slower = max(kept["times_ms"], key=kept["times_ms"].get)
    note.write_text(json.dumps({**kept, "runner": slower}))
    assert _chosen(engine, runtimes) == slower
    assert len(told) == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda kept: "", "nothing was measured yet"),
        (lambda kept: json.dumps(kept)[:-40], "is damaged"),
        (lambda kept: "\x00\xff" * 100, "is damaged"),
        (lambda kept: json.dumps({**kept, "times_ms": "fast"}), "is damaged"),
        (lambda kept: json.dumps({**kept, "runner": "os:system"}), "names 'os:system'"),
        (lambda kept: json.dumps({**kept, "runner": "tensorrt"}), "tensorrt serves no more"),
        (lambda kept: _rekeyed(kept, engine="0" * 64), "changed since it was measured: engine"),
        (lambda kept: _rekeyed(kept, processor="i486"), "measured: processor"),
        (lambda kept: _rekeyed(kept, versions={"openvino": "2020.1"}), "measured: versions"),
    ],
)
def test_what_does_not_hold_is_measured_again_and_told(engine, runtimes, told, change, why):
    _chosen(engine, runtimes)
    note = _note(runtimes)
    kept = json.loads(note.read_text())
    note.write_text(change(kept))
    runner = _chosen(engine, runtimes)
    assert why in told[1]
    now = json.loads(note.read_text())
    assert (now["runner"], now["key"]) == (runner, kept["key"])


def _rekeyed(kept, **changes):
    return json.dumps({**kept, "key": {**kept["key"], **changes}})


def test_a_runner_that_disagrees_with_training_does_not_serve(engine, runtimes, told):
    heavy = _heavier(engine.model)
    engine = _two(engine, int8=engine.model, float32=heavy, off=0.01)
    assert not _chosen(engine, runtimes).endswith(":int8")
    refused = json.loads(_note(runtimes).read_text())["refused"]
    for runner in ("openvino:int8", "onnxruntime:int8"):
        assert "challenge crop scores" in refused[runner]
        assert f"{runner} does not serve" in told[0]


def test_none_serves_where_all_disagree(engine, runtimes):
    stated = engine.manifest.challenge.model_copy(update={"good_score": 0.7})
    wrong = engine.manifest.model_copy(update={"challenge": stated})
    with pytest.raises(EngineRefused, match=r"(?s)tiny/1 as training did.*openvino.*onnxruntime"):
        open_runner(dataclasses.replace(engine, manifest=wrong), runtimes)
    assert not _note(runtimes).read_bytes()


WITHOUT_RUNTIMES = """
import sys
from pathlib import Path
for name in ("openvino", "onnxruntime", "tensorrt", "tensorrt_rtx"):
    sys.modules[name] = None
from edge_inspector.bundle import open_engine
from edge_inspector.choice import Runtimes, open_runner
from edge_inspector.errors import BackendMissing
try:
    open_runner(open_engine(Path(sys.argv[1])), Runtimes(("auto",)))
except BackendMissing as error:
    print(error)
"""


def test_a_box_without_any_runtime_says_what_to_install(tiny_engine):
    command = [sys.executable, "-c", WITHOUT_RUNTIMES, str(tiny_engine)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
    assert "no runtime is installed that could run tiny/1" in done.stdout
    assert "install 'openvino'" in done.stdout


def test_one_precision_may_be_asked_for(engine, runtimes):
    two = _two(engine, int8=_heavier(engine.model))
    assert _chosen(two, runtimes, precision="int8").endswith(":int8")
    assert not _chosen(two, runtimes, precision="float32").endswith(":int8")
    assert not _chosen(engine, runtimes, precision="int8").endswith(":int8")


def test_a_folder_that_cannot_be_written_costs_no_start(engine, runtimes, tmp_path, told):
    (tmp_path / "store").write_text("a file where the folder should be")
    _chosen(engine, runtimes)
    _chosen(engine, runtimes)
    assert len(told) == 2
    assert all("no choice can be kept in" in sentence for sentence in told)


def test_workers_that_start_together_measure_once(engine, runtimes, told):
    with ThreadPoolExecutor(2) as both:
        found = list(both.map(lambda _: _chosen(engine, runtimes), range(2)))
    assert found[0] == found[1]
    assert len(told) == 1


def test_auto_stands_alone(engine):
    with pytest.raises(Misuse, match="'auto' stands alone"):
        open_runner(engine, Runtimes(("openvino", "auto")))


def test_runs_are_timed_in_turn_and_end_in_time():
    order = []
    spent = in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 5)
    assert order == ["a", "b", "b", "a"] * 4
    assert {name: len(times) for name, times in spent.items()} == {"a": 5, "b": 5}
    assert len(in_turn({"a": lambda: None}, 1000, longest_ns=0)["a"]) == 3
