"""OpenVINO on the CPU: the default runtime of embedded boxes."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_inspector.backends import check_batch, check_input
from edge_inspector.errors import BackendMissing, EngineRefused, Uninspectable
from edge_inspector.records import Pixels, Reason

Answers = dict[str, NDArray[Any]]


class OpenVino:
    """Compiles for one crop at a time, lowest latency, on exactly `threads` threads."""

    name = "openvino"

    def __init__(self, cache: Path | None = None) -> None:
        """Nothing is kept: to read a compiled graph takes two thirds of the time of compiling it."""

    def open(self, model: bytes, *, threads: int) -> OpenVinoSession:
        """Raises `BackendMissing` without the package, `EngineRefused` for a graph it cannot run."""
        core = _core()
        try:
            graph = core.read_model(model)
            shape = _check(graph)
            # A free n costs three times as much per crop; 16 runs of one crop cost no more than one
            # run of 16 does, and a crop's score cannot depend on its neighbours in the batch.
            graph.reshape([1, *shape])
            alone = _Lane(core.compile_model(graph, "CPU", _settings(threads, streams=1)))
            # Several crops at once, each on one thread, take less than one after the other on all.
            lanes: list[_Lane] = []
            if threads > 1:
                beside = core.compile_model(graph, "CPU", _settings(threads, streams=threads))
                lanes = [_Lane(beside) for _ in range(2 * threads)]
            return OpenVinoSession(alone, lanes, shape)
        except RuntimeError as error:
            raise EngineRefused(f"openvino cannot run this graph: {error}") from error


class OpenVinoSession:
    """A graph compiled for one crop, and for more than one thread once more for crops side by side."""

    def __init__(self, alone: _Lane, lanes: list[_Lane], shape: tuple[int, int, int]) -> None:
        self._shape = shape
        self._alone: _Lane | None = alone
        self._lanes = lanes

    def run(self, batch: Pixels) -> Answers:
        """Infer crops, uint8 (n, h, w, c); raises `Uninspectable`."""
        check_batch(batch, self._shape)
        assert self._alone is not None
        found = self._alone.room(len(batch))
        try:
            if self._lanes and len(batch) > 1:
                _side_by_side(self._lanes[: len(batch)], batch, found)
            else:
                for index, crop in enumerate(batch):
                    self._alone.infer(crop)
                    self._alone.copy(found, index)
        except RuntimeError as error:
            raise Uninspectable(Reason.MODEL_FAULT.value, f"openvino: {error}") from error
        return found

    def close(self) -> None:
        """Let the compiled graphs go."""
        self._alone, self._lanes = None, []


class _Lane:
    """One infer request with its input and output memory set once."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._crop: Pixels = self._request.get_input_tensor().data
        self._answers = {
            output.get_any_name(): self._request.get_output_tensor(index).data
            for index, output in enumerate(compiled.outputs)
        }
        self.wait = self._request.wait

    def room(self, count: int) -> Answers:
        """Memory for the answers of so many crops."""
        return {
            name: np.empty((count, *answer.shape[1:]), answer.dtype)
            for name, answer in self._answers.items()
        }

    def infer(self, crop: Pixels) -> None:
        """Run one crop to its end."""
        self._crop[0] = crop
        self._request.infer()

    def start(self, crop: Pixels) -> None:
        """Begin to run one crop."""
        self._crop[0] = crop
        self._request.start_async()

    def copy(self, found: Answers, index: int) -> None:
        """Put the answer where it belongs."""
        for name, answer in self._answers.items():
            found[name][index] = answer[0]


def _side_by_side(lanes: list[_Lane], batch: Pixels, found: Answers) -> None:
    try:
        for index, crop in enumerate(batch):
            lane = lanes[index % len(lanes)]
            if index >= len(lanes):
                lane.wait()
                lane.copy(found, index - len(lanes))
            lane.start(crop)
        for index in range(len(batch) - len(lanes), len(batch)):
            lanes[index % len(lanes)].wait()
            lanes[index % len(lanes)].copy(found, index)
    except RuntimeError:
        for lane in lanes:  # none may be busy at the next run
            with suppress(RuntimeError):
                lane.wait()
        raise


def _settings(threads: int, streams: int) -> dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": threads,
        # Each worker would pin to the same first cores.
        "ENABLE_CPU_PINNING": False,
        # Precision is decided in the ONNX: AMX and ARM cores would take bf16 or f16 unasked.
        "INFERENCE_PRECISION_HINT": "f32",
    }


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
