"""Fixtures that several folders share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import pytest

from edge_inspector.bundle import seal
from edge_inspector.manifest import Challenge, Input, Manifest, Statistics


class MakeEngine(Protocol):
    def __call__(
        self, folder: Path, *, side: int = 32, channels: int = 1, level: float = 100.0
    ) -> Path: ...


def deviation_model(side: int, channels: int, level: float) -> bytes:
    """Scores the mean absolute deviation from `level` in 0..1, and NaN for an all-white crop."""
    onnx = pytest.importorskip("onnx", reason="tiny engines are built with the onnx package")
    helper, kind = onnx.helper, onnx.TensorProto

    def constant(name: str, value: Any):
        return onnx.numpy_helper.from_array(np.asarray(value), name)

    nodes = [
        helper.make_node("Cast", ["crops"], ["pixels"], to=kind.FLOAT),
        helper.make_node("Sub", ["pixels", "level"], ["signed"]),
        helper.make_node("Abs", ["signed"], ["deviation"]),
        helper.make_node("ReduceMean", ["deviation", "all"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "white"], ["plain"]),
        helper.make_node("ReduceMean", ["pixels", "all"], ["brightness"], keepdims=0),
        helper.make_node("Sub", ["almost", "brightness"], ["dark"]),
        helper.make_node("Sqrt", ["dark"], ["root"]),
        helper.make_node("Mul", ["root", "zero"], ["poison"]),
        helper.make_node("Add", ["plain", "poison"], ["score"]),
        helper.make_node("ReduceMean", ["deviation", "channel"], ["grey"], keepdims=0),
        helper.make_node("Unsqueeze", ["grey", "one"], ["planes"]),
        helper.make_node("AveragePool", ["planes"], ["cells"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Squeeze", ["cells", "one"], ["flat"]),
        helper.make_node("Cast", ["flat"], ["anomaly_map"], to=kind.UINT8),
    ]
    constants = [
        constant("level", np.float32(level)),
        constant("white", np.float32(255)),
        constant("almost", np.float32(254.9)),
        constant("zero", np.float32(0)),
        constant("all", np.array([1, 2, 3], np.int64)),
        constant("channel", np.array([3], np.int64)),
        constant("one", np.array([1], np.int64)),
    ]
    crops = helper.make_tensor_value_info("crops", kind.UINT8, ["n", side, side, channels])
    score = helper.make_tensor_value_info("score", kind.FLOAT, ["n"])
    cells = helper.make_tensor_value_info("anomaly_map", kind.UINT8, ["n", side // 4, side // 4])
    graph = helper.make_graph(nodes, "deviation", [crops], [score, cells], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write_engine(folder: Path, *, side: int = 32, channels: int = 1, level: float = 100.0) -> Path:
    """A sealed engine `tiny/1` whose crops are good when they are all `level`."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(deviation_model(side, channels, level))
    good = np.full((side, side, channels), level, np.uint8)
    bad = good.copy()
    bad[: side // 4, : side // 4] = 200
    cv2.imwrite(str(folder / "good.png"), good)
    cv2.imwrite(str(folder / "bad.png"), bad)
    (folder / "figures.json").write_text("{}\n")
    draft = Manifest(
        name="tiny",
        version=1,
        kind="anomaly",
        architecture="deviation",
        score="mean absolute deviation",
        opset=18,
        input=Input(height=side, width=side, channels=1 if channels == 1 else 3),
        outputs=("score", "anomaly_map"),
        challenge=Challenge(
            good="good.png",
            bad="bad.png",
            good_score=0.0,
            bad_score=(200 - level) / 255 / 16,
            tolerance=1e-4,
        ),
        statistics=Statistics(count=0, median=0.0, spread=1.0, p99=0.0, maximum=0.0),
        training_data_sha256="0" * 64,
        seed=0,
        created_utc="2026-01-01T00:00:00.000+00:00",
        files={},
    )
    seal(folder, draft)
    return folder


@pytest.fixture
def make_engine() -> MakeEngine:
    """Writes a tiny sealed engine into a folder."""
    return write_engine


@pytest.fixture
def tiny_engine(tmp_path: Path) -> Path:
    """Folder of a tiny sealed engine, `tiny/1`: 32x32 grey, all pixels 100 are good."""
    return write_engine(tmp_path / "tiny" / "1")
