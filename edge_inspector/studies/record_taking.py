"""Frames on their way into a recorded folder, from wherever they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from edge_inspector import clock
from edge_inspector.errors import EdgeInspectorError, Uninspectable
from edge_inspector.records import FrameHead, Pixels
from edge_inspector.studies.recorded import Recording
from edge_inspector.wire.pixels import to_array

REST_NS = 2_000_000_000
"""How long the last unit waits for its other cameras."""

Tick = Callable[[Recording], object]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a recording came to; `counts` is what did not end up in the folder, by its cause."""

    folder: Path
    units: int
    frames: int
    beside_daemon: bool
    interrupted: bool
    counts: dict[str, int]


class Taking:
    """Which frames are kept, what became of the others, the end."""

    def __init__(
        self, recording: Recording, cameras: Sequence[str], max_pixels: int, tick: Tick
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.over = False
        self.interrupted = False
        self.fault: Exception | None = None
        self.heard_ns = clock.now_ns()
        self.last_fault = ""
        self._full_ns = 0
        self._recording = recording
        self._cameras = cameras
        self._max_pixels = max_pixels
        self._tick = tick

    def take(self, head: FrameHead, buffer: Pixels | None) -> None:
        """One frame, or the fault that came instead of it; what cannot be kept ends it all."""
        if self.over:
            return
        if head.fault is not None or buffer is None:
            self.miss(head.fault.value if head.fault else "no_image", head.detail)
        elif self._recording.wants(head):
            try:
                pixels: NDArray[Any] = to_array(head, buffer, self._max_pixels)
                self._recording.add(head, pixels)
            except Uninspectable as error:
                self.miss(error.reason, error.detail)
            except (EdgeInspectorError, OSError) as error:
                self.end(error)
            self.alive()
            self._tick(self._recording)
        self.over = self.over or self._recording.whole(self._cameras)

    def alive(self) -> None:
        """Something works; patience begins anew."""
        self.heard_ns = clock.now_ns()

    def miss(self, cause: str, detail: str = "") -> None:
        """A frame that is not in the folder."""
        self.counts[cause] += 1
        self.last_fault = detail or self.last_fault

    def rest(self, now_ns: int) -> None:
        """The last unit waits for its other cameras, but not for ever."""
        if self._recording.whole(()):
            self._full_ns = self._full_ns or now_ns
            self.over = self.over or now_ns - self._full_ns > REST_NS

    def end(self, fault: Exception) -> None:
        """It cannot go on."""
        self.fault, self.over = self.fault or fault, True

    def interrupt(self) -> None:
        """Somebody wants it to end."""
        self.over = self.interrupted = True

    def report(self, *, beside: bool) -> Report:
        """What is there now; raises what ended it."""
        if self.fault is not None:
            raise self.fault
        return Report(
            folder=self._recording.folder,
            units=self._recording.units,
            frames=self._recording.frames,
            beside_daemon=beside,
            interrupted=self.interrupted,
            counts=dict(+self.counts),
        )
