"""
Pictures of rejects: crop, anomaly map laid over it, and the reason; with a JSON file beside each.

A class map comes with them where a classifier named the defect.

In observe mode also of units that passed and that the incumbent, at once or a little later, failed.

Copied by the worker, which has the pixels, before it gives their slot back; written by a thread. The queue is bounded;
what does not fit is counted, never waited for. The oldest pictures go when the quota is full.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import numpy as np

from edge_inspector import clock
from edge_inspector.records import Crop, FrameHead, Inspection, Outcome, Pixels, Score

QUEUE = 64
HELD = 256
HELD_BYTES = 64 * 1024 * 1024
"""Units that passed whose pictures are held, and verdicts of the incumbent that came before theirs."""
CAPTION_PX = 34
SHOWN_PX = 256


Picture = tuple[FrameHead, Inspection, Crop, Score]


class RejectArchive:
    """
    A folder of reject pictures, one thread, one bounded queue.

    With `observe` the pictures of the last units that passed are held in memory.
    """

    def __init__(self, folder: Path, quota_mib: int, *, observe: bool = False) -> None:
        self.folder = folder
        self.dropped = 0
        self.failed = 0
        self._quota_bytes = quota_mib * 1024 * 1024
        self._queue: queue.Queue[Picture | None] = queue.Queue(QUEUE)
        self._observe = observe
        self._held: dict[str, list[Picture]] = {}
        self._held_bytes = 0
        self._wanted: deque[str] = deque(maxlen=HELD)
        folder.mkdir(parents=True, exist_ok=True)
        self._used_bytes = sum(file.stat().st_size for file in folder.iterdir())
        self._thread = threading.Thread(target=self._write_all, name="archive", daemon=True)
        self._thread.start()

    def see(
        self,
        head: FrameHead,
        inspection: Inspection,
        crops: Sequence[Crop],
        scores: Sequence[Score],
    ) -> None:
        """Keep the picture of a reject, and hold that of a pass while somebody may object."""
        said = head.incumbent
        objected = said is not None and said.outcome is Outcome.FAIL
        if inspection.outcome is not Outcome.PASS or (
            self._observe and (objected or head.unit_key in self._wanted)
        ):
            self.add(head, inspection, crops, scores)
        elif self._observe and said is None and crops and inspection.regions:
            picture = _worst(head, inspection, crops, scores)
            self._held.setdefault(head.unit_key, []).append(picture)
            self._held_bytes += _bytes(picture)
            while len(self._held) > HELD or self._held_bytes > HELD_BYTES:
                self._let_go(next(iter(self._held)))

    def keep(self, unit_key: str) -> None:
        """The incumbent failed this unit: its picture is kept, also where it is still to come."""
        if unit_key not in self._held:
            self._wanted.append(unit_key)
        for picture in self._let_go(unit_key):
            self._put(picture)

    def add(
        self,
        head: FrameHead,
        inspection: Inspection,
        crops: Sequence[Crop],
        scores: Sequence[Score],
    ) -> None:
        """Keep the picture of the worst region; never blocks."""
        if crops and inspection.regions:
            self._put(_worst(head, inspection, crops, scores))

    def _let_go(self, unit_key: str) -> list[Picture]:
        pictures = self._held.pop(unit_key, [])
        self._held_bytes -= sum(_bytes(picture) for picture in pictures)
        return pictures

    def _put(self, picture: Picture) -> None:
        try:
            self._queue.put_nowait(picture)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, then stop."""
        self._queue.put(None)
        self._thread.join(timeout=5)

    def _write_all(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                self._write(*item)
            except OSError:
                self.failed += 1

    def _write(self, head: FrameHead, inspection: Inspection, crop: Crop, score: Score) -> None:
        stem = f"{clock.utc_ns() // 1000}-{_safe(head.unit_key)}-{_safe(crop.roi.name)}"
        picture = draw_reject(crop.pixels, score, caption(head, inspection))
        png = bytes(cv2.imencode(".png", picture)[1])
        facts = msgspec.json.format(
            msgspec.json.encode({"head": head, "inspection": inspection}), indent=1
        )
        self._make_room(len(png) + len(facts))
        (self.folder / f"{stem}.png").write_bytes(png)
        (self.folder / f"{stem}.json").write_bytes(facts)
        self._used_bytes += len(png) + len(facts)

    def _make_room(self, needed: int) -> None:
        if self._used_bytes + needed <= self._quota_bytes:
            return
        for file in sorted(self.folder.iterdir()):
            if self._used_bytes + needed <= 0.9 * self._quota_bytes:
                return
            self._used_bytes -= file.stat().st_size
            file.unlink()


def _worst(
    head: FrameHead, inspection: Inspection, crops: Sequence[Crop], scores: Sequence[Score]
) -> Picture:
    """The worst region of a frame, as the evidence that decided it saw it, in memory of its own."""
    by_name = {region.name: region for region in inspection.regions}

    def weight(index: int) -> tuple[bool, float, bool]:
        region = by_name[crops[index].roi.name]
        by_tools = bool(scores[index].findings)
        decided = by_tools == region.spoke.startswith("tools")
        return region.outcome is Outcome.FAIL, region.score, decided

    worst = max(range(len(crops)), key=weight)
    crop = crops[worst]
    own = Crop(crop.roi, crop.pixels.copy(), crop.frame_box)
    score = scores[worst]
    maps = (None if seen is None else seen.copy() for seen in (score.anomaly_map, score.class_map))
    return head, inspection, own, replace(score, anomaly_map=next(maps), class_map=next(maps))


def _bytes(picture: Picture) -> int:
    _, _, crop, score = picture
    maps = [seen.nbytes for seen in (score.anomaly_map, score.class_map) if seen is not None]
    return crop.pixels.nbytes + sum(maps)


def caption(head: FrameHead, inspection: Inspection) -> tuple[str, str]:
    """Two lines for a person: which unit, and why."""
    first = f"{head.unit_key}  {inspection.outcome.value}"
    if inspection.reason is not None:
        first += f"({inspection.reason.value})"
    if inspection.anomaly_score is not None and inspection.threshold is not None:
        first += f"  score {inspection.anomaly_score:.3g} / threshold {inspection.threshold:.3g}"
    return first, inspection.detail


def draw_reject(pixels: Pixels, score: Score, text: tuple[str, str]) -> Pixels:
    """
    Crop, and crop under its map with the place boxed, side by side over a caption; BGR uint8.

    Where a classifier named the defect, the crop under the class map stands behind them.
    """
    height, width = pixels.shape[:2]
    factor = max(1, SHOWN_PX // max(height, width))
    size = (width * factor, height * factor)
    plain = _bgr(np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST), np.uint8))
    marked = _under(plain, score.anomaly_map)
    if score.box is not None:
        x, y, w, h = (value * factor for value in score.box)
        cv2.rectangle(marked, (x - 3, y - 3), (x + w + 3, y + h + 3), (255, 255, 255), 1)
    gap = np.full((plain.shape[0], 4, 3), 60, np.uint8)
    views = [plain, gap, marked]
    if score.class_map is not None:
        views += [gap, _under(plain, score.class_map)]
    body = np.hstack(views)
    strip = np.full((CAPTION_PX, body.shape[1], 3), 20, np.uint8)
    for row, line in enumerate(text):
        place = (4, 13 + 15 * row)
        cv2.putText(
            strip, line[:90], place, cv2.FONT_HERSHEY_SIMPLEX, 0.38, (230, 230, 230), 1, cv2.LINE_AA
        )
    return np.vstack([body, strip]).astype(np.uint8)


def _under(pixels: Pixels, seen: Pixels | None) -> Pixels:
    """The crop with a map laid over it."""
    if seen is None:
        return pixels.copy()
    size = (pixels.shape[1], pixels.shape[0])
    heat = cv2.applyColorMap(cv2.resize(seen, size), cv2.COLORMAP_JET)
    return np.asarray(cv2.addWeighted(pixels, 0.55, heat, 0.45, 0), np.uint8)


def _bgr(pixels: Pixels) -> Pixels:
    return np.asarray(
        cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR) if pixels.ndim == 2 else pixels, np.uint8
    )


def _safe(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text)[:80]
