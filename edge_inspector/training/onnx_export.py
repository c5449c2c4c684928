"""From a network's graph to ONNX that any runtime takes: no paths, no stack traces, its batch free."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from edge_inspector.errors import EngineRefused
from edge_inspector.manifest import Input
from edge_inspector.training import twins

OPSET = 18
OUTPUTS = ("score", "anomaly_map")


def to_onnx(graph: nn.Module, shape: Input, outputs: Sequence[str] = OUTPUTS) -> bytes:
    """
    The graph as checked ONNX without external data, its batch free.

    Raises `EngineRefused` for what ONNX cannot say: an unsupported operator, an unbounded shape.
    """
    example = torch.zeros((2, shape.height, shape.width, shape.channels), dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph.eval(),
                (example,),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[shape.name],
                output_names=list(outputs),
                dynamic_shapes=({0: torch.export.Dim("n")},),
                external_data=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise EngineRefused(f"the network cannot become ONNX: {_cause(error)}") from error
    assert program is not None
    model = program.model_proto
    _forget_where(model)
    return twins.twin(model.SerializeToString(), twins.EXPORTED)


def _cause(error: BaseException) -> str:
    """What lies at the bottom of an export that failed, in its first line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"


def _forget_where(model: Any) -> None:
    """Stack traces and paths of the training machine have no place in an engine."""
    model.producer_name, model.doc_string = "edge-inspector", ""
    model.graph.doc_string = ""
    del model.metadata_props[:]
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        part.doc_string = ""
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
    for part in (*model.graph.input, *model.graph.output):
        del part.metadata_props[:]
