"""Each event to the docket, and whatever the docket answers to whom it concerns; and its timer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from edge_inspector import clock
from edge_inspector.channel import (
    Acked,
    ExpectWanted,
    IncumbentSaid,
    KeepPicture,
    Message,
    Remark,
    Row,
    RunBegan,
    RunWanted,
)
from edge_inspector.children import Child
from edge_inspector.docket import Docket
from edge_inspector.docket import words as d
from edge_inspector.failpoints import passing
from edge_inspector.gauge import Gauge
from edge_inspector.observe.incumbents import Incumbents
from edge_inspector.outbox import Outbox
from edge_inspector.outlet import Outlet
from edge_inspector.pool import Pool
from edge_inspector.records import Baseline, Committed, FrameKey, Outcome, unit_key
from edge_inspector.slots import Ledger

MOVED_NS = 160 * clock.NS_PER_MS
"""Each says every 40 ms that it works: 200 ms after one stops no toggle changes any more."""


class Steps:
    """The docket on core's event loop; `listeners` are the children that hear of every verdict."""

    def __init__(
        self,
        docket: Docket,
        outbox: Outbox,
        outlet: Outlet,
        slots: Ledger,
        pool: Pool,
        listeners: Sequence[Child],
        gauge: Gauge,
        incumbents: Incumbents | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._docket = docket
        self._outbox = outbox
        self._outlet = outlet
        self._slots = slots
        self._pool = pool
        self._listeners = listeners
        self._gauge = gauge
        self._incumbents = incumbents
        self._told: list[Committed] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due_ns: int | None = None

    def step(self, event: d.Event, now_ns: int | None = None) -> None:
        """Something happened, now where no instant is given."""
        self._step(event, now_ns)
        self._finish()

    def _step(self, event: d.Event, now_ns: int | None = None) -> None:
        actions = self._docket.step(event, clock.now_ns() if now_ns is None else now_ns)
        self._gauge.say(self._docket.open_units > 0)
        for action in actions:  # a worker waits for nothing; the journal is written beside it
            if isinstance(action, d.Dispatch):
                self._dispatch(action)
        for action in actions:
            self._act(action)

    def stored(
        self,
        journaled: Sequence[tuple[FrameKey, Committed | None, bool]],
        committed: Sequence[Committed],
    ) -> None:
        """These rows are on disk."""
        for key, stored, conflict in journaled:
            self._step(d.Journaled(key, stored, conflict))
        for row in committed:
            self._step(d.Settled(row))
        self._finish()

    def asked(self, message: Message) -> bool:
        """What a line controller asks for through a listener; False where it is something else."""
        match message:
            case Acked():
                self._outbox.acked(message.consumer, message.upto)
            case RunWanted():
                self.want_run()
            case ExpectWanted():
                self.step(d.Expected(message.trigger_id))
            case IncumbentSaid():
                key = unit_key(
                    self._docket.station, self._docket.run, message.trigger_id, message.unit_id
                )
                self._incumbent_said(key, message.said)
            case Remark():
                self._outlet.remarked(message.event, message.detail)
            case _:
                return False
        return True

    def want_run(self) -> None:
        """
        Trigger ids start again now, before it is on disk.

        The instant must be the one that is written, or a frame offered again after a restart would
        change its run; what is accepted from now on is written behind it, in order.
        """
        began_ns = clock.now_ns()
        self._outbox.new_run(began_ns)
        self.step(d.RunBegan(self._docket.run + 1), began_ns)

    def run_began(self, run: int) -> None:
        """This run is on disk."""
        for listener in self._listeners:
            listener.send(RunBegan(run))

    def moved(self, ingest: Child) -> bool:
        """Whether ingest, a worker and the store have all shown just now that they work."""
        least_ns = min(ingest.heard_ns, self._pool.moved_ns, self._outbox.moved_ns)
        return clock.now_ns() - least_ns < MOVED_NS

    def close(self) -> None:
        """No deadline matters any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _act(self, action: d.Action) -> None:
        match action:
            case d.Journal():
                head = action.head
                self._outbox.journal(head, action.deadline_ns)
                if head.incumbent is not None and self._incumbents is not None:
                    self._incumbents.say(head.unit_key, head.incumbent, head.arrived_ns)
            case d.Commit():
                self._outbox.commit(action.verdict)
            case d.Publish():
                self._publish(action.committed)
            case d.Release():
                self._slots.released(action.slot)
            case d.Reply():
                self._outlet.reply(action)
            case d.Note() | d.SequenceReset():
                self._outlet.remark(action)

    def _incumbent_said(self, key: str, said: Baseline) -> None:
        """For the report; of a unit that it failed and that passed here, a picture is wanted too."""
        if self._incumbents is not None:
            self._incumbents.say(key, said, clock.now_ns())
            if said.outcome is Outcome.FAIL:
                self._pool.tell(KeepPicture(key))

    def _publish(self, row: Committed) -> None:
        passing("core.before_publish")
        for listener in self._listeners:
            listener.send(Row(row.vseq, row.body, row.chain))
        self._told.append(row)

    def _finish(self) -> None:
        """Who waits hears first; then whoever only counts."""
        self._outlet.flush()
        told, self._told = self._told, []
        for row in told:
            self._outlet.publish(row)
            if self._incumbents is not None:
                self._incumbents.count()
            passing("core.after_publish")
        self._arm()

    def _dispatch(self, action: d.Dispatch) -> None:
        if not self._pool.give(action.head, action.deadline_ns):
            lost = d.WorkerLost((action.head.key,), "no worker took the frame")
            self._loop.call_soon(self.step, lost)
        passing("core.dispatched")

    def _arm(self) -> None:
        due_ns = self._docket.next_due()
        if due_ns == self._due_ns:
            return
        self._due_ns = due_ns
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due_ns is not None:
            self._timer = self._loop.call_at(due_ns / 1e9, self._tick)

    def _tick(self) -> None:
        self._due_ns = None
        self.step(d.Tick())
