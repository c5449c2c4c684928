"""What request-mode publishers are told, and what is noted about frames that change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from edge_inspector.docket.desk import Past
from edge_inspector.docket.units import Part, Unit
from edge_inspector.docket.words import Action, Note, Reply
from edge_inspector.records import Committed, FrameHead

IN_LOG = "the log holds other pixels under this identity"


class Replies:
    """Every ticket gets exactly one final reply once its unit is settled or it was refused."""

    def __init__(self, act: Callable[[Action], None]) -> None:
        self._act = act

    def expect(self, part: Part, head: FrameHead) -> None:
        """Remember who waits for this frame's accept row, and after that for its unit's verdict."""
        if head.ticket:
            part.tickets.append(head.ticket)

    def refuse(self, head: FrameHead, text: str) -> None:
        """Other pixels under a known identity: noted, and never answered with the stored verdict."""
        self._act(Note(head.unit_key, text, "conflict"))
        if head.ticket:
            self._act(Reply(head.ticket, "no", f"conflict: {text}", final=True))

    def contradict(self, unit: Unit, head: FrameHead) -> None:
        """Other pixels for an open unit: an assured source gets the verdict that follows from it."""
        text = "other pixels came under the same identity"
        if not head.assured or unit.committed:
            self.refuse(head, text)
            return
        self._act(Note(head.unit_key, text, "conflict"))
        unit.tickets += [head.ticket] if head.ticket else []

    def again(self, head: FrameHead, known: int | None) -> None:
        """A frame of a unit that is decided, or that has it: noted, and answered if asked for."""
        kind: Literal["late", "duplicate"] = "late" if known is None else "duplicate"
        self._act(Note(head.unit_key, f"frame of camera '{head.camera}'", kind))
        if head.ticket:
            self._act(Reply(head.ticket, "no" if known is None else "ok", kind))

    def journaled(self, part: Part, *, conflict: bool) -> None:
        """The accept row is on disk."""
        if conflict:
            self._act(Note(part.unit.key, IN_LOG, "conflict"))
        for ticket in part.tickets:
            self._act(_accepted(ticket, part.head, conflict=conflict))
        part.unit.tickets += [] if conflict else part.tickets
        part.tickets.clear()

    def settled(self, unit: Unit, committed: Committed) -> None:
        """The verdict is on disk."""
        for ticket in unit.tickets:
            self._act(Reply(ticket, "verdict", committed=committed, final=True))
        unit.tickets.clear()

    def stored(self, head: FrameHead, past: Past) -> None:
        """The verdict was on disk before this frame came."""
        if head.ticket:
            self._act(Reply(head.ticket, "verdict", committed=past.committed(), final=True))


def _accepted(ticket: int, head: FrameHead, *, conflict: bool) -> Reply:
    if conflict:
        return Reply(ticket, "no", f"conflict: {IN_LOG}", final=True)
    if head.fault is not None:
        return Reply(ticket, "no", f"{head.fault.value}: {head.detail}")
    return Reply(ticket, "ok")
