"""OpenVINO on the CPU: the default runtime of embedded boxes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_inspector.backends import check_batch, check_input
from edge_inspector.errors import BackendMissing, EngineRefused, Uninspectable
from edge_inspector.records import Pixels, Reason


class OpenVino:
    """Compiles for one crop at a time, lowest latency, on exactly `threads` threads."""

    name = "openvino"

    def __init__(self, cache: Path | None = None) -> None:
        """Nothing is kept."""

    def open(self, model: bytes, *, threads: int) -> OpenVinoSession:
        """Raises `BackendMissing` without the package, `EngineRefused` for a graph it cannot run."""
        core = _core()
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "PERFORMANCE_HINT_NUM_REQUESTS": 1,
            "INFERENCE_NUM_THREADS": threads,
            # Each worker would pin to the same first cores.
            "ENABLE_CPU_PINNING": False,
            # Precision is decided in the ONNX: AMX and ARM cores would take bf16 or f16 unasked.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            graph = core.read_model(model)
            shape = _check(graph)
            # A free n costs three times as much per crop; 16 runs of one crop cost what one run
            # of 16 does, and a crop's score cannot depend on its neighbours in the batch.
            graph.reshape([1, *shape])
            return OpenVinoSession(core.compile_model(graph, "CPU", settings), shape)
        except RuntimeError as error:
            raise EngineRefused(f"openvino cannot run this graph: {error}") from error


class OpenVinoSession:
    """One compiled graph with its input and output memory set once."""

    def __init__(self, compiled: Any, shape: tuple[int, int, int]) -> None:
        self._shape = shape
        self._request = compiled.create_infer_request()
        self._crop: Pixels = self._request.get_input_tensor().data
        self._answers: dict[str, NDArray[Any]] = {
            output.get_any_name(): self._request.get_output_tensor(index).data
            for index, output in enumerate(compiled.outputs)
        }

    def run(self, batch: Pixels) -> Mapping[str, NDArray[Any]]:
        """Infer crops, uint8 (n, h, w, c); raises `Uninspectable`."""
        check_batch(batch, self._shape)
        found = {
            name: np.empty((len(batch), *answer.shape[1:]), answer.dtype)
            for name, answer in self._answers.items()
        }
        try:
            for index, crop in enumerate(batch):
                self._crop[0] = crop
                self._request.infer()
                for name, answer in self._answers.items():
                    found[name][index] = answer[0]
        except RuntimeError as error:
            raise Uninspectable(Reason.MODEL_FAULT.value, f"openvino: {error}") from error
        return found

    def close(self) -> None:
        """Let the compiled graph go."""
        self._answers, self._crop, self._request = {}, np.empty(0, np.uint8), None


@cache
def _core() -> Any:
    """
    One for the whole process, for good: the first gives its thread a stack for signals.

    Were it let go by another thread, that stack would be gone at the next signal, Ctrl-C for one.
    """
    try:
        import openvino
    except ImportError as error:
        raise BackendMissing(f"{error}; install 'openvino'") from error
    return openvino.Core()


def _check(graph: Any) -> tuple[int, int, int]:
    first = graph.inputs[0]
    sides = [None if side.is_dynamic else side.get_length() for side in first.partial_shape]
    dtype = first.element_type.to_dtype().name
    return check_input(sides, dtype, len(graph.inputs))
