"""A TCP proxy on loopback that gives a network trouble, one kind at a time, from a seed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter

KINDS = ("latency", "trickle", "reset", "half_open", "split", "refuse")


class FaultProxy:
    """
    Forwards to `port`; `fault(kind)` begins a trouble, `heal()` ends it.

    `done` counts what really happened, by kind: bytes or connections that met the trouble.
    """

    def __init__(self, port, seed=0):
        self.done: Counter[str] = Counter()
        self._target = port
        self._chance = random.Random(seed)
        self._kind = "clean"
        self._writers = set()
        self._frozen = set()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(5)
        self.endpoint = f"tcp://127.0.0.1:{self.port}"

    def fault(self, kind):
        asyncio.run_coroutine_threadsafe(self._begin(kind), self._loop).result(5)

    def heal(self):
        asyncio.run_coroutine_threadsafe(self._begin("clean"), self._loop).result(5)

    def close(self):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def _run(self):
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self):
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        self._cut()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin(self, kind):
        self._kind = kind
        if kind in ("reset", "refuse"):
            self.done[kind] += max(1, self._cut())
        if kind == "half_open":
            self._frozen |= self._writers
            self.done[kind] += max(1, len(self._frozen))

    def _cut(self):
        """Reset every connection; how many there were."""
        cut = list(self._writers)
        for writer in cut:
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
            writer.transport.abort()
        self._writers.clear()
        self._frozen.clear()
        return len(cut)

    async def _connected(self, reader, writer):
        if self._kind == "refuse":
            writer.transport.abort()
            self.done["refuse"] += 1
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        await asyncio.gather(
            self._pump(reader, far_writer), self._pump(far_reader, writer), return_exceptions=True
        )
        for one in (writer, far_writer):
            self._writers.discard(one)
            self._frozen.discard(one)
            one.transport.abort()

    async def _pump(self, reader, writer):
        while data := await reader.read(65536):
            await self._forward(data, writer)

    async def _forward(self, data, writer):
        kind = self._kind
        if writer in self._frozen or kind == "half_open":
            self._frozen.add(writer)
            self.done["half_open"] += 1
            return
        if kind == "latency":
            self.done["latency"] += 1
            await asyncio.sleep(self._chance.uniform(0.01, 0.08))
        for piece in _pieces(data, kind):
            writer.write(piece)
            await writer.drain()
            if kind in ("split", "trickle"):
                self.done[kind] += 1
                await asyncio.sleep(0.05 if kind == self._kind == "trickle" else 0)


def _pieces(data, kind):
    """The bytes as they are passed on: split at every one, as far as that does not take ages."""
    alone = {"split": 256, "trickle": len(data)}.get(kind, 0)
    pieces = [data[at : at + 1] for at in range(min(len(data), alone))]
    return pieces + ([data[alone:]] if len(data) > alone else [])
