"""A camera that shows the same picture again: no two exposures have the same noise."""

from __future__ import annotations

from collections.abc import Collection

from edge_inspector.records import FrameHead


class Repeats:
    """The digest of the newest frame of each camera that must never repeat one."""

    def __init__(self, cameras: Collection[str]) -> None:
        self._cameras = frozenset(cameras)
        self._newest: dict[tuple[str, str], int] = {}

    def fault(self, head: FrameHead) -> str:
        """
        Why this frame, which was not offered before, cannot be a new exposure; else nothing.

        A frame that is not judged is shown here all the same: the one behind it may repeat it.
        """
        digest = head.digest or head.given_up
        if head.camera not in self._cameras or not digest:
            return ""
        camera = (head.key.source, head.camera)
        before, self._newest[camera] = self._newest.get(camera), digest
        if before != digest:
            return ""
        return (
            f"camera '{head.camera}' is frozen: its pixels are those of the frame before, digest "
            f"{head.digest:016x}; restart it, or set refuse_repeats = false in "
            f"[quality.{head.camera}] where pictures do repeat"
        )
