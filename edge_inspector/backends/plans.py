"""
TensorRT plans: what its builder makes of an ONNX graph for one device, kept between starts.

The ONNX is the source of truth: a plan that does not fit, or cannot be trusted, is built again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from edge_inspector.backends.driver import Device


class Tell(Protocol):
    """What is told while a plan is made: an event's name and its facts, as a logger takes them."""

    def __call__(self, event: str, **facts: Any) -> object:
        """One event."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What a builder is asked for; precision is the graph's own (networks are strongly typed)."""

    max_batch: int = 16
    optimal_batch: int = 1
    tf32: bool = False
    level: int = 3
    """TensorRT's builder_optimization_level."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A serialized engine, for `Runtime.deserialize_cuda_engine`."""

    raw: bytes
    module: str
    """tensorrt or tensorrt_rtx."""
    shape: tuple[int, int, int]
    """Height, width, channels of the crops."""
    max_batch: int
    precision: str
    """Lowest that the graph asks for: float32, float16, bfloat16, int8, fp8."""
    fresh: bool
    """Built now, not read from the cache."""
    kept: Path | None
    """Its file in the cache."""
