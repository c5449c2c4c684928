"""
A recording stand-in for PyCUDA, libcuda's graph functions and TensorRT: no GPU, no arithmetic of one.

It shows which calls are made, in what order, on what thread and with what arguments. Streams do
their work when somebody waits for them, so that an answer read too early is an old one. TensorRT's
classes have the members that the names file lists for a release, and no others.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

NAMES = json.loads((Path(__file__).parents[1] / "data" / "trt_api_names.json").read_text())
RELEASES = tuple(NAMES)
WORDS = "the fake has its reasons"
FIRST_HANDLE = 0x7F12_0000_0000
"""Wider than 32 bits, as handles of 64-bit systems are."""


class CudaError(Exception):
    """What PyCUDA raises."""


class World:
    """One device: what was called, what is held, and what shall fail."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.arguments: dict[str, list[tuple[Any, ...]]] = {}
        self.threads: set[int] = set()
        self.held: Counter[str] = Counter()
        self.memory: dict[int, np.ndarray] = {}
        self.queue: list[Callable[[], None]] = []
        self.capturing: list[Callable[[], None]] | None = None
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.failing: dict[str, set[int]] = {}
        """Name -> which of its calls fail, from 1."""
        self.bias = 0.0
        """What the engine adds to the mean grey of a crop before it answers."""
        self.numbers = itertools.count(FIRST_HANDLE, 4096)

    def call(self, name: str, *arguments: Any) -> bool:
        """Record a call; whether it succeeds."""
        self.calls.append(name)
        self.arguments.setdefault(name, []).append(arguments)
        self.threads.add(threading.get_ident())
        return len(self.arguments[name]) not in self.failing.get(name, set())

    def fail(self, name: str, *numbers: int) -> None:
        """These calls of `name`, counted from now on and from 1, will fail."""
        done = len(self.arguments.get(name, ()))
        self.failing[name] = {done + number for number in numbers}

    def enqueue(self, work: Callable[[], None]) -> None:
        (self.queue if self.capturing is None else self.capturing).append(work)

    def finish(self) -> None:
        for work in self.queue:
            work()
        self.queue.clear()


class Allocation:
    """Host or device memory."""

    def __init__(self, world: World, kind: str, count: int) -> None:
        self.world, self.kind, self.address = world, kind, next(world.numbers)
        self.bytes = np.full(count, 0xA5, np.uint8)
        world.memory[self.address] = self.bytes
        world.held[kind] += 1

    def __int__(self) -> int:
        return self.address

    def get_device_pointer(self) -> int:
        return self.address

    def free(self) -> None:
        self.world.call(f"{self.kind}.free")
        self.world.held[self.kind] -= 1
        del self.world.memory[self.address]


class HostAllocation(Allocation):
    """The base of a pinned array."""

    def __init__(self, world: World, shape: tuple[int, ...], dtype: Any) -> None:
        super().__init__(world, "host", int(np.prod(shape)) * np.dtype(dtype).itemsize)
        view = self.bytes.view(dtype).reshape(shape)
        self.__array_interface__ = view.__array_interface__


def pycuda(world: World) -> Any:  # noqa: C901
    """What the runner uses of `pycuda.driver`."""

    class Context:
        def __init__(self) -> None:
            world.held["context"] += 1

        def push(self) -> None:
            world.call("push")
            world.held["pushed"] += 1

        def pop(self) -> None:
            world.call("pop")
            world.held["pushed"] -= 1

        def detach(self) -> None:
            world.call("detach")
            world.held["context"] -= 1

    class Device:
        def __init__(self, ordinal: int) -> None:
            world.call("Device", ordinal)

        def retain_primary_context(self) -> Context:
            world.call("retain_primary_context")
            return Context()

    class Stream:
        def __init__(self, flags: int = 0) -> None:
            if not world.call("Stream", flags):
                raise CudaError(WORDS)
            self.handle = next(world.numbers)
            world.held["stream"] += 1

        def synchronize(self) -> None:
            assert world.capturing is None, "a stream under capture cannot be waited for"
            if not world.call("synchronize"):
                world.queue.clear()
                del self  # PyCUDA's methods leave no frame that would keep the stream
                raise CudaError(WORDS)
            world.finish()

        def __del__(self) -> None:
            world.call("stream.free")
            world.held["stream"] -= 1

    class Event:
        def record(self, stream: Any) -> None:
            world.call("record")

        def time_since(self, other: Any) -> float:
            return 0.25

    def pagelocked_empty(shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> Any:
        assert world.capturing is None
        world.call("pagelocked_empty", mem_flags)
        return np.asarray(HostAllocation(world, shape, dtype))

    def mem_alloc(count: int) -> Allocation:
        assert world.capturing is None
        if not world.call("mem_alloc", count):
            raise CudaError("out of memory")
        return Allocation(world, "device", count)

    def memcpy_htod_async(dest: Allocation, src: Any, stream: Any) -> None:
        world.call("htod")
        flat = src.reshape(-1).view(np.uint8)
        world.enqueue(lambda: dest.bytes.__setitem__(slice(len(flat)), flat))

    def memcpy_dtoh_async(dest: Any, src: Allocation, stream: Any) -> None:
        world.call("dtoh")
        flat = dest.reshape(-1).view(np.uint8)
        world.enqueue(lambda: flat.__setitem__(slice(None), src.bytes[: len(flat)]))

    return SimpleNamespace(
        Error=CudaError,
        init=lambda: world.call("init"),
        Device=Device,
        Stream=Stream,
        Event=Event,
        host_alloc_flags=SimpleNamespace(DEVICEMAP=2),
        pagelocked_empty=pagelocked_empty,
        mem_alloc=mem_alloc,
        memcpy_htod_async=memcpy_htod_async,
        memcpy_dtoh_async=memcpy_dtoh_async,
    )


class Function:
    """A function of libcuda; the first argument that is a pointer receives its answer."""

    def __init__(self, world: World, name: str, work: Callable[..., Any]) -> None:
        self.argtypes: Any = None
        self.world, self.name, self.work = world, name, work

    def __call__(self, *arguments: Any) -> int:
        if len(arguments) != len(self.argtypes):
            raise TypeError(f"{self.name} takes {len(self.argtypes)} arguments")
        plain = [getattr(value, "value", value) for value in arguments]
        good = self.world.call(self.name, *plain)
        if not good:
            self.world.capturing = None
        found = self.work(*plain) if good else None
        for value in arguments:
            if hasattr(value, "_obj"):
                value._obj.value = found if good else None
        return 0 if good else 901


def libcuda(world: World) -> Any:
    """The graph functions of the driver, by the names and argument orders of cuda.h."""

    def begin(stream: int, mode: int) -> None:
        assert not world.queue, "captured before the stream was done"
        world.capturing = []

    def end(stream: int, place: Any) -> int:
        graph = next(world.numbers)
        assert world.capturing is not None
        world.graphs[graph], world.capturing = world.capturing, None
        world.held["graph"] += 1
        return graph

    def instantiate(place: Any, graph: int, flags: int) -> int:
        ready = next(world.numbers)
        world.graphs[ready] = list(world.graphs[graph])
        world.held["exec"] += 1
        return ready

    def launch(graph: int, stream: int) -> None:
        world.queue.extend(world.graphs[graph])

    def drop(kind: str) -> Callable[[int], None]:
        def destroy(graph: int) -> None:
            del world.graphs[graph]
            world.held[kind] -= 1

        return destroy

    def say(status: int, place: Any) -> bytes:
        return WORDS.encode()

    works: dict[str, Callable[..., Any]] = {
        "cuStreamBeginCapture_v2": begin,
        "cuStreamEndCapture": end,
        "cuGraphInstantiateWithFlags": instantiate,
        "cuGraphUpload": lambda ready, stream: None,
        "cuGraphLaunch": launch,
        "cuGraphExecDestroy": drop("exec"),
        "cuGraphDestroy": drop("graph"),
        "cuGetErrorString": say,
    }
    return SimpleNamespace(**{name: Function(world, name, work) for name, work in works.items()})


class Tensors:
    """Inputs and outputs of the fake engine: name -> (type, shape for n crops)."""

    def __init__(self, side: int = 8) -> None:
        self.inputs: dict[str, tuple[str, tuple[int, ...]]] = {
            "crops": ("UINT8", (-1, side, side, 1))
        }
        self.outputs: dict[str, tuple[str, tuple[int, ...]]] = {
            "score": ("FLOAT", (-1,)),
            "anomaly_map": ("UINT8", (-1, side // 4, side // 4)),
        }
        self.on_host: set[str] = set()

    @property
    def all(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        return {**self.inputs, **self.outputs}


def tensorrt(  # noqa: C901
    world: World, release: str, tensors: Tensors | None = None
) -> ModuleType:
    """A module with the members that `release` has; the score is a crop's mean grey in 0..1."""
    names = NAMES[release]
    told = tensors or Tensors()
    module = ModuleType("tensorrt")

    def listed(name: str, members: dict[str, Any], bases: tuple[type, ...] = ()) -> type:
        """A class with the behaviours whose names the release lists for it."""
        known = {member: members[member] for member in names[name] if member in members}
        special = {member: members[member] for member in members if member.startswith("__")}
        found = type(name, bases, {**known, **special})
        setattr(module, name, found)
        return found

    for name in ("DataType", "TensorIOMode", "TensorLocation", "LayerInformationFormat"):
        setattr(module, name, SimpleNamespace(**{word: word for word in names[name]["enum"]}))
    listed("ILogger", {"ERROR": "ERROR", "INTERNAL_ERROR": "INTERNAL_ERROR"})

    def hold(self: Any, kind: str, name: str, value: Any) -> None:
        setattr(self, name, value)
        world.held[kind] += 1

    def made(self: Any, engine: Any) -> None:
        self.engine_, self.addresses, self.shape = engine, {}, None
        world.held["execution"] += 1

    def gone(self: Any) -> None:
        world.call("execution.free")
        world.held["execution"] -= 1

    def set_input_shape(self: Any, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return world.call("set_input_shape", name, shape)

    def set_tensor_address(self: Any, name: str, address: int) -> bool:
        self.addresses[name] = address
        return world.call("set_tensor_address", name, address)

    def infer_shapes(self: Any) -> list[str]:
        return [] if world.call("infer_shapes") else ["crops"]

    def get_tensor_shape(self: Any, name: str) -> tuple[int, ...]:
        shape = told.all[name][1]
        return (self.shape[0], *shape[1:]) if shape[0] < 0 else shape

    def execute_async_v3(self: Any, stream: int) -> bool:
        if not world.call("execute_async_v3", stream):
            self.engine_.runtime.logger_.log("ERROR", WORDS)
            return False
        world.enqueue(lambda: infer(self))
        return True

    def infer(self: Any) -> None:
        count, *sides = self.shape
        crops = world.memory[self.addresses["crops"]][: count * int(np.prod(sides))]
        means = crops.reshape(count, -1).mean(axis=1) + world.bias
        for name, (kind, shape) in told.outputs.items():
            values = means.astype(np.uint8) if kind == "UINT8" else (means / 255).astype("f4")
            row = np.repeat(values[:, None], int(np.prod(shape[1:])), axis=1)
            flat = row.reshape(-1).view(np.uint8)
            world.memory[self.addresses[name]][: len(flat)] = flat

    context = listed(
        "IExecutionContext",
        {
            "__init__": made,
            "__del__": gone,
            "set_input_shape": set_input_shape,
            "set_tensor_address": set_tensor_address,
            "infer_shapes": infer_shapes,
            "get_tensor_shape": get_tensor_shape,
            "execute_async_v3": execute_async_v3,
        },
    )

    def create_execution_context(self: Any, config: Any = None) -> Any:
        if not world.call("create_execution_context", config):
            self.runtime.logger_.log("ERROR", WORDS)
            return None
        return context(self)

    def get_tensor_location(self: Any, name: str) -> str:
        return "HOST" if name in told.on_host else "DEVICE"

    def get_tensor_mode(self: Any, name: str) -> str:
        return "INPUT" if name in told.inputs else "OUTPUT"

    engine = listed(
        "ICudaEngine",
        {
            "__init__": lambda self, runtime: hold(self, "engine", "runtime", runtime),
            "__del__": lambda self: world.held.subtract({"engine": 1}),
            "num_io_tensors": property(lambda self: len(told.all)),
            "get_tensor_name": lambda self, index: list(told.all)[index],
            "get_tensor_mode": get_tensor_mode,
            "get_tensor_location": get_tensor_location,
            "get_tensor_dtype": lambda self, name: told.all[name][0],
            "get_tensor_shape": lambda self, name: told.all[name][1],
            "create_execution_context": create_execution_context,
            "create_engine_inspector": lambda self: None,
        },
    )

    def deserialize(self: Any, raw: bytes) -> Any:
        if not world.call("deserialize_cuda_engine", len(raw)):
            self.logger_.log("ERROR", WORDS)
            return None
        return engine(self)

    listed(
        "Runtime",
        {
            "__init__": lambda self, logger: hold(self, "runtime", "logger_", logger),
            "__del__": lambda self: world.held.subtract({"runtime": 1}),
            "deserialize_cuda_engine": deserialize,
        },
    )

    def nptype(kind: str) -> Any:
        if kind not in ("FLOAT", "UINT8"):
            raise TypeError(f"Could not resolve TensorRT datatype {kind} to an equivalent numpy")
        return {"FLOAT": np.float32, "UINT8": np.uint8}[kind]

    module.nptype = nptype  # type: ignore[attr-defined]
    return module
