"""A supervised child process of core: started with a channel, watched, started again when lost."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Coroutine, Mapping, Sequence

from edge_inspector import channel, clock
from edge_inspector.channel import Channel, Message, Stop

FIRST_BACKOFF_S = 0.05
LONGEST_BACKOFF_S = 2.0
BURST = 16
"""Messages read at once."""
SETTLED_NS = 5_000_000_000
"""A child that lived this long starts again without a pause."""


class Child:
    """
    One child and its line; all methods run on core's event loop.

    `on_message` gets what it says, last at `heard_ns`; `on_lost` is called once each time it is
    gone, after it was reaped, so that whatever it could write to it no longer can.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        inherit: Sequence[int],
        environment: Mapping[str, str],
        on_message: Callable[[Child, Message], None],
        on_lost: Callable[[Child], None],
    ) -> None:
        self.name = name
        self.starts = 0
        self.heard_ns = 0
        self._command = list(command)
        self._inherit = tuple(inherit)
        self._environment = dict(environment)
        self._on_message = on_message
        self._on_lost = on_lost
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._started_ns = 0
        self._backoff_s = 0.0
        self._wanted = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def pid(self) -> int | None:
        """Process id while it lives."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the process; `--channel-fd N` is added to its command."""
        self._wanted = True
        ours, theirs = channel.pair()
        ours.set_blocking(False)
        with theirs:
            self._process = subprocess.Popen(
                [*self._command, "--channel-fd", str(theirs.fileno())],
                pass_fds=(theirs.fileno(), *self._inherit),
                env=self._environment,
                stdin=subprocess.DEVNULL,
            )
        self._channel = ours
        self._started_ns = clock.now_ns()
        self.starts += 1
        asyncio.get_running_loop().add_reader(ours.fileno(), self._read)

    def send(self, message: Message) -> bool:
        """Say something; False when nobody listens any more or its line is full."""
        if self._channel is None:
            return False
        try:
            return self._channel.send(message)
        except BlockingIOError:
            return False

    def kill(self) -> None:
        """End it at once; `on_lost` follows."""
        if self._process is not None:
            self._process.kill()

    async def stop(self, patience_s: float) -> None:
        """Ask it to leave, wait, then end it; it is not started again."""
        self._wanted = False
        self.send(Stop())
        process = self._process
        if process is not None:
            try:
                await asyncio.to_thread(process.wait, patience_s)
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.wait)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._close_channel()

    def _read(self) -> None:
        """What waits, a bounded number of messages, so that no child keeps core from the others."""
        self.heard_ns = clock.now_ns()
        for _ in range(BURST):
            if self._channel is None:
                return
            try:
                message = self._channel.receive()
            except BlockingIOError:
                return
            if message is None:
                self._close_channel()
                self._spawn(self._lost())
            else:
                self._on_message(self, message)

    async def _lost(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)
        if not self._wanted:
            return
        self._on_lost(self)
        lived_long = clock.now_ns() - self._started_ns > SETTLED_NS
        self._backoff_s = (
            0.0 if lived_long else min(LONGEST_BACKOFF_S, self._backoff_s * 2 + FIRST_BACKOFF_S)
        )
        await self._start_again(self._backoff_s)

    async def _start_again(self, pause_s: float) -> None:
        """After a pause; where the box has no process or memory left for it, after another one."""
        await asyncio.sleep(pause_s)
        if not self._wanted:
            return
        try:
            self.start()
        except OSError:
            self._spawn(self._start_again(LONGEST_BACKOFF_S))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _close_channel(self) -> None:
        if self._channel is not None:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._channel.close()
            self._channel = None


class Roster:
    """Which children are ready to work."""

    def __init__(self) -> None:
        self._ready: set[str] = set()
        self._changed = asyncio.Event()

    def add(self, child: Child) -> None:
        """This one said that it is ready."""
        self._ready.add(child.name)
        self._changed.set()

    def remove(self, child: Child) -> None:
        """This one is gone."""
        self._ready.discard(child.name)

    def has(self, names: set[str]) -> bool:
        """Whether all of these are ready."""
        return names <= self._ready

    def wake(self) -> None:
        """Whoever waits looks again."""
        self._changed.set()

    async def until(self, names: set[str], stopping: asyncio.Event) -> bool:
        """Wait for all of these; False when told to stop before."""
        while not self.has(names) and not stopping.is_set():
            self._changed.clear()
            await self._changed.wait()
        return not stopping.is_set()
