"""Fixtures that several folders share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import pytest

from edge_inspector.bundle import Engine, open_engine, seal
from edge_inspector.manifest import (
    Challenge,
    Input,
    Manifest,
    Quantised,
    Statistics,
    Strange,
    Tail,
    Unknown,
)


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


def eight_bits(engine: Engine, off: float = 0.0) -> Quantised:
    """What a manifest says of a graph in eight bits that scores as the reference does, and `off`."""
    known = engine.manifest.challenge
    return Quantised(
        quantiser="by hand",
        calibration_crops=8,
        validation_crops=20,
        defects="known",
        recall_float32=0.9,
        recall_int8=0.9,
        good_score=known.good_score + off,
        bad_score=known.bad_score + off,
        tolerance=known.tolerance,
    )


def write_eight_bits(folder: Path) -> Path:
    """The sealed engine of the folder with its own graph as the one in eight bits."""
    engine = open_engine(folder)
    (folder / "model.int8.onnx").write_bytes(engine.model)
    (folder / "manifest.toml").unlink()
    seal(folder, engine.manifest.model_copy(update={"int8": eight_bits(engine)}))
    return folder


CLASSES = ("good", "bright", "dark")


def class_model(side: int, level: float) -> bytes:
    """Tells bright from dark marks by the pixels farthest from `level`; both at once are novel."""
    onnx = pytest.importorskip("onnx", reason="tiny engines are built with the onnx package")
    helper, kind = onnx.helper, onnx.TensorProto
    constants = [
        onnx.numpy_helper.from_array(np.asarray(value), name)
        for name, value in {
            "level": np.float32(level),
            "white": np.float32(255),
            "zero": np.float32(0),
            "calm": np.float32(0.1),
            "sure": np.float32(40),
            "whole": np.float32(1),
            "all": np.array([1, 2, 3], np.int64),
            "channel": np.array([3], np.int64),
            "one": np.array([1], np.int64),
            "first": np.array(0, np.int64),
        }.items()
    ]
    nodes = [
        helper.make_node("Cast", ["crops"], ["pixels"], to=kind.FLOAT),
        helper.make_node("Sub", ["pixels", "level"], ["grey"]),
        helper.make_node("Div", ["grey", "white"], ["signed"]),
        helper.make_node("Neg", ["signed"], ["turned"]),
        helper.make_node("ReduceMax", ["signed", "all"], ["bright"], keepdims=0),
        helper.make_node("ReduceMax", ["turned", "all"], ["dark"], keepdims=0),
        helper.make_node("Mul", ["bright", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "calm"], ["good"]),
        *(helper.make_node("Unsqueeze", [name, "one"], [f"{name} column"]) for name in CLASSES),
        helper.make_node("Concat", [f"{name} column" for name in CLASSES], ["marks"], axis=1),
        helper.make_node("Mul", ["marks", "sure"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("Gather", ["probabilities", "first"], ["fine"], axis=1),
        helper.make_node("Sub", ["whole", "fine"], ["score"]),
        helper.make_node("Min", ["bright", "dark"], ["novelty"]),
        helper.make_node("Abs", ["grey"], ["deviation"]),
        helper.make_node("ReduceMean", ["deviation", "channel"], ["flat"], keepdims=0),
        helper.make_node("Unsqueeze", ["flat", "one"], ["planes"]),
        helper.make_node("AveragePool", ["planes"], ["cells"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Squeeze", ["cells", "one"], ["squeezed"]),
        helper.make_node("Cast", ["squeezed"], ["anomaly_map"], to=kind.UINT8),
    ]
    given = helper.make_tensor_value_info("crops", kind.UINT8, ["n", side, side, 1])
    answers = [
        helper.make_tensor_value_info("score", kind.FLOAT, ["n"]),
        helper.make_tensor_value_info("anomaly_map", kind.UINT8, ["n", side // 4, side // 4]),
        helper.make_tensor_value_info("probabilities", kind.FLOAT, ["n", len(CLASSES)]),
        helper.make_tensor_value_info("novelty", kind.FLOAT, ["n"]),
    ]
    graph = helper.make_graph(nodes, "classes", [given], answers, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write_class_engine(folder: Path, *, side: int = 32, square: bool = False) -> Path:
    """A sealed classifier `kinds/1` that knows bright and dark marks on a level of 100."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(class_model(side, 100.0))
    good = np.full((side, side), 100, np.uint8)
    bad = good.copy()
    bad[: side // 4, : side // 4] = 200
    cv2.imwrite(str(folder / "good.png"), good)
    cv2.imwrite(str(folder / "bad.png"), bad)
    calm, bright = math.exp(4), math.exp(40 * 100 / 255)
    no_mark = math.exp(0)
    limit = Strange(
        limit=3.0, doubt=Tail(usual=0.5, scale=0.1), novelty=Tail(usual=0.05, scale=0.05)
    )
    draft = Manifest(
        name="kinds",
        version=1,
        kind="classifier",
        architecture="extremes",
        score="1 - probability of good",
        opset=18,
        input=Input(height=side, width=side, channels=1, square=square),
        outputs=("score", "anomaly_map", "probabilities", "novelty"),
        classes=CLASSES,
        challenge=Challenge(
            good="good.png",
            bad="bad.png",
            good_score=1 - calm / (calm + 2 * no_mark),
            bad_score=1 - calm / (calm + bright + no_mark),
            tolerance=1e-4,
        ),
        statistics=Statistics(count=0, median=0.0, spread=1.0, p99=0.0, maximum=0.0),
        unknown=Unknown(good=limit, defects=limit),
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


@pytest.fixture
def tiny_classifier(tmp_path: Path) -> Path:
    """Folder of a tiny sealed classifier, `kinds/1`: bright and dark marks on a level of 100."""
    return write_class_engine(tmp_path / "kinds" / "1")
