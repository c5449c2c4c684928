"""Keeps verdicts in a list, for tests and programs that embed the daemon."""

from __future__ import annotations

from edge_inspector import settings
from edge_inspector.records import Committed


class MemorySink:
    """`rows` in the order of publication."""

    def __init__(self, sink: settings.MemorySink | None = None, station: str = "") -> None:
        self.rows: list[Committed] = []
        self.states: list[tuple[int, str]] = []
        self.closed = False

    def publish(self, row: Committed) -> None:
        """Keep one."""
        self.rows.append(row)

    def publish_state(self, head_vseq: int, state: str) -> None:
        """Keep one."""
        self.states.append((head_vseq, state))

    def close(self) -> None:
        """Rows stay readable."""
        self.closed = True
