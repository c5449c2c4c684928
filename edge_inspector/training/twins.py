"""
Exact twins of graphs: the same function, in nodes that runtimes are fast at.

Each rewrite takes and gives an ONNX model whose outputs differ by rounding alone; what it cannot
write exactly stays as it is. `EXPORTED` is for every export; the others are for a runtime whose own
node is slow, and one measures both: a twin of a transposed convolution counts about twice as much. On
AVX2, int8 runs the twin faster than float32 and the original slower; with VNNI, OpenVINO's int8 is
fastest on the original, and float32 always is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper
from onnx.shape_inference import InferenceError

from edge_inspector.errors import EngineRefused
from edge_inspector.training.folding import (
    cast_first,
    drop_idle,
    fold_planes,
    fold_scales,
    keep_batch,
)
from edge_inspector.training.graph_walk import AGAIN, Graph, attribute
from edge_inspector.training.twin_kernels import CUBIC, block_kernel, cubic_kernel, reach_of

ONE_BY_ONE = ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "HardSwish", "Elu", "Softplus")
"""Operators that treat every value alike, wherever it lies."""

Rewrite = Callable[[Graph], None]


def twin(model: bytes, rewrites: Sequence[Rewrite] | None = None) -> bytes:
    """The model after these rewrites, all of them where none is named; checked."""
    graph = Graph(model)
    for rewrite in EVERY if rewrites is None else rewrites:
        rewrite(graph)
        graph.indexed()
    return _written(graph)


def without_transposed(graph: Graph) -> None:
    """
    Transposed convolutions as plain ones that make all pixels of a block, and a shuffle.

    A kernel of 4 with stride 2 becomes one of 3 that makes four times the planes; of stride 1, one
    that is turned. Activations are taken before the shuffle, next to their convolution.
    """
    _each(graph, "ConvTranspose", lambda node: _untransposed(graph, node))
    graph.indexed()
    _sink_shuffles(graph)


def without_bicubic(graph: Graph) -> None:
    """Bicubic growth by a whole number as a constant convolution of each plane, and a shuffle."""
    _each(graph, "Resize", lambda node: _unresized(graph, node))


def _each(graph: Graph, kind: str, rewrite: Callable[[NodeProto], list[NodeProto]]) -> None:
    """Put what `rewrite` makes of nodes of a kind in their place."""
    found = ([node] if node.op_type != kind else rewrite(node) for node in graph.nodes)
    graph.nodes[:] = [node for nodes in found for node in nodes]


def _untransposed(graph: Graph, node: NodeProto) -> list[NodeProto]:
    weights, size, grown = _known(graph, node, node.input[1])
    step = attribute(node, "strides", [1, 1])
    plain = {"auto_pad": "NOTSET", "dilations": [1, 1], "output_shape": []}
    if weights is None or weights.ndim != 4 or step[0] != step[1] or not (size and grown):
        return [node]
    if any(attribute(node, name, usual) != usual for name, usual in plain.items()):
        return [node]
    stride = step[0]
    if any(side % stride for side in grown[2:]):
        return [node]
    pads = attribute(node, "pads", [0] * 4)
    reach = [
        reach_of(side, stride, pad) for side, pad in zip(weights.shape[2:], pads, strict=False)
    ]
    border = [-low for low, _ in reach]
    border += [
        out // stride - side + high
        for out, side, (_, high) in zip(grown[2:], size[2:], reach, strict=True)
    ]
    if min(border) < 0:
        return [node]
    groups = attribute(node, "group", 1)
    kernel = block_kernel(weights, stride, pads, reach, groups)
    biases = [graph.value(name) for name in node.input[2:3] if name]
    bias = [] if not biases or biases[0] is None else [np.repeat(biases[0], stride * stride)]
    return _shuffled(graph, node, node.input[0], [kernel, *bias], stride, pads=border, group=groups)


def _unresized(graph: Graph, node: NodeProto) -> list[NodeProto]:
    _, size, grown = _known(graph, node, "")
    usual = {"mode": "cubic", "cubic_coeff_a": CUBIC, "exclude_outside": 0, "antialias": 0}
    defaults = {**usual, "mode": "nearest"}
    modes = ("half_pixel", "pytorch_half_pixel")
    if any(attribute(node, name, defaults[name]) != value for name, value in usual.items()):
        return [node]
    if attribute(node, "coordinate_transformation_mode", "half_pixel") not in modes:
        return [node]
    if len(size) != 4 or not grown or attribute(node, "axes", [2, 3]) != [2, 3]:
        return [node]
    times = grown[2] // size[2]
    if times < 2 or grown != (*size[:2], times * size[2], times * size[3]) or 1 in size[2:]:
        return [node]
    kernel = cubic_kernel(times, size[1]).astype(graph.types[node.input[0]])
    edge = graph.add(f"{node.name}_edge", np.array([0, 0, 2, 2, 0, 0, 2, 2]))
    wider = f"{node.output[0]}_wider"
    pad = helper.make_node("Pad", [node.input[0], edge], [wider], f"{node.name}_pad", mode="edge")
    return [pad, *_shuffled(graph, node, wider, [kernel], times, group=size[1])]


def _known(
    graph: Graph, node: NodeProto, weights: str
) -> tuple[NDArray[Any] | None, tuple[int, ...], tuple[int, ...]]:
    """A node's weights, and the shapes of its first input and its output; empty where unknown."""
    first, last = (graph.shapes.get(name, ()) for name in (node.input[0], node.output[0]))
    return graph.value(weights), first, last


def _shuffled(
    graph: Graph,
    node: NodeProto,
    source: str,
    values: Sequence[NDArray[Any]],
    block: int,
    **attributes: Any,
) -> list[NodeProto]:
    """A convolution by `values`, kernel and perhaps bias, whose planes are blocks of pixels."""
    blocks = f"{node.output[0]}_blocks" if block > 1 else node.output[0]
    given = [source]
    for name, value in zip(("kernel", "bias"), values, strict=False):
        given.append(graph.add(f"{node.name}_{name}", value))
    convolution = helper.make_node("Conv", given, [blocks], f"{node.name}_blocks", **attributes)
    if block == 1:
        return [convolution]
    shuffle = helper.make_node(
        "DepthToSpace",
        [blocks],
        list(node.output),
        f"{node.name}_shuffle",
        blocksize=block,
        mode="CRD",
    )
    return [convolution, shuffle]


def _sink_shuffles(graph: Graph) -> None:
    """Take what treats every value alike before a shuffle, not after it."""
    for shuffle in [node for node in graph.nodes if node.op_type == "DepthToSpace"]:
        while _alone(graph, shuffle) and graph.takers[shuffle.output[0]][0].op_type in ONE_BY_ONE:
            taker = graph.takers[shuffle.output[0]][0]
            between = f"{taker.output[0]}_before"
            taker.input[0], shuffle.output[0] = shuffle.input[0], taker.output[0]
            shuffle.input[0] = taker.output[0] = between
            graph.nodes.remove(shuffle)
            graph.nodes.insert(graph.nodes.index(taker) + 1, shuffle)
            graph.indexed()


def _alone(graph: Graph, node: NodeProto) -> bool:
    """Whether one node alone takes what this one makes."""
    name = node.output[0]
    return len(graph.takers[name]) == 1 and name not in graph.outputs


def _written(graph: Graph) -> bytes:
    """The model with its nodes as they are now, without what none of them takes."""
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    del proto.graph.node[:], proto.graph.initializer[:], proto.graph.value_info[:]
    proto.graph.node.extend(graph.nodes)
    used = {name for node in graph.nodes for name in node.input} | set(graph.outputs)
    proto.graph.initializer.extend(v for v in graph.proto.graph.initializer if v.name in used)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, InferenceError, UnicodeDecodeError) as error:
        told = str(error).strip().splitlines()[0]
        raise EngineRefused(f"the graph is no valid ONNX: {told}; {AGAIN}") from error
    return proto.SerializeToString(deterministic=True)  # type: ignore[no-any-return]


EXPORTED: tuple[Rewrite, ...] = (
    cast_first,
    keep_batch,
    drop_idle,
    fold_scales,
    fold_planes,
)
"""What every export gets."""
EVERY: tuple[Rewrite, ...] = (*EXPORTED, without_transposed, without_bicubic)
