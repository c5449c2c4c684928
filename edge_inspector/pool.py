"""Core's workers: which has which frame, how many more they can take, and which one hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from edge_inspector import clock
from edge_inspector.channel import Job, Message
from edge_inspector.children import Child
from edge_inspector.records import FrameHead, FrameKey

JOBS_PER_WORKER = 2
"""One in hand and one waiting, so that a worker never idles for a round trip."""


class Pool:
    """Worker processes and the frames they hold; every frame given out comes back exactly once."""

    def __init__(self, workers: Sequence[Child], hang_ms: int) -> None:
        self._jobs: dict[Child, dict[FrameKey, Job]] = {worker: {} for worker in workers}
        self._ready: set[Child] = set()
        self._hang_ns = hang_ms * clock.NS_PER_MS

    @property
    def names(self) -> set[str]:
        """Names of the workers."""
        return {worker.name for worker in self._jobs}

    @property
    def room(self) -> int:
        """How many more frames the ready workers can take now."""
        return sum(max(JOBS_PER_WORKER - len(self._jobs[worker]), 0) for worker in self._ready)

    @property
    def moved_ns(self) -> int:
        """When the liveliest of the ready workers last said anything."""
        return max((worker.heard_ns for worker in self._ready), default=0)

    def start(self) -> None:
        """Start every worker."""
        for worker in self._jobs:
            worker.start()

    def ready(self, worker: Child) -> None:
        """A worker said that it can work."""
        self._ready.add(worker)

    def give(self, head: FrameHead, deadline_ns: int) -> bool:
        """Hand a frame to the worker with the least to do; False when none takes it."""
        worker = min(self._ready, key=lambda known: len(self._jobs[known]), default=None)
        job = Job(head, deadline_ns)
        if worker is None or not worker.send(job):
            return False
        self._jobs[worker][head.key] = job
        return True

    def tell(self, message: Message) -> None:
        """Say something to every ready worker; one whose line is full misses it."""
        for worker in self._ready:
            worker.send(message)

    def answered(self, worker: Child, key: FrameKey) -> bool:
        """A worker gave a frame back; False when it did not hold it."""
        return self._jobs[worker].pop(key, None) is not None

    def lost(self, worker: Child) -> tuple[FrameKey, ...]:
        """A worker is gone; the frames it held."""
        self._ready.discard(worker)
        held, self._jobs[worker] = tuple(self._jobs[worker]), {}
        return held

    def kill_hung(self, now_ns: int, tell: Callable[[Child], None]) -> None:
        """End workers that are far past a deadline: a driver call that never returns."""
        for worker, jobs in self._jobs.items():
            if any(now_ns > job.deadline_ns + self._hang_ns for job in jobs.values()):
                tell(worker)
                worker.kill()

    async def stop(self, patience_s: float) -> None:
        """Stop all of them."""
        await asyncio.gather(*(worker.stop(patience_s) for worker in self._jobs))
