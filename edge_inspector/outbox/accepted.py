"""Accept rows: written with the batch that took them, unless it holds their unit's verdict as well."""

from __future__ import annotations

from typing import Any

import apsw
import msgspec

from edge_inspector.outbox.entries import Accept
from edge_inspector.records import FrameKey

_ENCODER = msgspec.msgpack.Encoder()
_KNOWN = "SELECT camera, digest FROM accepted WHERE unit_key=?"
_JUDGED = "DELETE FROM accepted WHERE unit_key=? RETURNING camera, digest"


class Accepted:
    """
    Frames of units without a verdict; `write` ends each batch, `restore` one that was rolled back.

    What one transaction would both insert and delete never touches the table.
    """

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._new: dict[str, dict[FrameKey, Accept]] = {}
        rows = db.execute("SELECT DISTINCT unit_key FROM accepted")
        self._stored: set[str] = {unit_key for (unit_key,) in rows}

    def take(self, accept: Accept) -> bool:
        """Note a frame; whether other pixels of its camera are known of its unit."""
        head = accept.head
        new = self._new.setdefault(head.unit_key, {})
        digests = self._digests(_KNOWN, head.unit_key)
        digests += [(one.head.camera, one.head.digest) for one in new.values()]
        new.setdefault(head.key, accept)
        return any(camera == head.camera and head.contradicts(known) for camera, known in digests)

    def judged(self, unit_key: str) -> dict[str, int]:
        """The unit has its verdict: its frames go; digests of their pixels by camera."""
        found = {one.head.camera: one.head.digest for one in self._new.pop(unit_key, {}).values()}
        found.update(self._digests(_JUDGED, unit_key))
        self._stored.discard(unit_key)
        return found

    def write(self) -> None:
        """Insert the frames of this batch whose unit has no verdict yet."""
        for unit_key, frames in self._new.items():
            self._stored.add(unit_key)
            for key, (head, deadline_ns) in frames.items():
                # As text: a number of a peer may need 64 bits without a sign, which SQLite lacks.
                values = (unit_key, key.source, key.epoch, str(key.seq), head.camera)
                self._db.execute(
                    "INSERT OR IGNORE INTO accepted VALUES(?,?,?,?,?,?,?,?)",
                    (*values, str(head.digest), deadline_ns, _ENCODER.encode(head)),
                )
        self._new = {}

    def saved(self) -> set[str]:
        """What `restore` is given where the batch fails."""
        return set(self._stored)

    def restore(self, stored: set[str]) -> None:
        """The batch was rolled back."""
        self._stored, self._new = stored, {}

    def _digests(self, sql: str, unit_key: str) -> list[tuple[str, int]]:
        if unit_key not in self._stored:
            return []
        rows: list[tuple[Any, ...]] = self._db.execute(sql, (unit_key,)).fetchall()
        return [(camera, int(digest)) for camera, digest in rows]
