"""One verdict as it came to a line controller, and what is counted on the way."""

from __future__ import annotations

from typing import Literal

import msgspec

from edge_inspector.errors import WireError
from edge_inspector.records import Verdict
from edge_inspector.wire import codes
from edge_inspector.wire.codes import Flag

LaneName = Literal["live", "history", "replay"]


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """
    One verdict as it came.

    `lane` is what brought it. `age_at_sending_ns` is time zero to sending on the daemon's clock,
    `late_ns` how much longer than the quickest message it then took, `received_ns` monotonic time
    here. `log` counts up when the daemon's numbers began anew.
    """

    vseq: int
    verdict: Verdict
    flags: Flag
    lane: LaneName
    code: int
    complement: int
    chain: int
    received_ns: int
    age_at_sending_ns: int
    late_ns: int = 0
    log: int = 0

    @property
    def historical(self) -> bool:
        """Whether it is sent to be recorded, when its unit has long gone by."""
        return bool(int(self.flags) & int(Flag.HISTORICAL))

    @property
    def replay(self) -> bool:
        """Whether it was asked for by REPLAY."""
        return bool(int(self.flags) & int(Flag.REPLAY))

    @property
    def test(self) -> bool:
        """Whether it is of no real unit."""
        return bool(int(self.flags) & int(Flag.TEST))

    @property
    def fault(self) -> str:
        """Why the header's outcome code is not to be believed, empty where it is."""
        try:
            told = codes.outcome_of(self.code, self.complement)
        except WireError as error:
            return str(error)
        if told != (self.verdict.outcome, self.verdict.reason):
            return f"outcome code 0x{self.code:02x} is not that of {self.verdict.outcome.value}"
        return ""

    def age_ns(self, now_ns: int) -> int:
        """Time since the unit's time zero, as far as this side can tell."""
        return self.age_at_sending_ns + self.late_ns + now_ns - self.received_ns


class Counts(msgspec.Struct):
    """
    What happened since the start.

    `delivered` verdicts were new; `refused` messages were damaged or did not follow; `lost`
    verdicts are gone from the daemon's log and never came; `postponed` is how often a lane
    stopped at a full queue, to come later as history; `other_logs` is how often the daemon's
    numbers began anew.
    """

    delivered: int = 0
    duplicates: int = 0
    refused: int = 0
    lost: int = 0
    postponed: int = 0
    subscriptions: int = 0
    other_logs: int = 0
