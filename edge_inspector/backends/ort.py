"""ONNX Runtime on the CPU: the portable second."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edge_inspector.backends import check_batch, check_input
from edge_inspector.errors import BackendMissing, EngineRefused, Uninspectable
from edge_inspector.records import Pixels, Reason


class OnnxRuntime:
    """Runs whole batches, operators one after another, on exactly `threads` threads."""

    name = "onnxruntime"

    def __init__(self, cache: Path | None = None) -> None:
        """Nothing is kept."""

    def open(self, model: bytes, *, threads: int) -> OnnxRuntimeSession:
        """Raises `BackendMissing` without the package, `EngineRefused` for a graph it cannot run."""
        try:
            import onnxruntime
        except ImportError as error:
            raise BackendMissing(f"{error}; install the extra 'edge-inspector[ort]'") from error
        faults = _faults()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        # Idle threads that spin take the core from the frame source and from other workers.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except faults as error:
            raise EngineRefused(f"onnxruntime cannot run this graph: {error}") from error
        return OnnxRuntimeSession(session, faults)


class OnnxRuntimeSession:
    """One graph opened in ONNX Runtime."""

    def __init__(self, session: Any, faults: tuple[type[Exception], ...]) -> None:
        inputs = session.get_inputs()
        dtype = inputs[0].type.removeprefix("tensor(").removesuffix(")")
        self._shape = check_input(inputs[0].shape, dtype, len(inputs))
        self._input = inputs[0].name
        self._names = [output.name for output in session.get_outputs()]
        self._faults = faults
        self._session = session

    def run(self, batch: Pixels) -> Mapping[str, NDArray[Any]]:
        """Infer crops, uint8 (n, h, w, c); raises `Uninspectable`."""
        check_batch(batch, self._shape)
        try:
            found = self._session.run(self._names, {self._input: batch})
        except self._faults as error:
            raise Uninspectable(Reason.MODEL_FAULT.value, f"onnxruntime: {error}") from error
        return dict(zip(self._names, found, strict=True))

    def close(self) -> None:
        """Let the session go."""
        self._session = None


def _faults() -> tuple[type[Exception], ...]:
    """What the runtime raises: it has a class for each status and no common one."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    classes = (found for found in vars(state).values() if isinstance(found, type))
    return (RuntimeError, *(found for found in classes if issubclass(found, Exception)))
