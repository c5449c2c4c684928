"""What TensorRT says while it works: it raises nothing, its log alone tells why a call gave None."""

from __future__ import annotations

import re
from collections import deque
from types import ModuleType
from typing import Any, Protocol

from edge_inspector import clock
from edge_inspector.errors import BackendMissing

KEPT = 4
"""Errors of the log that a message cites, the last ones."""
EVERY_NS = 2_000 * clock.NS_PER_MS
"""Between two words about how far a build is; one that takes minutes and is silent looks dead."""
RANGES = {"tensorrt": ((10, 3), (12,)), "tensorrt_rtx": ((1,), (2,))}
"""From, and below: what the names that are used exist in. 10.2.0 is known to be faulty."""


class Tell(Protocol):
    """What is told while a plan is made: an event's name and its facts, as a logger takes them."""

    def __call__(self, event: str, **facts: Any) -> object:
        """One event."""


def check_version(trt: ModuleType) -> None:
    """Raises `BackendMissing` for a release whose names and faults are not known."""
    found = tuple(int(part) for part in re.findall(r"\d+", trt.__version__)[:4])
    least, below = RANGES[trt.__name__]
    if not least <= found < below:
        wanted = ".".join(map(str, least)), ".".join(map(str, below))
        raise BackendMissing(
            f"{trt.__name__} is {trt.__version__}; install one from {wanted[0]} to below {wanted[1]}"
        )


def logger(trt: ModuleType) -> Any:
    """A logger for TensorRT's objects; its `last()` is what went wrong, in TensorRT's own words."""

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        """Keeps the last errors."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=KEPT)

        def log(self, severity: Any, message: str) -> None:
            """Called from TensorRT's own threads too."""
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(" ".join(message.split()))

        def last(self) -> str:
            return "; ".join(self.errors) or "TensorRT gives no reason"

    return Logger()


class Steps:
    """
    How far a build is, told every two seconds; phases may be nested, the outer ones are told.

    Ctrl-C ends the build and is left in `stopped`: it must not pass through TensorRT's own frames.
    """

    def __init__(self, tell: Tell) -> None:
        self.tell = tell
        self.steps: dict[str, int] = {}
        self.told_ns = clock.now_ns()
        self.stopped: KeyboardInterrupt | None = None

    def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase begins."""
        if parent is None:
            self.steps[phase] = steps

    def step_complete(self, phase: str, step: int) -> bool:
        """A step is done; whether to go on."""
        try:
            if phase in self.steps and clock.now_ns() - self.told_ns > EVERY_NS:
                self.told_ns = clock.now_ns()
                self.tell("plan_progress", phase=phase, step=step + 1, of=self.steps[phase])
        except KeyboardInterrupt as error:
            self.stopped = error
        except OSError:  # nobody reads what is told: the build goes on
            self.steps.clear()
        return self.stopped is None

    def phase_finish(self, phase: str) -> None:
        """A phase is over."""
        self.steps.pop(phase, None)


def progress(trt: ModuleType, tell: Tell) -> Any:
    """`Steps` as a monitor that TensorRT's builder takes."""

    class Monitor(Steps, trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        """Both."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            Steps.__init__(self, tell)

    return Monitor()
