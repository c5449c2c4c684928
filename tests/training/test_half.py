"""Graphs with their heavy part in float16, on ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_inspector.training.half import in_half
from tests.families import crops, exported


def run(model: bytes, batch: np.ndarray) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"crops": batch}), strict=True))


def small(last: float = 3.0, then: str = "Relu") -> bytes:
    """Two convolutions with something between them, a square and a largest value after them."""
    rng = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {
        "one": rng.normal(size=(4, 1, 3, 3)).astype(np.float32) / 255,
        "two": rng.normal(size=(1, 4, 3, 3)).astype(np.float32),
        "last": np.array(last, np.float32),
        "axes": np.array([1, 2, 3], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["crops"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "one"], ["seen"]),
        helper.make_node(then, ["seen"] if then == "Relu" else ["seen", "last"], ["between"]),
        helper.make_node("Conv", ["between", "two"], ["found"]),
        helper.make_node("Mul", ["found", "found"], ["squares"]),
        helper.make_node("ReduceMax", ["squares", "axes"], ["score"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("crops", TensorProto.UINT8, ["n", 16, 16, 1])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"]),
            helper.make_tensor_value_info("found", TensorProto.FLOAT, ["n", 1, 12, 12]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def types_of(model: bytes) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(model)).graph
    return {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}


CROPS = np.random.default_rng(1).integers(0, 255, (4, 16, 16, 1), dtype=np.uint8)


def test_only_what_lies_between_products_of_weights_is_half() -> None:
    found = types_of(in_half(small()))
    half = {name for name, kind in found.items() if kind == TensorProto.FLOAT16}
    assert half == {"planes in half", "seen", "between", "found in half"}
    assert found["squares"] == TensorProto.FLOAT


def test_the_answers_are_those_of_the_graph_but_for_rounding() -> None:
    whole, half = run(small(), CROPS), run(in_half(small()), CROPS)
    assert half["score"].dtype == half["found"].dtype == np.float32
    np.testing.assert_allclose(half["found"], whole["found"], atol=5e-3)
    assert not np.array_equal(half["found"], whole["found"])


def test_weights_take_half_the_bytes_and_are_kept_once() -> None:
    model = onnx.load_from_string(in_half(small()))
    kinds = {weight.name: weight.data_type for weight in model.graph.initializer}
    assert kinds == {
        "one in half": TensorProto.FLOAT16,
        "two in half": TensorProto.FLOAT16,
        "axes": TensorProto.INT64,
    }


@pytest.mark.parametrize("last", [1e6, np.inf])
def test_what_reads_a_weight_beyond_float16_stays_float32(last: float) -> None:
    half = in_half(small(last, then="Min"))
    assert types_of(half)["between"] == TensorProto.FLOAT
    found = run(half, CROPS)["found"]
    np.testing.assert_allclose(found, run(small(last, then="Min"), CROPS)["found"], atol=5e-3)


def test_no_graph_changes_where_nothing_is_heavy(tiny_engine) -> None:
    model = (tiny_engine / "model.onnx").read_bytes()
    batch = np.full((1, 32, 32, 1), 7, np.uint8)
    assert run(in_half(model), batch)["score"] == run(model, batch)["score"]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("family", ["lean", "scnn02"])
def test_an_exported_graph_scores_as_before(family: str) -> None:
    model = exported(family)
    batch = crops().train.numpy()
    whole, half = run(model, batch), run(in_half(model), batch)
    np.testing.assert_allclose(half["score"], whole["score"], rtol=5e-3, atol=5e-3)
