"""A stretch of time as people type it."""

from __future__ import annotations

import re
from datetime import datetime, timezone

from edge_inspector import clock
from edge_inspector.errors import Misuse

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def since_utc_ns(text: str | None) -> int:
    """
    UTC ns of `90s`, `30m`, `1h`, `2d` ago, or of an ISO 8601 time; 0 for none.

    A time without a zone is that of this box. Raises `Misuse`.
    """
    if text is None:
        return 0
    if ago := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip()):
        return clock.utc_ns() - round(float(ago[1]) * SECONDS[ago[2]] * 1e9)
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        raise Misuse(
            f"--since '{text}'; give 90s, 30m, 1h, 2d, or a time as 2026-03-31T14:00"
        ) from None
    return round(time.astimezone(timezone.utc).timestamp() * 1e9)
