"""Workers and what they hold: every frame given out comes back exactly once."""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager

from edge_inspector import clock
from edge_inspector.channel import Done, Ready
from edge_inspector.children import Child
from edge_inspector.pool import JOBS_PER_WORKER, Pool
from edge_inspector.records import FrameHead, FrameKey

HANG_MS = 100
WORKER = """
import sys
from edge_inspector.channel import Channel, Done, Ready, Stop
from edge_inspector.verdict import uninspected
from edge_inspector.records import Reason
line = Channel.from_fd(int(sys.argv[-1]))
line.send(Ready())
answer = sys.argv[1] == "answers"
while not isinstance(message := line.receive(), (Stop, type(None))):
    if answer:
        line.send(Done(message.head, uninspected(Reason.NO_IMAGE, "a test")))
"""


def head(seq):
    return FrameHead(
        key=FrameKey("line", "e", seq),
        station="s",
        camera="main",
        recipe="r",
        arrived_ns=0,
        time_zero_ns=0,
    )


class Floor:
    """A pool of real processes, and what came back from it."""

    def __init__(self, kinds):
        self.answered = []
        self.strangers = 0
        self.lost = []
        self.hung = []
        self.ready = 0
        self.workers = [self._worker(number, kind) for number, kind in enumerate(kinds)]
        self.pool = Pool(self.workers, HANG_MS)

    def _worker(self, number, kind):
        return Child(
            f"worker-{number}",
            [sys.executable, "-c", WORKER, kind],
            inherit=(),
            environment=dict(os.environ),
            on_message=self._on_message,
            on_lost=lambda child: self.lost.append(self.pool.lost(child)),
        )

    def _on_message(self, child, message):
        if isinstance(message, Ready):
            self.pool.ready(child)
            self.ready += 1
        elif isinstance(message, Done) and self.pool.answered(child, message.head.key):
            self.answered.append(message.head.key)
        else:
            self.strangers += 1


@asynccontextmanager
async def floor(*kinds):
    running = Floor(kinds)
    running.pool.start()
    try:
        await until(lambda: running.ready == len(kinds))
        yield running
    finally:
        await running.pool.stop(1.0)


async def until(condition, seconds=10.0):
    give_up_ns = clock.now_ns() + int(seconds * 1e9)
    while not condition():
        assert clock.now_ns() < give_up_ns, "it did not happen in time"
        await asyncio.sleep(0.005)


def later_ns(ms=60_000):
    return clock.now_ns() + ms * clock.NS_PER_MS


async def test_frames_come_back_once_and_make_room_again():
    async with floor("answers", "answers") as running:
        pool = running.pool
        assert pool.room == 2 * JOBS_PER_WORKER
        assert pool.names == {"worker-0", "worker-1"}
        for seq in range(4):
            assert pool.give(head(seq), later_ns())
        assert pool.room == 0
        await until(lambda: len(running.answered) == 4)
        assert sorted(key.seq for key in running.answered) == [0, 1, 2, 3]
        assert pool.room == 2 * JOBS_PER_WORKER
        assert not pool.answered(running.workers[0], head(0).key)


async def test_the_worker_with_the_least_to_do_gets_the_frame():
    async with floor("keeps", "keeps") as running:
        for seq in range(4):
            assert running.pool.give(head(seq), later_ns())
        for worker in running.workers:
            worker.kill()
        await until(lambda: len(running.lost) == 2)
        assert sorted(len(held) for held in running.lost) == [2, 2]


async def test_frames_of_a_lost_worker_come_back_once_and_a_new_one_works():
    async with floor("keeps") as running:
        (worker,) = running.workers
        for seq in (7, 8):
            assert running.pool.give(head(seq), later_ns())
        worker.kill()
        await until(lambda: running.ready == 2)
        assert running.lost == [(head(7).key, head(8).key)]
        assert running.pool.lost(worker) == ()
        running.pool.ready(worker)
        assert running.pool.give(head(9), later_ns())


async def test_nobody_there_takes_no_frame():
    async with floor("keeps") as running:
        running.workers[0].kill()
        await until(lambda: running.lost)
        assert running.pool.room == 0
        assert not running.pool.give(head(1), later_ns())


async def test_only_a_worker_far_past_a_deadline_is_ended():
    async with floor("keeps", "keeps") as running:
        for worker in running.workers:
            os.kill(worker.pid, signal.SIGSTOP)
        deadline_ns = clock.now_ns()
        assert running.pool.give(head(1), deadline_ns)
        assert running.pool.give(head(2), later_ns())
        running.pool.kill_hung(deadline_ns + HANG_MS * clock.NS_PER_MS, running.hung.append)
        assert running.hung == []
        running.pool.kill_hung(deadline_ns + HANG_MS * clock.NS_PER_MS + 1, running.hung.append)
        assert len(running.hung) == 1
        await until(lambda: running.ready == 3)
        assert running.lost == [(head(1).key,)]
        assert sorted(worker.starts for worker in running.workers) == [1, 2]
