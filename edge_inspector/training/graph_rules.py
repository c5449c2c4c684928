"""
What makes a graph slow, or keeps a runtime from taking it: one finding per node, with its rewrite.

What costs time in small graphs is moving data, not arithmetic: bytes that a node reads and writes
are its cost beside its operations. Rules that speak of maps leave small ones alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, Literal

import numpy as np
import onnx
from onnx import NodeProto

from edge_inspector.errors import EngineRefused
from edge_inspector.training.folding import LAYOUT, REDUCING, folded, is_idle
from edge_inspector.training.graph_walk import COMPUTE, QUANTISING, Graph, attribute, opset

LARGE = 1 << 17
"""Bytes moved for one crop from which on a map is large: about 0.01 ms of one core's memory."""
UNBOUND = ("Compress", "NonMaxSuppression", "NonZero", "Unique", "StringSplit")
"""Operators whose output's shape is known only once they ran."""
STEERING = ("If", "Loop", "Scan", "SequenceMap")
"""Operators that run graphs of their own."""
LEVELS = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Finding:
    """A node that a rule speaks of, what it costs one crop, and what to write instead."""

    level: Literal["error", "warning", "note"]
    rule: str
    node: str
    op: str
    moved_bytes: int
    flop: int
    rewrite: str
    share: float | None = None
    """Of the time of one crop, where it was measured."""

    def told(self) -> str:
        """In one line."""
        cost = [f"{self.moved_bytes / 1e6:.2f} MB"] if self.moved_bytes else []
        cost += [f"{self.flop / 1e6:.1f} MFLOP"] if self.flop else []
        cost += [f"{self.share:.1%} of the time"] if self.share is not None else []
        costs = f" [{', '.join(cost)}]" if cost else ""
        return f"{self.level}: {self.rule}: {self.node} ({self.op}){costs}: {self.rewrite}"

    def figures(self) -> dict[str, Any]:
        """As figures.json and `--json` have it."""
        return {key: value for key, value in asdict(self).items() if value is not None}


Found = tuple[Literal["error", "warning", "note"], str] | None
"""Level and rewrite of a finding; None where the rule has nothing to say."""


def lint(model: bytes) -> list[Finding]:
    """What all rules find, errors first, then by cost; raises `EngineRefused` for no ONNX model."""
    graph = Graph(model)
    flowing = _flowing(graph)
    found = [*_contract(graph)]
    for node in graph.nodes:
        if not flowing & set(node.input):
            continue  # runtimes work out once what is constant
        for name, rule in RULES.items():
            if (said := rule(graph, node)) is not None:
                level, rewrite = said
                cost = (graph.moved(node), graph.work(node))
                where = node.name or node.output[0]
                found.append(Finding(level, name, where, node.op_type, *cost, rewrite))
    return sorted(found, key=lambda finding: (LEVELS.index(finding.level), -finding.moved_bytes))


def checked(model: bytes) -> list[Finding]:
    """Findings of a graph about to become an engine; raises `EngineRefused` for one with errors."""
    found = lint(model)
    errors = [finding.told() for finding in found if finding.level == "error"]
    if errors:
        raise EngineRefused(f"{'; '.join(errors[:3])}; nothing was written")
    return found


def _flowing(graph: Graph) -> set[str]:
    """All values that depend on the crop."""
    known = set(graph.inputs)
    for node in graph.nodes:
        if known & set(node.input):
            known.update(node.output)
    return known


def _contract(graph: Graph) -> Iterator[Finding]:
    """What every runtime is promised: one uint8 input (n, h, w, c), and n of every output."""
    for name, value in zip(graph.inputs, graph.proto.graph.input, strict=True):
        kind = value.type.tensor_type
        sides = kind.shape.dim
        free = [not side.HasField("dim_value") for side in sides]
        told = f"'{name}'" if len(graph.inputs) == 1 else f"'{name}' of {len(graph.inputs)} inputs"
        good = kind.elem_type == onnx.TensorProto.UINT8 and free == [True, False, False, False]
        if not good or len(graph.inputs) != 1:
            shape = tuple(side.dim_value or side.dim_param or "?" for side in sides)
            element = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
            rewrite = f"is {element} {shape}; take one input, uint8 (n, height, width, channels) "
            yield Finding(
                "error", "input", told, "input", 0, 0, f"{rewrite}with n alone free, and cast it"
            )
    for value in graph.proto.graph.output:
        sides = value.type.tensor_type.shape.dim
        if sides and sides[0].HasField("dim_value"):
            rewrite = f"has {sides[0].dim_value} answers whatever n is; reshape to (-1, ...)"
            yield Finding("error", "batch", f"'{value.name}'", "output", 0, 0, rewrite)


def _operator(graph: Graph, node: NodeProto) -> Found:
    if node.domain not in ("", "ai.onnx"):
        return (
            "error",
            f"is of '{node.domain}', which is no plain ONNX; write it in plain operators",
        )
    version = opset(graph.proto)
    if not onnx.defs.has(node.op_type, version):
        return "error", f"opset {version} has no such operator; write it in those that it has"
    if node.op_type in STEERING:
        return "error", "runs a graph of its own, which no plan can hold; write both ways out"
    return None


def _shape(graph: Graph, node: NodeProto) -> Found:
    if node.op_type in UNBOUND:
        return "error", "its shape is known only after it ran; mask values instead of choosing them"
    known = all(name in graph.shapes for name in node.input if name)
    if known and any(name and name not in graph.shapes for name in node.output):
        return "error", "its shape has no bound for a given n; give it constant sides"
    return None


def _input(graph: Graph, node: NodeProto) -> Found:
    if node.input[0] in graph.inputs and node.op_type not in ("Cast", "Shape"):
        return "warning", "TensorRT takes uint8 into a Cast alone; cast first, then move"
    return None


def _double(graph: Graph, node: NodeProto) -> Found:
    before, after = (
        {graph.types.get(name) for name in names} for names in (graph.flows(node), node.output)
    )
    if np.dtype(np.float64) in after - before:
        return "warning", "counts in float64 from here; cast its constants to float32"
    return None


def _transpose(graph: Graph, node: NodeProto) -> Found:
    if node.op_type != "Transpose" or graph.moved(node) < LARGE:
        return None
    sides = graph.shapes.get(node.input[0], ())
    order = list(attribute(node, "perm", range(len(sides))[::-1]))
    if [axis for axis in order if sides[axis] > 1] == sorted(a for a in order if sides[a] > 1):
        return None  # nothing changes place
    takers = graph.takers[node.output[0]]
    last_two = order[:-2] == list(range(len(order) - 2))
    if last_two and takers and all(taker.op_type == "MatMul" for taker in takers):
        return None  # runtimes multiply with it as it lies
    if len(sides) > 4:
        return "warning", "unshuffles by moving all; take a constant one-hot convolution of stride"
    if order == [0, 3, 1, 2] and sides in [graph.shapes.get(name) for name in graph.inputs]:
        return (
            "note",
            "colours side by side, (n, 1, h, w c), need no transpose if they can be convolved",
        )
    return "warning", "keep the axes of the convolutions: sums and maxima work on any axes"


def _shuffle(graph: Graph, node: NodeProto) -> Found:
    if graph.moved(node) < LARGE:
        return None
    if node.op_type == "DepthToSpace":
        return (
            "warning",
            "grow by nearest neighbour before a convolution, or stay in blocks of pixels",
        )
    if node.op_type == "SpaceToDepth":
        return "warning", "take a constant one-hot convolution of that stride"
    return None


def _transposed(graph: Graph, node: NodeProto) -> Found:
    if node.op_type != "ConvTranspose":
        return None
    quantised = any(maker.op_type in QUANTISING for maker in graph.nodes)
    twin = "an exact twin, a convolution and a shuffle, is in training/twins.py"
    if quantised:
        return "warning", f"int8 helps it in few runtimes; {twin}: measure both"
    return "note", f"int8 would help it in few runtimes; {twin}"


def _bicubic(graph: Graph, node: NodeProto) -> Found:
    if node.op_type != "Resize" or attribute(node, "mode", "nearest") != "cubic":
        return None
    return (
        "warning",
        "ONNX Runtime takes 20 ms for one; a constant convolution and a shuffle is exact",
    )


def _score(graph: Graph, node: NodeProto) -> Found:
    """A large map laid flat: a runtime that keeps channels innermost must reorder it."""
    if node.op_type not in ("Reshape", "Flatten") or graph.moved(node) < LARGE:
        return None
    before, after = (graph.shapes.get(name, ()) for name in (node.input[0], node.output[0]))
    places = sum(side > 1 for side in before)
    if len(before) != 4 or prod(before[1:2]) == 1 or places < 2 or len(after) > 3:
        return None
    if any(taker.op_type in COMPUTE for taker in _beyond_layout(graph, node)):
        return "note", "a product over a map makes runtimes reorder it; sum over places first"
    return (
        "warning",
        "score by multiplying and reducing over (1, 2, 3), without laying the map flat",
    )


def _beyond_layout(graph: Graph, node: NodeProto) -> Iterator[NodeProto]:
    """Who takes a node's output, past what only moves it."""
    for taker in graph.takers[node.output[0]]:
        if taker.op_type in LAYOUT:
            yield from _beyond_layout(graph, taker)
        else:
            yield taker


def _fold(graph: Graph, node: NodeProto) -> Found:
    if node.op_type in ("Mul", "Div", "Expand", "Slice") and folded(graph, node) is not None:
        return "warning", "belongs into the weights of the convolution that takes it"
    return None


def _idle(graph: Graph, node: NodeProto) -> Found:
    if graph.moved(node) >= LARGE and is_idle(graph, node):
        return "warning", "gives its input as it is; leave it out"
    return None


def _turned(graph: Graph, node: NodeProto) -> Found:
    """Planes turned in place, BGR to RGB for one."""
    steps = graph.value(node.input[4]) if node.op_type == "Slice" and len(node.input) > 4 else None
    if steps is None or graph.moved(node) < LARGE or folded(graph, node) is not None:
        return None
    return ("warning", "turn the weights that take it instead") if (steps < 0).any() else None


def _exact(graph: Graph, node: NodeProto) -> Found:
    """Rounding next to a score: from the outputs up to what multiplies with weights."""
    if node.op_type != "QuantizeLinear" or not _judges(graph, node):
        return None
    return "warning", "rounds what the score is made of; leave the score's nodes in float32"


def _judges(graph: Graph, node: NodeProto) -> bool:
    """Whether an output is reached from here through a sum or maximum, without any weights."""
    waiting: list[tuple[NodeProto, bool]] = [(node, False)]
    seen: set[tuple[int, bool]] = set()
    while waiting:
        last, reduced = waiting.pop()
        reduced = reduced or last.op_type in REDUCING
        if reduced and set(last.output) & set(graph.outputs):
            return True
        for taker in graph.takers[last.output[0]]:
            if taker.op_type not in COMPUTE and (id(taker), reduced) not in seen:
                seen.add((id(taker), reduced))
                waiting.append((taker, reduced))
    return False


RULES: dict[str, Callable[[Graph, NodeProto], Found]] = {
    "operator": _operator,
    "shape": _shape,
    "input": _input,
    "double": _double,
    "transpose": _transpose,
    "shuffle": _shuffle,
    "transposed": _transposed,
    "bicubic": _bicubic,
    "score": _score,
    "weights": _fold,
    "idle": _idle,
    "turned": _turned,
    "rounded score": _exact,
}
