"""What needs a GPU is skipped in the probe's own words where there is none; a skip is no pass."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_inspector.backends.builder import BuildOptions
from edge_inspector.backends.cuda import load_pycuda
from edge_inspector.backends.driver import Device, probe
from edge_inspector.backends.tensorrt import TensorRt, TensorRtRtx, TensorRtSession
from edge_inspector.errors import BackendMissing

MOST = 6
BACKENDS = {"tensorrt": TensorRt, "tensorrt_rtx": TensorRtRtx}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def device() -> Device:
    try:
        return probe()
    except BackendMissing as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def pycuda(device: Device) -> Any:
    try:
        return load_pycuda()
    except BackendMissing as reason:
        pytest.skip(str(reason))


@pytest.fixture(params=tuple(BACKENDS))
def backend(request: pytest.FixtureRequest, pycuda: Any) -> type[TensorRt]:
    """Each runtime that is installed."""
    found = BACKENDS[request.param]
    try:
        importlib.import_module(found.name)
    except ImportError as reason:
        pytest.skip(f"{reason}; {found.remedy}")
    return found


class Opener:
    """Opens sessions of one model in one runtime, with the plans kept in one folder."""

    def __init__(self, backend: type[TensorRt], model: bytes, cache: Path) -> None:
        self.backend, self.model, self.cache = backend, model, cache
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.sessions: list[TensorRtSession] = []

    def __call__(self, **options: Any) -> TensorRtSession:
        def tell(event: str, **facts: Any) -> None:
            self.told.append((event, facts))

        asked = {"options": BuildOptions(max_batch=MOST), "keep_warm_s": 3600.0, **options}
        session = self.backend(self.cache, tell=tell, **asked).open(self.model, threads=1)
        self.sessions.append(session)
        return session


@pytest.fixture
def opener(backend: type[TensorRt], model: bytes, tmp_path: Path) -> Iterator[Opener]:
    opening = Opener(backend, model, tmp_path / "plans")
    yield opening
    for session in opening.sessions:
        session.close()


@pytest.fixture(scope="session")
def model() -> bytes:
    """A small convolutional engine, float32, grey crops of 64 px: uint8 to score and map."""
    onnx = pytest.importorskip("onnx", reason="the graph is made with the onnx package")
    helper, kind = onnx.helper, onnx.TensorProto
    rng = np.random.default_rng(4)

    def constant(name: str, value: Any) -> Any:
        return onnx.numpy_helper.from_array(np.asarray(value), name)

    def weights(out: int, into: int) -> Any:
        return (rng.standard_normal((out, into, 3, 3)) / (3 * into**0.5)).astype(np.float32)

    conv = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}
    nodes = [
        helper.make_node("Cast", ["crops"], ["grey"], to=kind.FLOAT),
        helper.make_node("Transpose", ["grey"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "scale"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "w1"], ["c1"], **conv),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], **conv),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("ReduceMean", ["r2", "of_planes"], ["map"], keepdims=0),
        helper.make_node("ReduceMean", ["r2", "of_all"], ["score"], keepdims=0),
        helper.make_node("Mul", ["map", "white"], ["bright"]),
        helper.make_node("Clip", ["bright", "zero", "white"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["anomaly_map"], to=kind.UINT8),
    ]
    constants = [
        constant("scale", np.float32(1 / 255)),
        constant("white", np.float32(255)),
        constant("zero", np.float32(0)),
        constant("w1", weights(16, 1)),
        constant("w2", weights(32, 16)),
        constant("of_planes", np.array([1], np.int64)),
        constant("of_all", np.array([1, 2, 3], np.int64)),
    ]
    crops = helper.make_tensor_value_info("crops", kind.UINT8, ["n", 64, 64, 1])
    score = helper.make_tensor_value_info("score", kind.FLOAT, ["n"])
    cells = helper.make_tensor_value_info("anomaly_map", kind.UINT8, ["n", 16, 16])
    graph = helper.make_graph(nodes, "small", [crops], [score, cells], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())
