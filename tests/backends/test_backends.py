from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_inspector.backends import open_first, precision_of
from edge_inspector.bundle import open_engine
from edge_inspector.errors import BackendMissing, EngineRefused, Misuse, Uninspectable

REAL = ("openvino", "onnxruntime")


def _crops(count: int, side: int = 32, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.integers(0, 200, (count, side, side, channels), dtype=np.uint8)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("count", [1, 2, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_score_and_map_are_what_the_graph_says(
    tmp_path: Path, make_engine, name: str, count: int, channels: int
) -> None:
    engine = open_engine(make_engine(tmp_path / "e", channels=channels))
    chosen, session = open_first([name], engine.model, threads=1)
    crops = _crops(count, channels=channels)
    found = session.run(crops)
    deviation = np.abs(crops.astype(np.float64) - 100)
    cells = deviation.reshape(count, 8, 4, 8, 4, channels).mean(axis=(2, 4, 5))
    assert chosen == name
    assert found["score"].dtype == np.float32
    assert found["anomaly_map"].dtype == np.uint8
    np.testing.assert_allclose(found["score"], deviation.mean(axis=(1, 2, 3)) / 255, rtol=1e-5)
    assert np.abs(found["anomaly_map"] - cells).max() <= 1
    session.close()


@pytest.mark.parametrize("name", REAL)
def test_answers_of_one_run_outlive_the_next(tiny_engine: Path, name: str) -> None:
    _, session = open_first([name], open_engine(tiny_engine).model, threads=1)
    first = session.run(_crops(3))
    kept = first["score"].copy()
    session.run(np.full((3, 32, 32, 1), 7, np.uint8))
    np.testing.assert_array_equal(first["score"], kept)


@pytest.mark.parametrize("name", REAL)
def test_score_does_not_depend_on_the_other_crops(tiny_engine: Path, name: str) -> None:
    _, session = open_first([name], open_engine(tiny_engine).model, threads=1)
    crops = _crops(5)
    together = session.run(crops)["score"]
    alone = [session.run(crops[i : i + 1])["score"][0] for i in range(5)]
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("name", REAL)
def test_answers_do_not_depend_on_the_threads(tiny_engine: Path, name: str) -> None:
    model = open_engine(tiny_engine).model
    crops = _crops(9)
    _, session = open_first([name], model, threads=1)
    _, more = open_first([name], model, threads=2)
    for count in (9, 1, 4, 5, 2):
        one, other = session.run(crops[:count]), more.run(crops[:count])
        assert one.keys() == other.keys()
        for output in one:
            np.testing.assert_array_equal(one[output], other[output])


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize(
    "crops",
    [
        np.zeros((1, 16, 32, 1), np.uint8),
        np.zeros((1, 32, 32, 3), np.uint8),
        np.zeros((1, 32, 32, 1), np.float32),
        np.zeros((32, 32, 1), np.uint8),
        np.zeros((0, 32, 32, 1), np.uint8),
    ],
)
def test_wrong_crops_are_a_model_fault_and_the_next_run_passes(
    tiny_engine: Path, name: str, crops: np.ndarray
) -> None:
    _, session = open_first([name], open_engine(tiny_engine).model, threads=1)
    with pytest.raises(Uninspectable, match="the engine takes uint8") as caught:
        session.run(crops)
    assert caught.value.reason == "model_fault"
    assert session.run(_crops(1))["score"].shape == (1,)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("model", [b"", b"no graph", b"\x08\x0a" * 100])
def test_bytes_that_are_no_graph_are_refused(name: str, model: bytes) -> None:
    with pytest.raises(EngineRefused, match=name):
        open_first([name], model, threads=1)


@pytest.mark.parametrize("name", REAL)
def test_graph_with_a_float_input_is_refused(tiny_engine: Path, name: str) -> None:
    onnx = pytest.importorskip("onnx", reason="the graph is made with the onnx package")
    model = onnx.load_from_string(open_engine(tiny_engine).model)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    with pytest.raises(EngineRefused, match="uint8"):
        open_first([name], model.SerializeToString(), threads=1)


def test_first_that_is_installed_serves(tiny_engine: Path) -> None:
    model = open_engine(tiny_engine).model
    name, _ = open_first(["absent_runtime.backend:Thing", "onnxruntime"], model, threads=1)
    assert name == "onnxruntime"


def test_every_reason_is_told_when_none_opens() -> None:
    with pytest.raises(BackendMissing, match=r"absent_a.*absent_b"):
        open_first(["absent_a.x:Y", "absent_b.x:Y"], b"", threads=1)


def test_a_runner_names_its_precision(tiny_engine: Path, make_engine, tmp_path: Path) -> None:
    other = open_engine(make_engine(tmp_path / "other", level=50.0)).model
    models = {"float32": open_engine(tiny_engine).model, "int8": other}
    flat = np.full((1, 32, 32, 1), 50, np.uint8)
    for runner, score in (("openvino", 50 / 255), ("openvino:int8", 0.0)):
        name, session = open_first([runner], models, threads=1)
        assert name == runner
        assert session.run(flat)["score"][0] == pytest.approx(score, abs=1e-6)
        session.close()


def test_an_engine_without_the_precision_is_refused_and_the_next_serves(tiny_engine: Path) -> None:
    model = open_engine(tiny_engine).model
    with pytest.raises(EngineRefused, match=r"no int8 model.*engine quantise"):
        open_first(["openvino:int8"], model, threads=1)
    assert open_first(["openvino:int8", "onnxruntime"], model, threads=1)[0] == "onnxruntime"


def test_a_plug_in_may_be_asked_for_a_precision() -> None:
    assert precision_of("package.module:Thing") == ("package.module:Thing", "float32")
    assert precision_of("package.module:Thing:int8") == ("package.module:Thing", "int8")


def test_unknown_and_absent_names_are_misuse() -> None:
    with pytest.raises(Misuse, match="openvino"):
        open_first(["tensorflow"], b"", threads=1)
    with pytest.raises(Misuse, match="no backend"):
        open_first([], b"", threads=1)


def test_runtimes_are_imported_only_when_opened() -> None:
    code = (
        "import sys; import edge_inspector.backends.openvino, edge_inspector.backends.ort; "
        "sys.exit(bool({'openvino', 'onnxruntime'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_fake_scores_brightness() -> None:
    _, session = open_first(["fake"], b"", threads=1)
    crops = np.zeros((2, 20, 24, 1), np.uint8)
    crops[1, :8, :8] = 255
    found = session.run(crops)
    assert found["score"][0] == 0 < found["score"][1] < 1
    assert found["anomaly_map"].shape == (2, 2, 3)
    assert found["anomaly_map"][1, 0, 0] == 255 > found["anomaly_map"][1, 1, 1] == 0


LET_GO_ELSEWHERE = """
import os, signal, sys, threading
from pathlib import Path
from edge_inspector.backends import open_first

_, session = open_first(["openvino"], Path(sys.argv[1]).read_bytes(), threads=1)
sessions = [session]
del session
ended = threading.Thread(target=lambda: sessions.pop().close())
ended.start()
ended.join()
signal.signal(signal.SIGUSR1, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_a_signal_is_heard_after_another_thread_has_closed_openvino(tiny_engine: Path) -> None:
    command = [sys.executable, "-c", LET_GO_ELSEWHERE, str(tiny_engine / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout) == (0, "heard\n")
