"""
A graph's heavy part in float16, as strongly typed networks need it: precision is the graph's own.

Preprocessing and the score stay float32, where sums of squares would leave float16's range, and
so does what reads a weight beyond it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
FLOAT32_ONLY = frozenset({"Cast", "Constant", "ConstantOfShape", "Range", "Resize"})
"""They state a type of their own, or have inputs that must be float32."""


def in_half(model: bytes) -> bytes:
    """The same graph, float16 from its first product with weights to its last."""
    whole = onnx.load_from_string(model)
    graph = onnx.shape_inference.infer_shapes(whole).graph
    rewriting = _Rewriting(whole.graph, _floats(graph), _between(graph))
    rewriting.run()
    del whole.graph.value_info[:]
    onnx.checker.check_model(whole, full_check=True)
    return bytes(whole.SerializeToString(deterministic=True))


def _floats(graph: Any) -> set[str]:
    """Names of all float32 tensors."""
    known = (*graph.value_info, *graph.input, *graph.output)
    kind = onnx.TensorProto.FLOAT
    tensors = {value.name for value in known if value.type.tensor_type.elem_type == kind}
    return tensors | {weight.name for weight in graph.initializer if weight.data_type == kind}


def _between(graph: Any) -> set[str]:
    """First outputs of the nodes that are heavy, or lie on a way from a heavy node to another."""
    wide = {weight.name for weight in graph.initializer if not _fits(weight)}
    after: set[str] = set()
    below: set[str] = set()
    for node in graph.node:
        if node.op_type in HEAVY or not below.isdisjoint(node.input):
            after.add(node.output[0])
            below.update(node.output)
    found: set[str] = set()
    above: set[str] = set()
    for node in reversed(graph.node):
        if node.op_type in HEAVY or not above.isdisjoint(node.output):
            above.update(node.input)
            free = node.op_type not in FLOAT32_ONLY and wide.isdisjoint(node.input)
            if free and node.output[0] in after:
                found.add(node.output[0])
    return found


def _fits(weight: Any) -> bool:
    if weight.data_type != onnx.TensorProto.FLOAT:
        return True
    largest = np.abs(onnx.numpy_helper.to_array(weight)).max(initial=0.0)
    return bool(largest <= np.finfo(np.float16).max)


class _Rewriting:
    """Puts a cast wherever a float tensor goes from one precision to the other, once a tensor."""

    def __init__(self, graph: Any, floats: set[str], half: set[str]) -> None:
        self.graph = graph
        self.floats = floats
        self.half = half
        self.weights = {weight.name: weight for weight in graph.initializer}
        self.outputs = {output.name for output in graph.output}
        self.halved: set[str] = set()
        """Tensors that are float16 under their own name."""
        self.cast: dict[tuple[str, bool], str] = {}
        self.nodes: list[Any] = []

    def run(self) -> None:
        """Rewrite the graph in place."""
        for node in list(self.graph.node):
            to_half = node.output[0] in self.half
            for index, name in enumerate(node.input):
                if name in self.floats:
                    node.input[index] = self._as(name, to_half)
            self.nodes.append(node)
            if to_half:
                self._halve_outputs(node)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        kept = [weight for weight in self.graph.initializer if weight.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _halve_outputs(self, node: Any) -> None:
        for index, name in enumerate(node.output):
            if name in self.outputs and name in self.floats:
                node.output[index] = f"{name} in half"
                self._add_cast(node.output[index], name, to_half=False)
                self.cast[name, True] = node.output[index]
            elif name in self.floats:
                self.halved.add(name)

    def _as(self, name: str, to_half: bool) -> str:
        """The tensor's name in the precision that is needed, cast when it is not there yet."""
        if (name in self.halved) == to_half:
            return name
        if (name, to_half) not in self.cast:
            made = f"{name} in half" if to_half else f"{name} in float"
            if name in self.weights:
                self._halve_weight(self.weights[name], made)
            else:
                self._add_cast(name, made, to_half=to_half)
            self.cast[name, to_half] = made
        return self.cast[name, to_half]

    def _halve_weight(self, weight: Any, made: str) -> None:
        halved = onnx.numpy_helper.to_array(weight).astype(np.float16)
        self.graph.initializer.append(onnx.numpy_helper.from_array(halved, made))

    def _add_cast(self, name: str, made: str, *, to_half: bool) -> None:
        kind = onnx.TensorProto.FLOAT16 if to_half else onnx.TensorProto.FLOAT
        self.nodes.append(onnx.helper.make_node("Cast", [name], [made], name=made, to=kind))
