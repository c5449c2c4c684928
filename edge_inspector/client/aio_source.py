"""The reference source for asyncio: `offer` returns at once, a settlement is awaited."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from edge_inspector.client.frame_source import BUDGET_MS, DRAIN_S, FrameSource
from edge_inspector.client.frames import Settlement
from edge_inspector.client.offers import HOLD_BYTES

_LOOK_S = 0.1
"""A settlement comes at once; that the source is refused or closed is seen within this."""


class AsyncFrameSource:
    """
    A `FrameSource` whose settlements are awaited; make it in the loop that uses it.

    `offer` and `tombstone` never wait, so they are those of `FrameSource`.

        async with AsyncFrameSource("ipc:///run/edge-inspector/frames.sock", name="top") as source:
            seq = source.offer(image, trigger_id=17)
            settled = await source.settled(seq)
            print(settled.outcome.value if settled.outcome else "settled before")
    """

    def __init__(
        self,
        endpoint: str,
        *,
        name: str,
        cameras: Sequence[str] = ("main",),
        budget_ms: float = BUDGET_MS,
        hold_bytes: int = HOLD_BYTES,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: defaultdict[int, list[asyncio.Future[Settlement]]] = defaultdict(list)
        self.threaded = FrameSource(
            endpoint,
            name=name,
            cameras=cameras,
            budget_ms=budget_ms,
            hold_bytes=hold_bytes,
            on_settled=self._hand_over,
        )
        """The source beneath: its counts, records, link and state."""
        self.offer = self.threaded.offer
        self.tombstone = self.threaded.tombstone

    async def settled(self, seq: int) -> Settlement:
        """
        Frame `seq` once it is settled; put `asyncio.wait_for` around it to give up earlier.

        Raises `Misuse` and `Breakage` as `FrameSource.wait` does.
        """
        future: asyncio.Future[Settlement] = self._loop.create_future()
        self._waiting[seq].append(future)
        try:
            while (known := self.threaded.wait(seq, timeout_ms=0)) is None:
                await asyncio.wait([future], timeout=_LOOK_S)
            return known
        finally:
            self._waiting[seq].remove(future)
            if not self._waiting[seq]:
                del self._waiting[seq]

    async def close(self, drain_s: float = DRAIN_S) -> None:
        """Take no more, wait up to `drain_s` for what is unsettled, and leave."""
        await asyncio.to_thread(self.threaded.close, drain_s)

    async def __aenter__(self) -> AsyncFrameSource:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def _hand_over(self, settlement: Settlement) -> None:
        self._loop.call_soon_threadsafe(self._resolve, settlement)

    def _resolve(self, settlement: Settlement) -> None:
        for future in self._waiting.get(settlement.seq, ()):
            if not future.done():
                future.set_result(settlement)
