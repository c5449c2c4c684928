"""The registers of one station between core and the PLC: status, commands, handshakes. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from edge_inspector.channel import ExpectWanted, Pulse, RunWanted
from edge_inspector.clock import NS_PER_MS
from edge_inspector.errors import WireError
from edge_inspector.gateways.results import Results
from edge_inspector.wire import registers
from edge_inspector.wire.codes import CODES
from edge_inspector.wire.registers import Command, Held, Result, Status, Trouble

SILENT_NS = 300 * NS_PER_MS
FROZEN_NS = 200 * NS_PER_MS
"""Without a change of core's toggle for so long, the station is not ready."""
PLC_SILENT_NS = 500 * NS_PER_MS
RECIPE = 1
"""The number of the recipe that the station runs; there is no other."""
Wish = RunWanted | ExpectWanted


class Board:
    """Everything that the two sides tell each other, beside the results."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.held = [0] * registers.HOLDING
        self._pulse: Pulse | None = None
        self._pulsed_ns = self._toggled_ns = -(10**18)
        self._beats = 0
        self._plc_ns: int | None = None
        self._echo = Command.NONE
        self._trouble = Trouble.NONE

    def pulse(self, pulse: Pulse, now_ns: int) -> None:
        """Core lives; only its toggle says that the station works."""
        if self._pulse is not None and pulse.toggle != self._pulse.toggle:
            self._toggled_ns = now_ns
            self._beats += 1
        self._pulse, self._pulsed_ns = pulse, now_ns

    def block(self, now_ns: int, *, busy: bool = False) -> tuple[int, ...]:
        """The input registers, all of one instant."""
        results = self.results
        return registers.encode(
            self._status(now_ns, busy),
            self._beats,
            self._told(),
            results.result(now_ns),
            results.waiting,
            self.trouble(now_ns),
        )

    def write(self, address: int, values: Sequence[int], now_ns: int) -> list[Wish] | None:
        """
        The PLC writes these holding registers; what core is asked for, or None for nonsense.

        A PLC may write the same values in each cycle: only what changes means anything.
        """
        new = [*self.held]
        new[address : address + len(values)] = values
        split = (address <= Held.NEXT_HIGH < address + len(values)) != (
            address <= Held.NEXT_LOW < address + len(values)
        )
        if len(new) != len(self.held) or new[Held.COMMAND] > max(Command) or split:
            self.results.counts["modbus_nonsense"] += 1
            return None
        old, self.held = self.held, new
        if self._plc_ns is None or old[Held.HEARTBEAT] != new[Held.HEARTBEAT]:
            self._plc_ns = now_ns
        known = address > Held.ACK or self.results.ack(new[Held.ACK])
        if not known and old[Held.ACK] not in (0, new[Held.ACK]):  # 0: of before we started
            self._complain(Trouble.WRONG_ACK)
        wishes: list[Wish] = []
        if old[Held.COMMAND] != new[Held.COMMAND]:
            wishes += self._command(Command(new[Held.COMMAND]), now_ns)
        announced = new[Held.NEXT_HIGH] << 16 | new[Held.NEXT_LOW]
        if announced and new[Held.NEXT_HIGH :] != old[Held.NEXT_HIGH :]:
            wishes.append(ExpectWanted(announced))
        return wishes

    def trouble(self, now_ns: int) -> Trouble:
        """What is wrong, the worst of it."""
        if now_ns - self._pulsed_ns > SILENT_NS:
            return Trouble.CORE_SILENT
        if self._plc_ns is not None and now_ns - self._plc_ns > PLC_SILENT_NS:
            return Trouble.PLC_SILENT
        lost = Trouble.RESULTS_LOST if self.results.overrun else Trouble.NONE
        return max(self._trouble, lost)

    def _status(self, now_ns: int, busy: bool) -> Status:
        state = self._pulse.state if self._pulse is not None else "starting"
        silent = now_ns - self._pulsed_ns > SILENT_NS
        moving = now_ns - self._toggled_ns <= FROZEN_NS
        faulty = state == "fault" or self.trouble(now_ns) is not Trouble.NONE
        bits = {
            Status.ONLINE: not silent,
            Status.READY: state == "ready" and moving and not self.results.awaits_run,
            Status.BUSY: busy,
            Status.RESULT_VALID: self.results.shown,
            Status.OVERRUN: self.results.overrun,
            Status.FAULT: faulty,
            Status.DEGRADED: state == "degraded",
            Status.TOGGLE: self._pulse is not None and self._pulse.toggle,
        }
        return Status(sum(bit for bit, on in bits.items() if on))

    def _told(self) -> int:
        """A new run is echoed once core has begun it, and not before."""
        if self._echo is Command.NEW_RUN and self.results.awaits_run:
            return Command.NONE
        return self._echo

    def _command(self, command: Command, now_ns: int) -> list[Wish]:
        self._echo = command
        match command:
            case Command.NONE:
                if self._trouble is Trouble.COMMAND_REFUSED:
                    self._trouble = Trouble.NONE
            case Command.DEQUEUE:
                self.results.dequeue()
            case Command.CLEAR_OVERRUN:
                self.results.overrun = False
                self._trouble = Trouble.NONE
            case Command.SELECT_RECIPE if self.held[Held.ARGUMENT] != RECIPE:
                self._refuse()
            case Command.SELF_TEST if now_ns - self._toggled_ns > FROZEN_NS or not sound():
                self._refuse()
            case Command.NEW_RUN:
                self.results.await_run()
                return [RunWanted()]
        return []

    def _refuse(self) -> None:
        """Without its echo the PLC knows that a command was not done."""
        self._echo = Command.NONE
        self._complain(Trouble.COMMAND_REFUSED)

    def _complain(self, trouble: Trouble) -> None:
        self._trouble = trouble
        self.results.counts[f"modbus_{trouble.name.lower()}"] += 1


def sound() -> bool:
    """Whether every outcome comes through the registers as itself, and no damaged one as any."""
    for code in CODES.values():
        block = list(
            registers.encode(Status(0), 0, 0, Result(counter=1, code=code), 0, Trouble.NONE)
        )
        if registers.decode(block).code != code:
            return False
        block[7] ^= 1
        try:
            registers.decode(block)
        except WireError:
            continue
        return False
    return True
