"""One thread that owns a device: it opens it, does every job on it in order, and lets it go."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from edge_inspector.errors import Breakage, EdgeInspectorError

Owned = TypeVar("Owned")
Found = TypeVar("Found")
LOOK_S = 0.2
"""How often a caller who waits looks whether the thread is still there."""


class Owner(Generic[Owned]):
    """
    Runs jobs on what `opening` gives, and `idle` after every `period_s` without a job.

    CUDA's objects must be freed by the thread that made them, also when the process ends.
    """

    def __init__(
        self,
        opening: Callable[[], AbstractContextManager[Owned]],
        idle: Callable[[Owned], None],
        period_s: float,
    ) -> None:
        """Raises what opening raises, an `EdgeInspectorError`."""
        self._opening = opening
        self._idle = idle
        self._period_s = period_s
        self._jobs: SimpleQueue[tuple[Callable[[Owned], Any], SimpleQueue[Any]] | None]
        self._jobs = SimpleQueue()
        opened: SimpleQueue[Any] = SimpleQueue()
        self._thread = threading.Thread(
            target=self._main, args=(opened,), name="device-owner", daemon=True
        )
        self._thread.start()
        atexit.register(self.close)
        try:
            self._wait(opened)
        except EdgeInspectorError:
            self.close()
            raise

    def do(self, job: Callable[[Owned], Found]) -> Found:
        """What the job returns or raises, done by the thread; raises `Breakage` when it is gone."""
        reply: SimpleQueue[Any] = SimpleQueue()
        self._jobs.put((job, reply))
        found: Found = self._wait(reply)
        return found

    def close(self) -> None:
        """Let the device go, after the job in hand; again does nothing."""
        self._jobs.put(None)
        self._thread.join()
        atexit.unregister(self.close)

    def _wait(self, reply: SimpleQueue[Any]) -> Any:
        while self._thread.is_alive() or not reply.empty():
            try:
                done, found = reply.get(timeout=LOOK_S)
            except Empty:
                continue
            if not done:
                raise found
            return found
        raise Breakage("the thread that owns the GPU has ended; start the worker again")

    def _main(self, opened: SimpleQueue[Any]) -> None:
        try:
            with self._opening() as owned:
                opened.put((True, None))
                self._serve(owned)
        except EdgeInspectorError as error:
            opened.put((False, error))

    def _serve(self, owned: Owned) -> None:
        while True:
            try:
                message = self._jobs.get(timeout=self._period_s)
            except Empty:
                self._idle(owned)
                continue
            if message is None:
                return
            job, reply = message
            try:
                reply.put((True, job(owned)))
            except EdgeInspectorError as error:
                reply.put((False, error))
