"""
The daemon without one of its protections, for the controls: `python crippled.py HOW STATION`.

`slow` takes none away: each commit of a verdict takes longer, as it does in `hasty`, where core
accepts, publishes and settles what is not on disk yet. `blind` has no eye for gaps.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge_inspector import wiring
from edge_inspector.cli.main import main
from edge_inspector.docket.gaps import Gaps
from edge_inspector.outbox import Outbox
from edge_inspector.outbox.entries import Entry, Written
from edge_inspector.outbox.outbox import Batch
from edge_inspector.outbox.store import Store
from edge_inspector.studies.harness import Station

COMMIT_S = 0.05
"""Two frames of the line: a kill at any time meets a commit that is not finished."""


class SlowStore(Store):
    """A disk that takes its time; `tell` hears of the rows before they are on it."""

    tell: Callable[[Written], None] | None = None

    def _write_rows(self, batch: Sequence[Entry]) -> Written:
        written = super()._write_rows(batch)
        if self.tell is not None:
            self.tell(written)
        if written.committed:
            threading.Event().wait(COMMIT_S)
        return written


class Slow(Outbox):
    """The verdict log on a slow disk."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self._store: SlowStore = SlowStore(folder)


class Hasty(Slow):
    """Says that rows are on disk when they are about to be."""

    def open(self, *, on_batch: Batch, **listeners: Any) -> int:
        aborted = super().open(on_batch=lambda journaled, committed: None, **listeners)
        self._store.tell = lambda written: on_batch(written.journaled, written.committed)
        return aborted


class Crippled(Station):
    """A station that is run by this script."""

    how = "slow"

    def command(self) -> list[str]:
        return [sys.executable, __file__, self.how, str(self.path)]


class HastyStation(Crippled):
    """Publishes before it commits."""

    how = "hasty"


class BlindStation(Crippled):
    """Sees no gap."""

    how = "blind"


def see_no_gap(gaps: Gaps, head: object) -> list[Any]:
    return []


if __name__ == "__main__":
    how, station = sys.argv[1:]
    if how == "blind":
        Gaps.missing = see_no_gap  # type: ignore[method-assign, assignment]
    else:
        vars(wiring)["Outbox"] = {"slow": Slow, "hasty": Hasty}[how]
    raise SystemExit(main(["run", station]))
