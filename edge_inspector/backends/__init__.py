"""
Inference runtimes behind one two-method seam; a runtime is imported when it is opened.

A runner is a runtime with a precision of the engine: `openvino`, or `openvino:int8`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edge_inspector import importer
from edge_inspector.errors import BackendMissing, EngineRefused, Misuse, Uninspectable
from edge_inspector.protocols import Backend, Session
from edge_inspector.records import Pixels, Reason

BACKENDS = {
    "openvino": "edge_inspector.backends.openvino:OpenVino",
    "onnxruntime": "edge_inspector.backends.ort:OnnxRuntime",
    "tensorrt": "edge_inspector.backends.tensorrt:TensorRt",
    "tensorrt_rtx": "edge_inspector.backends.tensorrt:TensorRtRtx",
    "fake": "edge_inspector.backends.fake:Fake",
}
REFERENCE = "float32"
"""The precision of a runner that names none."""
PRECISIONS = (REFERENCE, "int8")


def precision_of(runner: str) -> tuple[str, str]:
    """The runtime and the precision that a runner's name says."""
    name, _, precision = runner.rpartition(":")
    if precision in PRECISIONS[1:]:
        return name, precision
    return runner, REFERENCE


def open_first(
    names: Sequence[str],
    models: bytes | Mapping[str, bytes],
    threads: int,
    cache: Path | None = None,
) -> tuple[str, Session]:
    """
    The first runner of `names` that is installed and takes its model, and its session.

    `models` by precision, or the reference alone; `cache` is the folder where a runtime may keep
    what it compiled. Raises `EngineRefused` when those that are installed refuse it, else
    `BackendMissing`.
    """
    if not names:
        raise Misuse(f"no backend is named; give one or more of {', '.join(sorted(BACKENDS))}")
    if len(names) == 1:
        return names[0], _open(names[0], models, threads, cache)
    reasons: list[str] = []
    refused = False
    for name in names:
        try:
            return name, _open(name, models, threads, cache)
        except (BackendMissing, EngineRefused) as error:
            refused = refused or isinstance(error, EngineRefused)
            reasons.append(f"{name}: {error}")
    told = "no backend takes this engine: " + "; ".join(reasons)
    raise EngineRefused(told) if refused else BackendMissing(told)


def _open(
    runner: str, models: bytes | Mapping[str, bytes], threads: int, cache: Path | None
) -> Session:
    name, precision = precision_of(runner)
    given = {REFERENCE: models} if isinstance(models, bytes) else models
    backend: Backend = importer.choose(BACKENDS, name, "backend")(cache=cache)
    if precision not in given:
        raise EngineRefused(
            f"the engine has no {precision} model; make one with 'edge-inspector engine quantise', "
            f"or use '{name}'"
        )
    return backend.open(given[precision], threads=threads)


def check_input(shape: Sequence[object], dtype: str, inputs: int) -> tuple[int, int, int]:
    """Height, width, channels of the one input, uint8 (n, h, w, c); raises `EngineRefused`."""
    fixed = [side for side in shape[1:] if isinstance(side, int)]
    if inputs != 1 or dtype != "uint8" or len(shape) != 4 or len(fixed) != 3:
        raise EngineRefused(
            f"the graph has {inputs} inputs, the first is {dtype} {tuple(shape)}; an engine takes "
            "one, uint8 (n, height, width, channels) with n free; export it again"
        )
    return fixed[0], fixed[1], fixed[2]


def check_batch(batch: Pixels, shape: tuple[int, int, int]) -> None:
    """Raises `Uninspectable` for crops that the graph was not made for."""
    if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[1:] != shape or not len(batch):
        detail = f"crops are {batch.dtype} {batch.shape}, the engine takes uint8 (n, *{shape})"
        raise Uninspectable(Reason.MODEL_FAULT.value, detail)
