"""
The discrete process: verdicts to the relays of a remote I/O coupler, for as long as core lives.

A child of core, so that a coupler which does not answer holds nothing up. It switches off and leaves
when core is gone. When this process itself is killed the coupler keeps its outputs: the watchdog
output stands still then, and what it feeds must cut.
"""

from __future__ import annotations

import logging
import select
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from edge_inspector import clock, process
from edge_inspector.channel import (
    Alive,
    Channel,
    Failed,
    Message,
    Pulse,
    Ready,
    Remark,
    Row,
    Stop,
)
from edge_inspector.errors import EdgeInspectorError
from edge_inspector.gateways.coupler import Coupler
from edge_inspector.gateways.relays import Relays
from edge_inspector.records import Verdict
from edge_inspector.settings_sinks import DiscreteSink

MEMORY_MIB = 512
ALIVE_NS = 100 * clock.NS_PER_MS
_BURST = 64
_VERDICT = msgspec.msgpack.Decoder(Verdict)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until core says stop or is gone; 1 where it cannot start."""
    # A killed core leaves it the time to switch off.
    arguments = process.begin("discrete", argv, outlives_core=True)
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    line = Channel.from_fd(arguments.channel_fd)
    line.set_blocking(False)
    sink = DiscreteSink.model_validate_json(arguments.config)
    try:
        coupler = Coupler(sink)
    except EdgeInspectorError as error:
        line.try_send(Failed.of(error))
        return 1
    process.limit_growth(MEMORY_MIB)
    Discrete(sink, line, coupler).serve()
    coupler.close()
    line.close()
    return 0


class Discrete:
    """Core on one side, the coupler on the other."""

    def __init__(self, sink: DiscreteSink, line: Channel, coupler: Coupler) -> None:
        self._address = f"{sink.host}:{sink.port}"
        self._line = line
        self._coupler = coupler
        self._relays = Relays(
            round(sink.delay_ms * clock.NS_PER_MS),
            round(sink.window_ms * clock.NS_PER_MS),
            sink.beat_ms * clock.NS_PER_MS,
        )
        self._answered: bool | None = None
        self._over = False

    def serve(self) -> None:
        """Show what core's verdicts say; at the end the pass output is off."""
        self._line.try_send(Ready(f"relays of {self._address}"))
        alive_ns = 0
        while not self._over:
            now_ns = clock.now_ns()
            left_ns = self._relays.next_change_ns(now_ns) - now_ns
            if select.select([self._line.fileno()], [], [], left_ns / 1e9)[0]:
                self._listen()
            now_ns = clock.now_ns()
            self._coupler.show(
                passing=self._relays.passing(now_ns) and not self._over,
                beat=self._relays.beat(now_ns),
            )
            self._tell_doubt()
            if now_ns >= alive_ns and self._line.try_send(Alive(dict(self._relays.counts))):
                alive_ns = now_ns + ALIVE_NS
                self._relays.counts.clear()

    def _listen(self) -> None:
        with suppress(BlockingIOError):
            for _ in range(_BURST):
                self._hear(self._line.receive())

    def _hear(self, message: Message | None) -> None:
        match message:
            case Row():
                try:
                    verdict = _VERDICT.decode(message.body)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    self._relays.counts["discrete_unreadable_rows"] += 1
                    return
                self._relays.settled(verdict, clock.now_ns())
            case Pulse():
                self._relays.pulse(message, clock.now_ns())
            case Stop() | None:
                self._over = True

    def _tell_doubt(self) -> None:
        """Say once when the coupler stops answering, and when it answers again."""
        if self._coupler.answers is self._answered:
            return
        self._answered = self._coupler.answers
        self._relays.counts["discrete_lost"] += not self._answered
        problem = self._coupler.problem
        state = "answers" if self._answered else f"does not answer ({problem}); parts are rejected"
        self._line.try_send(Remark("coupler", f"{self._address} {state}"))


if __name__ == "__main__":
    raise SystemExit(main())
