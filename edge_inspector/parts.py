"""What the daemon is put together from; `wiring` gives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from edge_inspector.channel import Message
from edge_inspector.children import Child
from edge_inspector.docket import Docket
from edge_inspector.gauge import Gauge
from edge_inspector.metrics import Metrics
from edge_inspector.observe.incumbents import Incumbents
from edge_inspector.outbox import Outbox
from edge_inspector.protocols import Sink

State = Literal["starting", "ready", "degraded", "fault", "stopping"]
OnMessage = Callable[[Child, Message], None]
OnLost = Callable[[Child], None]
MakeChild = Callable[[OnMessage, OnLost], Child]
"""A child, not started; its command is without its channel."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What `wiring` builds and the daemon runs."""

    docket: Docket
    outbox: Outbox
    open_sinks: Callable[[], Sequence[Sink]]
    worker: Callable[[str, OnMessage, OnLost], Child]
    ingest: MakeChild
    listeners: Sequence[MakeChild]
    """Children that hear of every verdict and pulse: delivery and gateways."""
    workers: int
    slots: int
    hang_ms: int
    wants_verdict: frozenset[str]
    """Sources whose publishers wait for the verdict instead of an OK."""
    metrics: Metrics
    gauge: Gauge
    incumbents: Incumbents | None = None
    alarmed: Callable[[], State] = lambda: "ready"
    """What the alarms that hold make of a station that is well otherwise."""
