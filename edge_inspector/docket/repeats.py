"""A camera that shows the same picture again: no two exposures have the same noise."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable

from edge_inspector.records import FrameHead, FrameKey, Verdict

Pictures = Iterable[tuple[Verdict, dict[str, int]]]
"""Settled units, the oldest first, each with the digests of its pixels by camera."""

KEPT = 4096
"""Pictures known at a time, of all cameras: a ring of stale buffers is found as well."""


class Repeats:
    """
    The pictures of each camera that must never repeat one, and the unit that each is of.

    Every frame is shown to this, also one that is not judged: a later one may repeat it.
    """

    def __init__(self, cameras: Collection[str]) -> None:
        self._cameras = frozenset(cameras)
        self._shown: OrderedDict[tuple[str, str, int], tuple[str, FrameKey]] = OrderedDict()

    def remember(self, pictures: Pictures) -> None:
        """What the log knows; which frame of a unit came first is no longer asked."""
        for verdict, digests in pictures:
            for source in {key.source for key in verdict.frames}:
                for camera in self._cameras & digests.keys():
                    picture = (source, camera, digests[camera])
                    self._keep(picture, verdict.unit_key, FrameKey(source, "", 0))

    def copies(self, head: FrameHead) -> set[str]:
        """
        The units whose picture is a copy, as far as this frame tells.

        The frame's own, or that of a later frame which came before it: by the numbers of one
        source, else by their coming. What its source calls a repeat is of no unit, and never counts.
        """
        digest, mine = head.digest or head.given_up, head.unit_key
        if head.camera not in self._cameras:
            return set()
        copies = {mine} if head.repeat else set()
        if not digest:
            return copies
        owner = "" if head.repeat else mine
        picture = (head.key.source, head.camera, digest)
        unit_key, key = self._shown.get(picture, (owner, head.key))
        if key.epoch == head.key.epoch and head.key.seq < key.seq:
            copies |= {unit_key} - {mine}
            unit_key, key = owner, head.key
        elif unit_key != mine:
            copies.add(mine)
        self._keep(picture, unit_key, key)
        return copies - {""}

    def _keep(self, picture: tuple[str, str, int], unit_key: str, key: FrameKey) -> None:
        self._shown[picture] = (unit_key, key)
        self._shown.move_to_end(picture)
        if len(self._shown) > KEPT:
            self._shown.popitem(last=False)


def frozen(head: FrameHead) -> str:
    """Why the picture of a unit does not count, for whoever looks after the camera."""
    return (
        f"camera '{head.camera}' is frozen: its pixels are those of an earlier frame, digest "
        f"{head.digest or head.given_up:016x}; restart it, or set refuse_repeats = false in "
        f"[quality.{head.camera}] where pictures do repeat"
    )
