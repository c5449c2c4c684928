"""A child process started for real, with the test in core's place."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections import Counter

from edge_inspector import channel, clock
from edge_inspector.channel import Acked, Alive, Pulse, Ready, Row, Stop


class CoreSide:
    """Core's side of the line to one child; what a subclass must know at once it sees in `take`."""

    peaceful: tuple[int, ...] = (0, -signal.SIGKILL)
    """How a child that had started may leave."""

    def __init__(self, command, config, env=(), **descriptors):
        self.counters: Counter[str] = Counter()
        self.line, theirs = channel.pair()
        with theirs:
            told = {"channel": theirs.fileno(), **descriptors}
            words = [word for name, fd in told.items() for word in (f"--{name}-fd", str(fd))]
            self.process = subprocess.Popen(
                [sys.executable, *command, *words, "--config", config],
                pass_fds=tuple(told.values()),
                env={**os.environ, **dict(env)},
            )
        self.started: object = None

    def take(self, message):
        """Look at whatever comes, once."""

    def message(self, *kinds, timeout_s=10.0):
        """The next message of these kinds, None when the child is gone; counters are added up."""
        give_up_ns = clock.now_ns() + timeout_s * 1e9
        while True:
            left_s = max(0, give_up_ns - clock.now_ns()) / 1e9
            if not select.select([self.line.fileno()], [], [], left_s)[0]:
                raise TimeoutError(f"no {kinds} within {timeout_s} s")
            message = self.line.receive()
            if isinstance(message, Alive):
                self.counters.update(message.counters)
            self.take(message)
            if message is None or isinstance(message, kinds):
                return message

    def until_counted(self, name, count=1, timeout_s=5.0):
        give_up_ns = clock.now_ns() + timeout_s * 1e9
        while self.counters[name] < count and clock.now_ns() < give_up_ns:
            self.message(Alive)
        return self.counters[name]

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.line.send(Stop())

    def close(self):
        self.stop()
        try:
            status = self.process.wait(5)
        finally:
            self.kill()
            self.line.close()
        assert status in (self.peaceful if isinstance(self.started, Ready) else (1,))


class LogSide(CoreSide):
    """Core's side where the child tells the rows of a log."""

    def __init__(self, written, command, config, env=(), **descriptors):
        super().__init__(command, config, env, **descriptors)
        self.store = written
        self.acked = []
        self.toggle = False

    def take(self, message):
        if isinstance(message, Acked):
            self.acked.append((message.consumer, message.upto))
            self.store.outbox.acked(message.consumer, message.upto)

    def commit(self, count=1, **fields):
        """Commit, and say so as core does."""
        rows = self.store.commit(count, **fields)
        for row in rows:
            self.line.send(Row(row.vseq, row.body, row.chain))
        return rows

    def pulse(self, state="ready", *, moved=True):
        self.toggle ^= moved
        outbox = self.store.outbox
        self.line.send(Pulse(outbox.head(), outbox.oldest(), state, self.toggle))

    def until_acked(self, consumer, upto):
        while (consumer, upto) not in self.acked:
            self.message(Acked)
