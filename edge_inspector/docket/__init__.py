"""Exactly one verdict per accepted unit, by its deadline: a pure state machine and its words."""

from edge_inspector.docket.docket import Docket
from edge_inspector.docket.words import (
    Action,
    Capacity,
    Commit,
    Dispatch,
    Event,
    Inspected,
    Journal,
    Journaled,
    Note,
    Offered,
    Publish,
    Release,
    Reply,
    SequenceReset,
    Settled,
    Tick,
    WorkerLost,
)

__all__ = [
    "Action",
    "Capacity",
    "Commit",
    "Dispatch",
    "Docket",
    "Event",
    "Inspected",
    "Journal",
    "Journaled",
    "Note",
    "Offered",
    "Publish",
    "Release",
    "Reply",
    "SequenceReset",
    "Settled",
    "Tick",
    "WorkerLost",
]
