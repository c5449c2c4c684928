"""An ONNX graph as rules and rewrites see it: shapes at one crop, constants, who makes and takes what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper, shape_inference

from edge_inspector.errors import EngineRefused

COMPUTE = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that multiply with weights: all others move data or change it in place."""
AGAIN = "export it again"
QUANTISING = ("QuantizeLinear", "DequantizeLinear")


class Graph:
    """
    A model with its free batch held at 1; shapes that only running it could tell are absent.

    `nodes` may be changed; `indexed` then says anew who makes and takes what.
    """

    def __init__(self, model: bytes) -> None:
        """Raises `EngineRefused` for what is no ONNX model."""
        self.proto = parsed(model)
        self.nodes: list[NodeProto] = list(self.proto.graph.node)
        self.constants = {value.name: value for value in self.proto.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = node.attribute[0].t
        self.inputs = [value.name for value in self.proto.graph.input]
        self.outputs = [value.name for value in self.proto.graph.output]
        self.shapes, self.types = _inferred(self.proto)
        self.indexed()

    def indexed(self) -> None:
        """Say anew who makes and who takes each value."""
        self.makers = {name: node for node in self.nodes for name in node.output if name}
        self.takers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                self.takers[name].append(node)

    def value(self, name: str) -> NDArray[Any] | None:
        """The constant of this name, None where it depends on the crop."""
        found = self.constants.get(name)
        try:
            return None if found is None else numpy_helper.to_array(found)
        except (TypeError, ValueError) as error:
            raise EngineRefused(f"its constant '{name}' is damaged: {error}; {AGAIN}") from error

    def add(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant; its name."""
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        self.proto.graph.initializer.append(self.constants[name])
        return name

    def flows(self, node: NodeProto) -> list[str]:
        """The inputs of a node that depend on the crop."""
        return [name for name in node.input if name and name not in self.constants]

    def size(self, names: Sequence[str]) -> int:
        """Bytes of values, for one crop, as far as their shapes are known."""
        known = [name for name in names if name in self.shapes]
        return sum(prod(self.shapes[name]) * self.types[name].itemsize for name in known)

    def moved(self, node: NodeProto) -> int:
        """Bytes that a node reads and writes for one crop."""
        return self.size([name for name in (*node.input, *node.output) if name])

    def work(self, node: NodeProto) -> int:
        """Floating point operations, two for a product and its sum, for one crop."""
        if node.op_type not in COMPUTE or not {node.output[0], *node.input[:2]} <= set(self.shapes):
            return 0
        first, weights = (self.shapes[name] for name in node.input[:2])
        if node.op_type == "MatMul":
            return 2 * prod(self.shapes[node.output[0]]) * first[-1]
        if node.op_type == "Gemm":
            return 2 * prod(weights) * self.shapes[node.output[0]][0]
        places = first if node.op_type == "ConvTranspose" else self.shapes[node.output[0]]
        return 2 * prod(weights) * prod(places[2:])


def parsed(model: bytes) -> onnx.ModelProto:
    """The model; raises `EngineRefused` for what is none."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        proto = onnx.load_from_string(model)
    except DecodeError as error:
        raise EngineRefused(f"is no ONNX model ({error}); give a model.onnx") from error
    nodes = proto.graph.node
    words = [word for n in nodes for word in (n.op_type, n.domain, n.name, *n.input, *n.output)]
    if not nodes or not all(isinstance(word, str) for word in words):
        raise EngineRefused("holds no graph, or a damaged one; give a model.onnx")
    if not 1 <= opset(proto) <= onnx.defs.onnx_opset_version():
        raise EngineRefused(
            f"is of opset {opset(proto)}, {onnx.defs.onnx_opset_version()} is the last that is "
            f"known; {AGAIN} with a lower one"
        )
    if any(value.data_location == onnx.TensorProto.EXTERNAL for value in proto.graph.initializer):
        raise EngineRefused("keeps weights in another file; save it in one, a model.onnx")
    return proto


def opset(proto: onnx.ModelProto) -> int:
    """The version of plain ONNX that a model is written in; 0 where it says none."""
    plain = [found.version for found in proto.opset_import if found.domain in ("", "ai.onnx")]
    return max(plain, default=0)


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """A node's attribute, texts as str; `default` where it is not given."""
    for found in node.attribute:
        if found.name == name:
            value = onnx.helper.get_attribute_value(found)
            return value.decode() if isinstance(value, bytes) else value
    return default


def _inferred(model: onnx.ModelProto) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    """Shapes and types of all values that are known when one crop is given."""
    single = onnx.ModelProto()
    single.CopyFrom(model)
    del single.graph.value_info[:]
    for value in single.graph.input:
        sides = value.type.tensor_type.shape.dim
        if sides and not sides[0].HasField("dim_value"):
            sides[0].dim_value = 1
    for value in single.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = shape_inference.infer_shapes(single, data_prop=True).graph
    except (shape_inference.InferenceError, UnicodeDecodeError) as error:
        told = str(error).splitlines()[0]
        raise EngineRefused(f"its shapes contradict each other: {told}; {AGAIN}") from error
    shapes: dict[str, tuple[int, ...]] = {}
    types: dict[str, Any] = {}
    for constant in inferred.initializer:
        shapes[constant.name] = tuple(constant.dims)
        types[constant.name] = _type(constant.data_type)
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        kind = value.type.tensor_type
        sides = kind.shape.dim
        if kind.HasField("shape") and all(side.HasField("dim_value") for side in sides):
            shapes[value.name] = tuple(side.dim_value for side in sides)
            types[value.name] = _type(kind.elem_type)
    return shapes, types


def _type(code: int) -> Any:
    if code not in onnx.TensorProto.DataType.values():
        raise EngineRefused(f"has values of type {code}, which is none; {AGAIN}")
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(code) if code else np.float32)
