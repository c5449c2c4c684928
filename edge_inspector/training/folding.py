"""Rewrites that take work out of a graph: what does nothing goes, what weights can do goes into them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray
from onnx import NodeProto

from edge_inspector.training.graph_walk import Graph, attribute

LAYOUT = ("Reshape", "Transpose", "Unsqueeze", "Squeeze", "Flatten")
"""Operators that only say anew where values lie."""
NEUTRAL = {"Sub": 0, "Add": 0, "Mul": 1, "Div": 1}
"""What a second operand must be for the first to stay as it is."""
REDUCING = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")

Change = Callable[[NDArray[Any]], NDArray[Any]]
"""Weights of a convolution to those that do another node's work too."""


def cast_first(graph: Graph) -> None:
    """Cast bytes before they are reshaped or transposed: TensorRT takes bytes into a Cast only."""
    for name in graph.inputs:
        path = _layout_to_cast(graph, name)
        if not path:
            continue
        *moves, cast = path
        last = cast.output[0]
        cast.input[0], moves[0].input[0] = name, f"{name}_cast"
        cast.output[0] = f"{name}_cast"
        moves[-1].output[0] = last
        graph.nodes.remove(cast)
        graph.nodes.insert(graph.nodes.index(moves[0]), cast)
        if name in graph.shapes and last in graph.types:
            graph.shapes[f"{name}_cast"] = graph.shapes[name]
            for value in (f"{name}_cast", *(move.output[0] for move in moves)):
                graph.types[value] = graph.types[last]


def _layout_to_cast(graph: Graph, name: str) -> list[NodeProto]:
    """The nodes from an input to its Cast where only layout lies between, and something does."""
    path: list[NodeProto] = []
    while len(graph.takers[name]) == 1:
        path.append(graph.takers[name][0])
        if path[-1].op_type == "Cast":
            return path if len(path) > 1 else []
        if path[-1].op_type not in LAYOUT or path[-1].output[0] in graph.outputs:
            return []
        name = path[-1].output[0]
    return []


def keep_batch(graph: Graph) -> None:
    """
    Let reshapes copy the batch's side (0) instead of working it out (-1).

    What is worked out has no name: ONNX Runtime then no longer knows two values to be of one shape,
    and adds and activates in nodes of their own what it would within a convolution.
    """
    for node in graph.nodes:
        sides = graph.value(node.input[1]) if node.op_type == "Reshape" else None
        if sides is None or not sides.size or sides[0] != -1 or 0 in sides:
            continue
        before, after = (graph.shapes.get(name) for name in (node.input[0], node.output[0]))
        if before is not None and after is not None and before[:1] == after[:1] == (1,):
            kept = sides.copy()
            kept[0] = 0
            del node.attribute[:]  # allowzero, which would read the 0 as a side without length
            node.input[1] = graph.add(f"{node.output[0]}_sides", kept)


def drop_idle(graph: Graph) -> None:
    """Take out what gives its input as it is: less 0, times 1, the mean of one value."""
    for node in list(graph.nodes):
        name = node.output[0]
        if is_idle(graph, node) and name not in graph.outputs:
            for taker in graph.takers[name]:
                taker.input[:] = [graph.flows(node)[0] if i == name else i for i in taker.input]
            graph.nodes.remove(node)
            graph.indexed()


def is_idle(graph: Graph, node: NodeProto) -> bool:
    """Whether a node gives its one input as it is."""
    flowing = graph.flows(node)
    if len(flowing) != 1 or graph.shapes.get(flowing[0], ()) != graph.shapes.get(node.output[0]):
        return False
    if node.op_type in REDUCING:
        return True
    constant = graph.value(node.input[1]) if node.op_type in NEUTRAL else None
    return constant is not None and bool((constant == NEUTRAL[node.op_type]).all())


def fold_scales(graph: Graph) -> None:
    """Multiply the weights of convolutions by a constant factor of their input, once."""
    _fold(graph, ("Mul", "Div"))


def fold_planes(graph: Graph) -> None:
    """Sum the weights of planes that are copies of one, and turn those of planes that are turned."""
    _fold(graph, ("Expand", "Slice"))


def _fold(graph: Graph, kinds: Sequence[str]) -> None:
    for node in reversed(list(graph.nodes)):
        change = folded(graph, node) if node.op_type in kinds else None
        if change is None:
            continue
        for taker in graph.takers[node.output[0]]:
            weights = graph.value(taker.input[1])
            assert weights is not None
            taker.input[0] = graph.flows(node)[0]
            taker.input[1] = graph.add(f"{node.name}_{taker.name}", change(weights))
        graph.nodes.remove(node)
        graph.indexed()


def folded(graph: Graph, node: NodeProto) -> Change | None:
    """What must be done to the weights of all that take a node's output, if that does its work."""
    takers = graph.takers[node.output[0]]
    if not takers or node.output[0] in graph.outputs or len(graph.flows(node)) != 1:
        return None
    if not all(_weighs(graph, taker, node.output[0]) for taker in takers):
        return None
    change = {"Mul": _scaled, "Div": _scaled, "Expand": _summed, "Slice": _turned}.get(node.op_type)
    return None if change is None else change(graph, node)


def _weighs(graph: Graph, node: NodeProto, name: str) -> bool:
    """Whether a node is a plain convolution of this value with constant weights."""
    plain = node.op_type == "Conv" and node.input[0] == name and list(node.input).count(name) == 1
    return plain and node.input[1] in graph.constants and attribute(node, "group", 1) == 1


def _scaled(graph: Graph, node: NodeProto) -> Change | None:
    place = 1 if node.input[1] in graph.constants else 0
    constant = graph.value(node.input[place])
    if constant is None or (node.op_type == "Div" and place == 0):
        return None
    factor = constant if node.op_type == "Mul" else 1 / constant
    if factor.size > 1 and (factor.ndim < 3 or factor.size != factor.shape[-3]):
        return None
    shape = (-1, 1, 1) if factor.size > 1 else (1, 1, 1)
    return lambda weights: (weights * factor.reshape(shape)).astype(weights.dtype)


def _summed(graph: Graph, node: NodeProto) -> Change | None:
    before, after = (graph.shapes.get(name) for name in (node.input[0], node.output[0]))
    if not before or not after or before != (after[0], 1, *after[2:]):
        return None
    return lambda weights: weights.sum(axis=1, keepdims=True)


def _turned(graph: Graph, node: NodeProto) -> Change | None:
    given = [graph.value(name) for name in node.input[1:]]
    if len(given) != 4 or any(value is None or value.size != 1 for value in given):
        return None
    _, _, axis, step = (int(value.item()) for value in given if value is not None)
    same = graph.shapes.get(node.input[0]) == graph.shapes.get(node.output[0])
    return (lambda weights: weights[:, ::-1]) if (axis, step) == (1, -1) and same else None
