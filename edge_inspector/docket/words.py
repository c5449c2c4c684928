"""What the docket is told and what it asks for: events in, actions out, all frozen."""

from __future__ import annotations

from typing import Literal

import msgspec

from edge_inspector.records import Committed, FrameHead, FrameKey, Inspection, Verdict


class Offered(msgspec.Struct, frozen=True, gc=False):
    """A frame arrived, or came with a fault."""

    head: FrameHead


class Journaled(msgspec.Struct, frozen=True, gc=False):
    """
    The accept row of a frame is synced.

    `stored` is the verdict that its unit already has in the log; `conflict` says that the log
    knows other pixels under the same identity.
    """

    key: FrameKey
    stored: Committed | None = None
    conflict: bool = False


class Inspected(msgspec.Struct, frozen=True, gc=False):
    """A worker answered and no longer reads the frame's slot."""

    key: FrameKey
    inspection: Inspection


class WorkerLost(msgspec.Struct, frozen=True, gc=False):
    """A worker is gone, and with it the frames it held."""

    keys: tuple[FrameKey, ...]
    detail: str = ""


class Capacity(msgspec.Struct, frozen=True, gc=False):
    """
    How many more frames the workers can take from now on.

    Sets the count; each `Dispatch` uses one up and nothing else moves it, so that the daemon says
    it again whenever a worker has room.
    """

    free: int


class Settled(msgspec.Struct, frozen=True, gc=False):
    """A verdict is on disk."""

    committed: Committed


class RunBegan(msgspec.Struct, frozen=True, gc=False):
    """The line's part counter started again; what was captured before belongs to the run before."""

    run: int


class Expected(msgspec.Struct, frozen=True, gc=False):
    """A line controller says that the unit with this trigger id is on its way, in this run."""

    trigger_id: int


class Tick(msgspec.Struct, frozen=True, gc=False):
    """Time has passed; due at `next_due()`."""


Event = (
    Offered | Journaled | Inspected | WorkerLost | Capacity | Settled | RunBegan | Expected | Tick
)


class Journal(msgspec.Struct, frozen=True, gc=False):
    """Write the accept row; `head.key` may differ from the offered one after a sequence reset."""

    head: FrameHead
    deadline_ns: int


class Dispatch(msgspec.Struct, frozen=True, gc=False):
    """Hand the frame to a worker."""

    head: FrameHead
    deadline_ns: int


class Commit(msgspec.Struct, frozen=True, gc=False):
    """Write the verdict, the only one of its unit."""

    verdict: Verdict


class Publish(msgspec.Struct, frozen=True, gc=False):
    """Hand the committed verdict to the sinks."""

    committed: Committed


class Release(msgspec.Struct, frozen=True, gc=False):
    """Nobody reads this slot any more."""

    slot: int


class Reply(msgspec.Struct, frozen=True, gc=False):
    """
    What a request-mode publisher may be told.

    A source with `reply = "ok"` is answered by the first one of its ticket, one with
    `reply = "verdict"` by the one that is `final`; there is exactly one of these per ticket.
    """

    ticket: int
    kind: Literal["ok", "no", "verdict"]
    detail: str = ""
    committed: Committed | None = None
    final: bool = False


class Note(msgspec.Struct, frozen=True, gc=False):
    """Something to count and log that changes no verdict."""

    unit_key: str
    text: str
    kind: Literal["late", "duplicate", "conflict", "unknown", "refused"] = "late"


class SequenceReset(msgspec.Struct, frozen=True, gc=False):
    """The publisher behind this source started to count anew."""

    source: str


Action = Journal | Dispatch | Commit | Publish | Release | Reply | Note | SequenceReset
