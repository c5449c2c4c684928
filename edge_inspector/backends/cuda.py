"""
CUDA memory, a stream and graphs, for one thread.

PyCUDA owns the context, memory, stream and events; what it lacks, graphs, is asked of the driver.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from edge_inspector.errors import BackendMissing, Breakage

NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: no waiting for the legacy stream of others in this process."""
THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: a global capture breaks other threads' use of that stream."""

_HANDLE = ctypes.c_void_p
_PLACE = ctypes.POINTER(ctypes.c_void_p)
# Without these, ctypes would hand on 32 bits of a handle.
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cuStreamBeginCapture_v2": (_HANDLE, ctypes.c_int),
    "cuStreamEndCapture": (_HANDLE, _PLACE),
    "cuGraphInstantiateWithFlags": (_PLACE, _HANDLE, ctypes.c_ulonglong),
    "cuGraphUpload": (_HANDLE, _HANDLE),
    "cuGraphLaunch": (_HANDLE, _HANDLE),
    "cuGraphExecDestroy": (_HANDLE,),
    "cuGraphDestroy": (_HANDLE,),
    "cuGetErrorString": (ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)),
}


def load_pycuda() -> Any:
    """`pycuda.driver`; raises `BackendMissing`. Only after `driver.probe`."""
    try:
        return importlib.import_module("pycuda.driver")
    except ImportError as error:
        raise BackendMissing(
            f"{error}; install the extra 'edge-inspector[pycuda]', which is built from source: see "
            "docs/tensorrt.md"
        ) from error


class Graphs:
    """The driver's graph functions on streams and graphs given as integers."""

    def __init__(self, driver: Any) -> None:
        """`driver` is libcuda as ctypes opens it; raises `Breakage` when it has no graphs."""
        try:
            self._calls = {name: getattr(driver, name) for name in _FUNCTIONS}
        except AttributeError as error:
            raise Breakage(f"no CUDA graphs: {error}; install a driver of CUDA 11.4+") from error
        for name, types in _FUNCTIONS.items():
            self._calls[name].argtypes = types

    def capture(self, stream: int, enqueue: Callable[[], None]) -> int:
        """
        What `enqueue` puts on the stream, as a graph ready to launch, without running it.

        Raises `Breakage` in the driver's words, or what `enqueue` raises; no graph is left then.
        """
        graph = ctypes.c_void_p()
        enqueued = False
        self._ask("cuStreamBeginCapture_v2", stream, THREAD_LOCAL)
        try:
            enqueue()
            enqueued = True
        finally:
            status = self._calls["cuStreamEndCapture"](stream, ctypes.byref(graph))
            if graph.value and (status or not enqueued):
                self._calls["cuGraphDestroy"](graph)
        self._check("cuStreamEndCapture", status)
        ready = ctypes.c_void_p()
        try:
            self._ask("cuGraphInstantiateWithFlags", ctypes.byref(ready), graph, 0)
        finally:
            self._calls["cuGraphDestroy"](graph)
        assert ready.value is not None
        status = self._calls["cuGraphUpload"](ready, stream)
        if status:
            self.free(ready.value)
        self._check("cuGraphUpload", status)
        return ready.value

    def launch(self, graph: int, stream: int) -> None:
        """Run it once; raises `Breakage`."""
        self._ask("cuGraphLaunch", graph, stream)

    def free(self, graph: int) -> None:
        """Destroy it; a device that was lost refuses, which changes nothing."""
        self._calls["cuGraphExecDestroy"](graph)

    def _ask(self, name: str, *arguments: Any) -> None:
        self._check(name, self._calls[name](*arguments))

    def _check(self, name: str, status: int) -> None:
        if status:
            words = ctypes.c_char_p()
            self._calls["cuGetErrorString"](status, ctypes.byref(words))
            told = (words.value or b"an error it has no words for").decode(errors="replace")
            raise Breakage(f"{name} of the CUDA driver fails: {told} (error {status})")


@dataclass(slots=True)
class Buffer:
    """Pinned host memory and where the device finds it: a copy, or that very memory if mapped."""

    host: NDArray[Any]
    address: int
    device: Any | None
    """PyCUDA's allocation; None where the device reads and writes the host's memory."""


class Gpu:
    """The primary context of a device on the thread that enters it, and all that was taken there."""

    def __init__(self, pycuda: Any, *, mapped: bool) -> None:
        self.fault: type[Exception] = pycuda.Error
        """What PyCUDA raises."""
        self._cuda = pycuda
        self._mapped = mapped
        self._held = ExitStack()

    def __enter__(self) -> Gpu:
        cuda = self._cuda
        with ExitStack() as stack:
            cuda.init()
            # A context of our own beside it is "invalid resource handle" in TensorRT and torch.
            context = cuda.Device(0).retain_primary_context()
            stack.callback(context.detach)
            context.push()
            stack.callback(context.pop)
            self._stream = cuda.Stream(flags=NON_BLOCKING)
            stack.callback(delattr, self, "_stream")
            self._held = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.__exit__(kind, error, trace)

    @property
    def stream(self) -> int:
        """The stream's handle, for the driver and TensorRT."""
        return int(self._stream.handle)

    def buffer(self, shape: tuple[int, ...], dtype: Any) -> Buffer:
        """Memory for an array, freed when the context is left."""
        flags = self._cuda.host_alloc_flags.DEVICEMAP if self._mapped else 0
        host = self._cuda.pagelocked_empty(shape, dtype, mem_flags=flags)
        self._held.callback(host.base.free)
        host[...] = 0
        if self._mapped:
            return Buffer(host, int(host.base.get_device_pointer()), None)
        device = self._cuda.mem_alloc(host.nbytes)
        self._held.callback(device.free)
        return Buffer(host, int(device), device)

    def copy_in(self, buffer: Buffer, count: int) -> None:
        """Enqueue the copy of the first `count` rows to the device, where one is needed."""
        if buffer.device is not None:
            self._cuda.memcpy_htod_async(buffer.device, buffer.host[:count], self._stream)

    def copy_out(self, buffer: Buffer, count: int) -> None:
        """Enqueue the copy of the first `count` rows from the device, where one is needed."""
        if buffer.device is not None:
            self._cuda.memcpy_dtoh_async(buffer.host[:count], buffer.device, self._stream)

    def wait(self) -> None:
        """Until all that was enqueued is done."""
        self._stream.synchronize()

    def times_ms(self, steps: list[Callable[[], None]]) -> list[float]:
        """How long the device takes for each of some steps enqueued one after another."""
        marks = [self._cuda.Event() for _ in range(len(steps) + 1)]
        marks[0].record(self._stream)
        for step, mark in zip(steps, marks[1:], strict=True):
            step()
            mark.record(self._stream)
        self.wait()
        return [float(end.time_since(start)) for start, end in pairwise(marks)]
