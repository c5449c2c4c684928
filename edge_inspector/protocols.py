"""The seams: two to four methods each, with an in-memory implementation beside every real one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from edge_inspector.records import Committed, Crop, Frame, Inspection, Pixels, Score


class Session(Protocol):
    """One engine opened in one runtime."""

    def run(self, batch: Pixels) -> Mapping[str, NDArray[Any]]:
        """Infer crops, uint8 (n, h, w, c), to the graph's named outputs, first axis n."""

    def close(self) -> None:
        """Give back what the runtime holds."""


class Backend(Protocol):
    """An inference runtime, made with `cache=`: the folder to keep compiled models in, or None."""

    name: str

    def open(self, model: bytes, *, threads: int) -> Session:
        """Compile an ONNX model; raises `EngineRefused` when this runtime cannot run it."""


class Scorer(Protocol):
    """Crops to evidence: an engine, or the rules."""

    input_shape: tuple[int, int, int]
    """Height, width, channels of the crops it takes."""

    def score(self, crops: Sequence[Crop]) -> list[Score]:
        """One score per crop, in order; raises `Uninspectable` when evidence cannot be had."""


class Inspects(Protocol):
    """Anything that judges a frame."""

    def inspect(self, frame: Frame) -> Inspection:
        """The answer for one frame; never raises for a bad frame, the outcome says so instead."""


class Sink(Protocol):
    """Where committed verdicts go."""

    def publish(self, row: Committed) -> None:
        """Hand one committed verdict on; must not block."""

    def publish_state(self, head_vseq: int, state: str) -> None:
        """Once a second: the newest verdict there is, and how the station is; must not block."""

    def close(self) -> None:
        """Flush and let go."""


class Source(Protocol):
    """
    Where frames come from: runs in a thread of the ingest process until told to stop.

    A source calls `offer` for each frame that arrived, and nothing else of the daemon.
    """

    def run(self, offer: Callable[..., None]) -> None:
        """Receive until `stop` is called."""

    def stop(self) -> None:
        """Make `run` return within a second; called from another thread."""
