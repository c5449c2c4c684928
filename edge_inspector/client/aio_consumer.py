"""The reference line controller for asyncio: the threaded one, waited for by the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Literal

from edge_inspector import clock
from edge_inspector.client.delivered import Delivered
from edge_inspector.client.verdict_consumer import VerdictConsumer


class AsyncVerdictConsumer:
    """
    `VerdictConsumer` for a program on asyncio; open it inside a coroutine.

    `sync` is the threaded consumer, for what needs no waiting: `hold`, `replay`, `counts`,
    `state`; `lets_through` is its own. One task reads.

        async with AsyncVerdictConsumer("tcp://127.0.0.1:5571", consumer="gate-plc") as verdicts:
            async for delivered in verdicts:
                if verdicts.lets_through(delivered, trigger_id=part_at_the_gate()):
                    await open_gate()
    """

    def __init__(
        self,
        endpoint: str,
        *,
        consumer: str,
        station: str | None = None,
        start: int | Literal["live"] = 0,
        lanes: Literal[1, 2] = 2,
        validity_ms: int | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self.sync = VerdictConsumer(
            endpoint,
            consumer=consumer,
            station=station,
            start=start,
            lanes=lanes,
            validity_ms=validity_ms,
            notify=self._ring,
        )
        self.lets_through = self.sync.lets_through
        self.expect = self.sync.expect
        self.incumbent = self.sync.incumbent

    async def receive(self, timeout_ms: int | None = None) -> Delivered | None:
        """The next verdict, or None after `timeout_ms`; the one before counts as held."""
        give_up_ns = None if timeout_ms is None else clock.now_ns() + timeout_ms * clock.NS_PER_MS
        while True:
            self._arrived.clear()
            delivered = self.sync.receive(0)
            if delivered is not None:
                return delivered
            left_s = None if give_up_ns is None else (give_up_ns - clock.now_ns()) / 1e9
            try:
                await asyncio.wait_for(self._arrived.wait(), left_s)
            except asyncio.TimeoutError:
                return None

    async def __aiter__(self) -> AsyncIterator[Delivered]:
        while True:
            delivered = await self.receive()
            if delivered is not None:
                yield delivered

    async def new_run(self, timeout_ms: int = 2000) -> int:
        """Say that the part counter of the station starts again, as `VerdictConsumer.new_run`."""
        return await asyncio.to_thread(self.sync.new_run, timeout_ms)

    async def close(self) -> None:
        """Hold the verdict taken last, say so to the daemon, and let go."""
        await asyncio.to_thread(self.sync.close)

    async def __aenter__(self) -> AsyncVerdictConsumer:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.sync.__exit__, kind, error, trace)

    def _ring(self) -> None:
        self._loop.call_soon_threadsafe(self._arrived.set)
