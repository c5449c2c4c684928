"""A camera that shows the same picture again: no two exposures have the same noise."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence

from edge_inspector.records import FrameHead, FrameKey, Verdict

Pictures = Sequence[tuple[Verdict, dict[str, int]]]
"""Settled units, the oldest first, each with the digests of its pixels by camera."""

KEPT = 32
"""Pictures known of each camera: any ring of buffers that it may show anew, and few enough that
recorded units may be played once more."""
MAX_CAMERAS = 256
"""Each source brings its own."""


_Pictures = OrderedDict[int, tuple[str, FrameKey]]
"""Digest -> the unit whose exposure it is, empty for one that nobody has, and its frame."""


class Repeats:
    """
    The last pictures of each camera that must never repeat one, and the unit that each is of.

    Every frame is shown to this, also one that is not judged: a later one may repeat it.
    """

    def __init__(self, cameras: Collection[str]) -> None:
        self._cameras = frozenset(cameras)
        self._shown: OrderedDict[tuple[str, str], _Pictures] = OrderedDict()

    def remember(self, pictures: Pictures) -> None:
        """What the log knows; which frame of a unit came first is no longer asked."""
        for verdict, digests in pictures:
            for source in {key.source for key in verdict.frames}:
                for camera in self._cameras & {name for name, digest in digests.items() if digest}:
                    known = self._known(source, camera)
                    _keep(known, digests[camera], verdict.unit_key, FrameKey(source, "", 0))

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
        known = self._known(head.key.source, head.camera)
        unit_key, key = known.get(digest, (owner, head.key))
        if key.epoch == head.key.epoch and head.key.seq < key.seq:
            copies |= {unit_key} - {mine}
            unit_key, key = owner, head.key
        elif unit_key != mine:
            copies.add(mine)
        _keep(known, digest, unit_key, key)
        return copies - {""}

    def _known(self, source: str, camera: str) -> _Pictures:
        known = self._shown.setdefault((source, camera), OrderedDict())
        self._shown.move_to_end((source, camera))
        while len(self._shown) > MAX_CAMERAS:
            self._shown.popitem(last=False)
        return known


def _keep(known: _Pictures, digest: int, unit_key: str, key: FrameKey) -> None:
    """What is shown stays; the oldest goes."""
    known[digest] = (unit_key, key)
    known.move_to_end(digest)
    while len(known) > KEPT:
        known.popitem(last=False)


def frozen(head: FrameHead) -> str:
    """Why the picture of a unit does not count, for whoever looks after the camera."""
    return (
        f"camera '{head.camera}' is frozen: its pixels are those of an earlier frame, digest "
        f"{head.digest or head.given_up:016x}; restart it, or set refuse_repeats = false in "
        f"[quality.{head.camera}] where pictures do repeat"
    )
