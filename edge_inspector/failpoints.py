"""
Named places between two commits at which a test may end the process, as a kill -9 would.

`EI_FAILPOINT=name:count` in the environment ends the process at the `count`-th passage of `name`;
without it a passage costs one comparison. Every name is in `NAMES`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

VARIABLE = "EI_FAILPOINT"
NAMES = (
    "ingest.received",
    "ingest.stored",
    "ingest.told",
    "core.offered",
    "core.dispatched",
    "core.inspected",
    "store.before_accept",
    "store.after_accept",
    "store.before_verdict",
    "store.after_verdict",
    "store.before_cursor",
    "store.after_cursor",
    "store.before_run",
    "store.after_run",
    "store.checkpoint",
    "store.checkpointed",
    "core.before_publish",
    "core.after_publish",
    "core.before_settled",
    "worker.inspecting",
    "worker.inspected",
    "delivery.row",
    "delivery.sent",
    "delivery.acked",
)


class _Armed:
    """The one failpoint of this process, read from the environment once."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.name, _, count = environment.get(VARIABLE, "").partition(":")
        self.left = int(count or 1)
        if self.name and self.name not in NAMES:
            raise ValueError(f"{VARIABLE} names '{self.name}', which is none of {', '.join(NAMES)}")

    def strike(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


_ARMED = _Armed(os.environ)  # noqa: TID251 - a test's own switch, no setting of a station


def passing(name: str) -> None:
    """This is the place called `name`."""
    if name == _ARMED.name:
        _ARMED.strike()
