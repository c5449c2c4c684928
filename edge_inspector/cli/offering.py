"""`simulate`'s two ways to a daemon: a PLAIN publisher, or a source that has every frame settled."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TextIO

from numpy.typing import NDArray

from edge_inspector import clock
from edge_inspector.client import FrameSource, Publisher, Settlement
from edge_inspector.errors import Breakage

MAX_UNSETTLED = 64
"""Frames on their way where no rate is set, so that as fast as it goes is as fast as it is taken."""
SETTLE_S = 10.0
LISTENER_MS = 30_000


class Offered(NamedTuple):
    """A unit at the station: pixels as `client` takes them, ids, what the old inspector said."""

    pixels: NDArray[Any] | bytes
    unit_id: str
    trigger_id: int
    incumbent: str | None = None


class Line(Protocol):
    """Where the units of a simulated line go."""

    def send(self, unit: Offered, *, paced: bool) -> None:
        """One unit is at the station."""

    def finish(self) -> dict[str, Any]:
        """All was sent; what there is to say about it."""


class PlainLine(AbstractContextManager["PlainLine"]):
    """Publishes; what is lost, is lost."""

    def __init__(self, endpoint: str, kind: Any, camera: str | None) -> None:
        self._camera = camera
        self._publisher = Publisher(endpoint, kind)
        if kind == "pub" and not self._publisher.wait_for_listener(LISTENER_MS):
            self._publisher.close()
            raise Breakage(f"nobody subscribed to {endpoint} within {LISTENER_MS} ms")

    def send(self, unit: Offered, *, paced: bool) -> None:
        """Publish it."""
        self._publisher.send(**unit._asdict(), camera=self._camera, captured_ns=clock.utc_ns())

    def finish(self) -> dict[str, Any]:
        """Nothing is known."""
        return {}

    def __exit__(self, *error: object) -> None:
        self._publisher.close()


class AssuredLine(AbstractContextManager["AssuredLine"]):
    """Offers; `records` gets a JSON line for each frame that the daemon settled."""

    def __init__(
        self, endpoint: str, name: str, camera: str | None, budget_ms: float, records: Path | None
    ) -> None:
        self._stack = ExitStack()
        self._file: TextIO | None = None
        if records is not None:
            self._file = self._stack.enter_context(records.open("w", buffering=1))
        self._outcomes: Counter[str] = Counter()
        self._source = self._stack.enter_context(
            FrameSource(
                endpoint,
                name=name,
                cameras=(camera or "main",),
                budget_ms=budget_ms,
                on_settled=self._settled,
            )
        )

    def send(self, unit: Offered, *, paced: bool) -> None:
        """Offer it; without a rate, when there is room for it."""
        while not paced and self._source.unsettled >= MAX_UNSETTLED:
            self._source.wait_all(timeout_ms=1)
        self._source.offer(**unit._asdict())

    def finish(self) -> dict[str, Any]:
        """Wait for the last verdicts; what the source knows from its own records."""
        self._source.wait_all(timeout_ms=SETTLE_S * 1000)
        return {
            "unsettled": self._source.unsettled,
            "outcomes": dict(self._outcomes),
            "counts": dict(self._source.counts),
        }

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _settled(self, settlement: Settlement) -> None:
        code = settlement.reason or settlement.outcome
        self._outcomes[code.value if code else "unknown"] += 1
        if self._file is not None:
            row = {
                "seq": settlement.seq,
                "vseq": settlement.vseq,
                "unit_id": settlement.unit_id,
                "trigger_id": settlement.trigger_id,
                "outcome": code.value if code else None,
            }
            self._file.write(json.dumps(row) + "\n")
