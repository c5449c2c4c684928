"""What a source is given, and what it hands over: the seam between sources and ingest."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import msgspec
import numpy as np
import zmq
from numpy.typing import NDArray

from edge_inspector.channel import Answer, Pulse
from edge_inspector.errors import WireError
from edge_inspector.records import Baseline, Reason
from edge_inspector.wire.layout import DTYPES, Layout, raw_layout
from edge_inspector.wire.plain import Identity

RAW = Layout()
ANONYMOUS = Identity()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a source may use and must keep to."""

    context: zmq.Context[zmq.Socket[bytes]]
    recipe: str
    cameras: frozenset[str]
    recipes: frozenset[str]
    max_bytes: int
    max_pixels: int
    count: Callable[[str, str], None]
    """Name of the source and of what happened: counts it."""
    budget_us: int = 600_000_000
    """Latency budget of the active recipe."""


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """
    One frame, or the `fault` that came instead of it.

    `epoch` is new with each connection; `camera` and `recipe` default to the source's and the
    station's. `reply` is called from another thread with each answer of core about the frame.
    What an assured source knows beyond that is in `offered`.
    """

    arrived_ns: int
    epoch: str
    pixels: memoryview | None = None
    layout: Layout = RAW
    identity: Identity = ANONYMOUS
    camera: str | None = None
    recipe: str | None = None
    fault: Reason | None = None
    detail: str = ""
    reply: Callable[[Answer], None] | None = None
    offered: Offered | None = None
    incumbent: Baseline | None = None


class Offered(msgspec.Struct, frozen=True, gc=False):
    """A frame of the ASSURED tier: who offers it, when its time began, what its pixels must be."""

    source: str
    time_zero_ns: int
    budget_us: int | None
    digest: int
    tombstone: bool
    repeat: bool = False


@runtime_checkable
class HearsPulse(Protocol):
    """A source whose peers hear how the station is."""

    def pulse(self, pulse: Pulse) -> None:
        """Core said so; called from the thread that made the source."""


Offer = Callable[[Arrival], None]


def new_epoch() -> str:
    """Names one connection of a source for good."""
    return uuid.uuid4().hex


def of_array(pixels: NDArray[Any], max_pixels: int) -> tuple[memoryview, Layout]:
    """Bytes and layout of an array (h, w[, c]); raises `WireError` when no frame can be that."""
    if pixels.dtype.str not in DTYPES:
        raise WireError(f"{pixels.dtype} samples; 8 and 16 bits are taken")
    body = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8).data
    return body, raw_layout(pixels.dtype.str, pixels.shape, None, len(body), max_pixels)
