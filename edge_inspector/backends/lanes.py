"""
A TensorRT plan opened on a device: one lane for each batch size, all on one stream.

A lane has an execution context of its own and one CUDA graph: copy in, inference, copy out.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_inspector.backends import check_input
from edge_inspector.backends.cuda import Buffer, Gpu, Graphs
from edge_inspector.backends.plans import Plan, check_precision
from edge_inspector.backends.trt_words import logger
from edge_inspector.errors import Breakage, EngineRefused, Uninspectable
from edge_inspector.records import Pixels, Reason


class Lane:
    """
    One batch size; `graph` is None where the plain path serves.

    The context is held here alone: a frame of a traceback that held it too would free it on another
    thread, when the device is gone.
    """

    def __init__(self, count: int, gpu: Gpu) -> None:
        self.count = count
        self.context: Any = None
        self.graph: int | None = None
        self._gpu = gpu

    def infer(self, log: Any) -> None:
        """Enqueue the inference alone; raises `EngineRefused` in TensorRT's words."""
        if not self.context.execute_async_v3(self._gpu.stream):
            raise refusal("execute_async_v3 returned False", log)

    def capturable(self) -> bool:
        """Whether the context may be captured; TensorRT for RTX alone can say that it may not."""
        says = getattr(self.context, "is_stream_capturable", None)
        return says is None or bool(says(self._gpu.stream))

    def free(self, graphs: Graphs | None) -> None:
        """The graph before the context that it runs."""
        if graphs is not None and self.graph is not None:
            graphs.free(self.graph)
        self.graph, self.context = None, None


class Lanes:
    """
    The runner; made, used and left by the one thread that owns the device.

    Nothing is allocated after it was entered: addresses and shapes are those of the graphs.
    """

    def __init__(
        self, trt: ModuleType, pycuda: Any, plan: Plan, graphs: Graphs | None, *, mapped: bool
    ) -> None:
        self.plain: dict[int, str] = {}
        """Why a batch size runs without a graph."""
        self.warmed = 0
        """Runs that only kept the device warm."""
        self.precision_confirmed = False
        """Whether the engine's inspector names the types that it computes in."""
        self._trt = trt
        self._plan = plan
        self._graphs = graphs
        self._log = logger(trt)
        self._gpu = Gpu(pycuda, mapped=mapped)
        self._lanes: list[Lane] = []
        self._answers: dict[str, Buffer] = {}
        self._lost = ""
        self._held = ExitStack()

    def __enter__(self) -> Lanes:
        """Raises `EngineRefused`; nothing is held then."""
        with ExitStack() as stack:
            try:
                stack.enter_context(self._gpu)
                stack.callback(self._free)
                self._open()
            except (self._gpu.fault, RuntimeError) as error:
                raise EngineRefused(
                    f"{self._plan.module} on the GPU: {error}; {self._log.last()}"
                ) from error
            self._held = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.__exit__(kind, error, trace)

    def run(self, batch: Pixels, *, graph: bool = True) -> Mapping[str, NDArray[Any]]:
        """
        Answers for crops; raises `Uninspectable`, and `Breakage` after a fault of the device.

        A faulted context never recovers: the process must end, and whoever starts it again chooses
        a runtime that works.
        """
        if self._lost:
            raise Breakage(f"the GPU was lost: {self._lost}; start the worker again")
        most = self._lanes[-1].count
        try:
            parts = [self._pass(batch[i : i + most], graph) for i in range(0, len(batch), most)]
        except EngineRefused as error:
            raise Uninspectable(Reason.MODEL_FAULT.value, str(error)) from error
        except (self._gpu.fault, Breakage) as error:
            self._lost = str(error)
            raise Uninspectable(Reason.MODEL_FAULT.value, f"the GPU: {error}") from error
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def keep_warm(self) -> None:
        """Run the smallest lane on whatever lies in its buffers; nobody sees the answer."""
        if self._lost:
            return
        try:
            self._launch(self._lanes[0], graph=True)
            self._gpu.wait()
            self.warmed += 1
        except (self._gpu.fault, Breakage, EngineRefused) as error:
            self._lost = str(error)

    def times_ms(self, count: int) -> list[float]:
        """The device's time for copy in, inference and copy out of a batch, without a graph."""
        lane = self._lane(count)
        return self._gpu.times_ms(
            [
                lambda: self._gpu.copy_in(self._crops, lane.count),
                lambda: lane.infer(self._log),
                lambda: self._copy_out(lane),
            ]
        )

    def _pass(self, batch: Pixels, graph: bool) -> dict[str, NDArray[Any]]:
        count = len(batch)
        self._crops.host[:count] = batch
        self._launch(self._lane(count), graph)
        self._gpu.wait()
        return {name: answer.host[:count].copy() for name, answer in self._answers.items()}

    def _lane(self, count: int) -> Lane:
        return next(lane for lane in self._lanes if lane.count >= count)

    def _launch(self, lane: Lane, graph: bool) -> None:
        if graph and lane.graph is not None and self._graphs is not None:
            self._graphs.launch(lane.graph, self._gpu.stream)
        else:
            self._enqueue(lane)

    def _enqueue(self, lane: Lane) -> None:
        self._gpu.copy_in(self._crops, lane.count)
        lane.infer(self._log)
        self._copy_out(lane)

    def _copy_out(self, lane: Lane) -> None:
        for answer in self._answers.values():
            self._gpu.copy_out(answer, lane.count)

    def _open(self) -> None:
        self._runtime = self._trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(self._plan.raw)
        if self._engine is None:
            raise Undeserializable(f"deserialize_cuda_engine gave None: {self._log.last()}")
        self.precision_confirmed = check_precision(self._trt, self._engine, self._plan.precision)
        self._input, self._outputs = self._names()
        self._crops = self._gpu.buffer((self._plan.max_batch, *self._plan.shape), np.uint8)
        for count in sizes(self._plan.max_batch):
            self._lanes.insert(0, Lane(count, self._gpu))
            self._open_lane(self._lanes[0])
            self._warm(self._lanes[0])

    def _names(self) -> tuple[str, list[str]]:
        trt = self._trt
        inputs: list[str] = []
        outputs: list[str] = []
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            if self._engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
                raise EngineRefused(f"tensor '{name}' is not in the GPU's memory; export it again")
            is_input = self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            (inputs if is_input else outputs).append(name)
        dtype = self._dtype(inputs[0]) if inputs else np.dtype(np.void)
        shape = tuple(self._engine.get_tensor_shape(inputs[0])) if inputs else ()
        found = check_input(
            [side if side >= 0 else None for side in shape], dtype.name, len(inputs)
        )
        if found != self._plan.shape:
            raise EngineRefused(f"the plan takes crops of {found}, not of {self._plan.shape}")
        return inputs[0], outputs

    def _dtype(self, name: str) -> np.dtype[Any]:
        kind = self._engine.get_tensor_dtype(name)
        try:
            found: np.dtype[Any] = np.dtype(self._trt.nptype(kind))
        except TypeError as error:
            raise EngineRefused(
                f"tensor '{name}' is {kind}, which numpy has not; cast it in the graph"
            ) from error
        return found

    def _open_lane(self, lane: Lane) -> None:
        lane.context = self._context()
        if lane.context is None:
            raise refusal("create_execution_context gave None", self._log)
        shape = (lane.count, *self._plan.shape)
        if not lane.context.set_input_shape(self._input, shape):
            raise refusal(f"set_input_shape of {shape} returned False", self._log)
        if missing := lane.context.infer_shapes():
            raise refusal(f"infer_shapes misses {', '.join(missing)}", self._log)
        self._place_answers(lane)
        for name, buffer in {self._input: self._crops, **self._answers}.items():
            if not lane.context.set_tensor_address(name, buffer.address):
                raise refusal(f"set_tensor_address of '{name}' returned False", self._log)

    def _place_answers(self, lane: Lane) -> None:
        """Memory for the answers of the largest lane, in which those of the others lie too."""
        for name in self._outputs:
            found = tuple(lane.context.get_tensor_shape(name))
            if found[:1] != (lane.count,) or min(found) < 0:
                raise EngineRefused(
                    f"output '{name}' is {found} for {lane.count} crops; its shape must be known "
                    f"and begin with {lane.count}; export it again"
                )
            if name not in self._answers:
                self._answers[name] = self._gpu.buffer(found, self._dtype(name))

    def _context(self) -> Any:
        # TensorRT for RTX swaps in better kernels later unless told to compile them at once: a
        # graph would keep the first ones, and answer otherwise than the plain path.
        when = getattr(self._trt, "DynamicShapesKernelSpecializationStrategy", None)
        if when is None:
            return self._engine.create_execution_context()
        runtime_config = self._engine.create_runtime_config()
        runtime_config.dynamic_shapes_kernel_specialization_strategy = when.EAGER
        return self._engine.create_execution_context(runtime_config)

    def _warm(self, lane: Lane) -> None:
        """One plain run, since the first one allocates; then the graph, where one can be had."""
        self._enqueue(lane)
        self._gpu.wait()
        if self._graphs is None:
            self.plain[lane.count] = "the driver has no graphs, or they were not asked for"
        elif not lane.capturable():
            self.plain[lane.count] = "the runtime says that it cannot be captured"
        else:
            try:
                lane.graph = self._graphs.capture(self._gpu.stream, lambda: self._enqueue(lane))
            except (Breakage, EngineRefused, self._gpu.fault) as error:
                self.plain[lane.count] = str(error)
                # What was half captured is gone; the plain path must still work.
                self._enqueue(lane)
                self._gpu.wait()

    def _free(self) -> None:
        for lane in self._lanes:
            lane.free(self._graphs)
        self._lanes.clear()
        self._engine = None
        self._runtime = None


class Undeserializable(EngineRefused):
    """The plan is of another version or device, or damaged: it may be built again."""


def sizes(most: int) -> list[int]:
    """Batch sizes that get a lane, largest first: `most` and the powers of two below it."""
    return [most, *(1 << power for power in reversed(range((most - 1).bit_length())))]


def refusal(what: str, log: Any) -> EngineRefused:
    """What TensorRT would not do, and why in its own words."""
    return EngineRefused(f"TensorRT: {what}: {log.last()}")
