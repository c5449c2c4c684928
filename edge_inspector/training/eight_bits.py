"""
A graph in eight bits, by ONNX Runtime's quantiser.

What wide convolutions take, and their weights, are quantised, symmetric about 0 and with float32
biases, as TensorRT takes them; those that see pixels and those that make scores stay as they are.
What they give stays float32: OpenVINO and TensorRT add and activate within the convolution, and the
score moves half as far. ONNX Runtime computes in eight bits only what is quantised again at once,
and is slower with this graph than with the first; whoever chooses a runtime measures that.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from edge_inspector.errors import EngineRefused
from edge_inspector.records import Pixels
from edge_inspector.training.graph_walk import Graph, attribute

NARROW = 16
"""Convolutions of fewer planes, taken or made, gain nothing in eight bits."""
FEW = 4
"""Planes at most that are pooled by a convolution instead."""


def eight_bits(model: bytes, calibration: Pixels) -> bytes:
    """The graph with its wide convolutions in Q/DQ; raises `EngineRefused` where it has none."""
    from onnxruntime import quantization as ort

    graph = Graph(model)
    nodes = [node.name for node in graph.nodes if _wide(graph, node)]
    if not nodes:
        raise EngineRefused(
            f"the graph has no convolution of {NARROW} planes and more; eight bits gain nothing"
        )

    class Reader(ort.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(calibration)

        def get_next(self) -> dict[str, Pixels] | None:
            crop = next(self._left, None)
            return None if crop is None else {graph.inputs[0]: crop[None]}

    proto = onnx.load_from_string(model)
    # Else it asks for a preparation that `twin` has made.
    helper.set_model_props(proto, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        ort.quantize_static(
            proto,
            path,
            Reader(),
            quant_format=ort.QuantFormat.QDQ,
            per_channel=True,
            nodes_to_quantize=nodes,
            activation_type=ort.QuantType.QInt8,
            weight_type=ort.QuantType.QInt8,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "OpTypesToExcludeOutputQuantization": ["Conv"],
            },
        )
        quantised = onnx.load(path)
    quantised.producer_name, quantised.producer_version = "edge-inspector", ""
    del quantised.metadata_props[:]
    onnx.checker.check_model(quantised, full_check=True)
    return quantised.SerializeToString(deterministic=True)  # type: ignore[no-any-return]


def pools_as_convolutions(graph: Graph) -> None:
    """
    Means over squares of a few planes as constant convolutions, one plane each.

    OpenVINO lays few planes out for pooling otherwise than for convolutions, and takes as long to
    turn them as to pool.
    """
    for node in graph.nodes:
        if node.op_type != "AveragePool":
            continue
        square = attribute(node, "kernel_shape", None)
        planes = graph.shapes.get(node.input[0], (0, FEW + 1))[1]
        if planes > FEW or attribute(node, "strides", 0) != square:
            continue
        if any(attribute(node, "pads", [0])) or attribute(node, "ceil_mode", 0):
            continue
        mean = np.full((planes, 1, *square), 1 / np.prod(square), np.float32)
        node.input.append(graph.add(f"{node.output[0]}_mean", mean))
        node.op_type = "Conv"
        del node.attribute[:]
        node.attribute.extend(
            helper.make_attribute(name, value)
            for name, value in (("kernel_shape", square), ("strides", square), ("group", planes))
        )


def _wide(graph: Graph, node: Any) -> bool:
    weights = graph.constants.get(node.input[1]) if node.op_type == "Conv" else None
    return (
        weights is not None
        and attribute(node, "group", 1) == 1
        and min(weights.dims[:2]) >= NARROW
        and bool(node.name)
    )
