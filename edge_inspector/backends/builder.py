"""
TensorRT's builder on an ONNX graph: one code path for 10.3 to 11.4 and TensorRT for RTX.

Networks are strongly typed, so that precision is the graph's own and asked for nowhere else.
Nothing of TensorRT raises: every return is checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from edge_inspector import clock
from edge_inspector.backends import check_input
from edge_inspector.backends.trt_words import Tell, logger, progress
from edge_inspector.errors import BackendMissing, EngineRefused

PRECISIONS = {"FP8": "fp8", "INT8": "int8", "HALF": "float16", "BF16": "bfloat16"}
"""TensorRT's types by our names, the lowest first; a graph without them is float32."""


_REMEDY = "export it again with this release of Edge Inspector, or choose another backend"


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What a builder is asked for."""

    max_batch: int = 16
    optimal_batch: int = 1
    tf32: bool = False
    level: int = 3
    """TensorRT's builder_optimization_level."""


@dataclass(frozen=True, slots=True)
class Built:
    """What a builder made of a graph."""

    raw: bytes
    shape: tuple[int, int, int]
    precision: str
    timing: bytes
    """What it learned of kernels' times; empty with RTX, which chooses kernels on the GPU."""
    seconds: float


def built(
    trt: ModuleType, model: bytes, options: BuildOptions, tell: Tell, timing: bytes = b""
) -> Built:
    """
    A plan of this graph; needs no device with `tensorrt_rtx`. Raises `EngineRefused`.

    `timing` is what an earlier build on this box learned.
    """
    begun = clock.now_ns()
    log = logger(trt)
    builder = _builder(trt, log)
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    if network is None:
        raise EngineRefused(f"{trt.__name__} gives no strongly typed network: {log.last()}")
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        raise EngineRefused(
            f"{trt.__name__} cannot run this graph: {_parse_errors(parser, log)}; {_REMEDY}"
        )
    shape = _shape(network)
    config = _config(trt, builder, options)
    _add_profile(builder, config, network.get_input(0).name, shape, options, log)
    timed = trt.__name__ == "tensorrt"
    if timed:
        give_timing(config, timing, log)
    monitor = config.progress_monitor = progress(trt, tell)
    raw = builder.build_serialized_network(network, config)
    if monitor.stopped is not None:
        raise monitor.stopped
    if raw is None:
        raise EngineRefused(f"{trt.__name__} builds no plan of this graph: {log.last()}; {_REMEDY}")
    learned = take_timing(config) if timed else b""
    seconds = (clock.now_ns() - begun) / 1e9
    return Built(bytes(raw), shape, precision_of(network), learned, seconds)


def _builder(trt: ModuleType, log: Any) -> Any:
    try:
        return trt.Builder(log)
    except TypeError as error:  # how its bindings tell of a null pointer
        raise BackendMissing(
            f"the builder of {trt.__name__} does not start: {log.last()}; it needs a driver, and "
            "the builder resources for this GPU that come with the full package"
        ) from error


def _config(trt: ModuleType, builder: Any, options: BuildOptions) -> Any:
    config = builder.create_builder_config()
    config.builder_optimization_level = options.level
    # The inspector names types then.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    return config


def give_timing(config: Any, timing: bytes, log: Any) -> None:
    """Let the builder use what an earlier build measured; another device's is left aside."""
    for raw in (timing, b""):
        found = config.create_timing_cache(raw)
        if found is not None and config.set_timing_cache(found, False):
            return
    raise EngineRefused(f"TensorRT takes no timing cache: {log.last()}")


def take_timing(config: Any) -> bytes:
    """What the builder measured; empty when it keeps nothing."""
    found = config.get_timing_cache()
    return bytes(found.serialize()) if found is not None else b""


def precision_of(network: Any) -> str:
    """The lowest precision of a strongly typed network's tensors."""
    layers = (network.get_layer(index) for index in range(network.num_layers))
    types = {layer.get_output(n).dtype.name for layer in layers for n in range(layer.num_outputs)}
    return next((ours for name, ours in PRECISIONS.items() if name in types), "float32")


def _shape(network: Any) -> tuple[int, int, int]:
    """Height, width, channels; raises `EngineRefused` for what no profile can be made for."""
    if not network.num_inputs:
        raise EngineRefused(f"the graph has no input; {_REMEDY}")
    given = network.get_input(0)
    sides = [side if side >= 0 else "any" for side in given.shape]
    shape = check_input(sides, given.dtype.name.lower(), network.num_inputs)
    if sides[0] != "any":
        raise EngineRefused(
            f"the graph takes batches of {sides[0]} crops alone; export it again with n free"
        )
    return shape


def _add_profile(
    builder: Any,
    config: Any,
    name: str,
    shape: tuple[int, int, int],
    options: BuildOptions,
    log: Any,
) -> None:
    profile = builder.create_optimization_profile()
    batches = (1, options.optimal_batch, options.max_batch)
    profile.set_shape(name, *((n, *shape) for n in batches))
    if config.add_optimization_profile(profile) < 0:
        raise EngineRefused(f"TensorRT takes no batches of {batches}: {log.last()}")


def _parse_errors(parser: Any, log: Any) -> str:
    found = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        at = f"node {error.node_name()} ({error.node_operator()}): " if error.node_name() else ""
        found.append(at + " ".join(error.desc().split()))
    return "; ".join(found) or str(log.last())
