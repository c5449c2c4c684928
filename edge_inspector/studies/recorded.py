"""
Recorded frames on disk: `frames.csv`, and each frame as a lossless PNG beside it.

A row is written after its picture, and a picture gets its name when it is whole, so whatever ends
a recording leaves nothing that is half there. `--data FOLDER/frames.csv` trains and calibrates.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray

from edge_inspector.errors import Breakage, DataError, WireError
from edge_inspector.records import Baseline, FrameHead, FrameKey, Outcome
from edge_inspector.studies.dataset import read_image
from edge_inspector.wire.incumbent import incumbent_text, read_incumbent

TABLE, FRAMES = "frames.csv", "frames"
COLUMNS = (
    *("path", "label", "split", "group", "camera", "unit_id", "trigger_id", "source", "epoch"),
    *("seq", "time_zero_ns", "captured_utc_ns", "incumbent"),
)
GIB = 1024**3
RESERVE_BYTES = GIB // 2
"""Left free on the disk, which may be that of a running line's verdict log."""
_FAST_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """One frame of a recorded folder; `unit_key` is the one that the daemon would give its unit."""

    path: Path
    camera: str
    unit_key: str
    unit_id: str | None
    trigger_id: int | None
    source: str
    epoch: str
    seq: int
    time_zero_ns: int
    captured_utc_ns: int | None
    incumbent: Baseline | None

    @property
    def key(self) -> FrameKey:
        """The frame's name for good."""
        return FrameKey(self.source, self.epoch, self.seq)

    def pixels(self) -> NDArray[Any]:
        """As recorded, uint8 or uint16, (h, w) or (h, w, 3) BGR; raises `DataError`."""
        return read_image(self.path)


def read_recorded(folder: Path) -> tuple[RecordedFrame, ...]:
    """The frames of a recorded folder in order, files checked to exist; raises `DataError`."""
    frames = _read_table(folder / TABLE)
    missing = [frame.path.name for frame in frames if not frame.path.is_file()]
    if missing:
        raise DataError(
            f"{folder / TABLE}: {len(missing)} of {len(frames)} pictures are missing, as "
            f"{missing[0]}; put them back or remove their rows"
        )
    return frames


class Recording:
    """
    A recorded folder, open for more frames of at most `units` units; one process at a time.

    It goes on where the last one ended. Raises `DataError` for a folder that holds something else.
    """

    def __init__(
        self,
        folder: Path,
        units: int,
        *,
        quota_bytes: int,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        self.folder = folder
        self._limit = units
        self._quota_bytes, self._reserve_bytes = quota_bytes, reserve_bytes
        (folder / FRAMES).mkdir(parents=True, exist_ok=True)
        table = folder / TABLE
        self._file = table.open("a+", newline="", encoding="utf-8")
        try:
            self._lock()
            _mend(table)
            before = _read_table(table)
        except DataError:
            self._file.close()
            raise
        self._writer = csv.writer(self._file)
        self._number = max((int(frame.path.stem) for frame in before), default=0)
        self._keys = {frame.key for frame in before}
        self._cameras: dict[str, set[str]] = {}
        for frame in before:
            self._cameras.setdefault(frame.unit_key, set()).add(frame.camera)
        self.used_bytes = sum(file.stat().st_size for file in (folder / FRAMES).iterdir())

    @property
    def frames(self) -> int:
        """Frames in the folder."""
        return len(self._keys)

    @property
    def units(self) -> int:
        """Units in the folder."""
        return len(self._cameras)

    def whole(self, cameras: Collection[str]) -> bool:
        """Whether all units are there, each with a frame of every camera."""
        return self.units >= self._limit and all(
            seen.issuperset(cameras) for seen in self._cameras.values()
        )

    def wants(self, head: FrameHead) -> bool:
        """Whether this frame is new, and of a unit that still belongs here."""
        known = head.unit_key in self._cameras
        return head.key not in self._keys and (known or self.units < self._limit)

    def add(self, head: FrameHead, pixels: NDArray[Any]) -> None:
        """
        Keep a frame, uint8 or uint16, (h, w) or (h, w, 3) BGR.

        Raises `DataError` when the quota is used up, `Breakage` when the disk is.
        """
        png = bytes(cv2.imencode(".png", pixels, _FAST_PNG)[1])
        self._check_room(len(png))
        name = f"{FRAMES}/{self._number + 1:06d}.png"
        try:
            unfinished = self.folder / f"{name}.tmp"
            unfinished.write_bytes(png)
            unfinished.rename(self.folder / name)
            self._writer.writerow(_row(head, name))
            self._file.flush()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise self._full() from error
            raise
        self._number += 1
        self.used_bytes += len(png)
        self._keys.add(head.key)
        self._cameras.setdefault(head.unit_key, set()).add(head.camera)

    def close(self) -> None:
        """Let the next one have the folder."""
        self._file.close()

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                f"{self.folder}: another process records into it; wait for it or give --out"
            ) from None

    def _check_room(self, size: int) -> None:
        if self.used_bytes + size > self._quota_bytes:
            raise DataError(
                f"{self.folder} would exceed its quota of {self._quota_bytes / GIB:.3g} GiB after "
                f"{self.frames} frames of {self.units} units; raise --quota-gib"
            )
        if shutil.disk_usage(self.folder).free - size < self._reserve_bytes:
            raise self._full()

    def _full(self) -> Breakage:
        return Breakage(
            f"the disk of {self.folder} is full but for {self._reserve_bytes / GIB:.3g} GiB that "
            f"recording leaves free; {self.frames} frames of {self.units} units are there; free "
            "some and run it again, or give --out on another disk"
        )


def _row(head: FrameHead, name: str) -> tuple[object, ...]:
    """Empty where a frame does not say; units that the incumbent failed are not called good."""
    incumbent, label = head.incumbent, "good"
    if incumbent is not None and incumbent.outcome is Outcome.FAIL:
        label = f"incumbent-{incumbent.defect_class or 'fail'}"
    told = "" if incumbent is None else incumbent_text(incumbent)
    return (
        *(name, label, "", head.unit_key, head.camera, head.unit_id, head.trigger_id),
        *(head.key.source, head.key.epoch, head.key.seq, head.time_zero_ns),
        *(head.captured_utc_ns, told),
    )


def _mend(table: Path) -> None:
    """Cut off a row that a full disk or a lost process left without its end; write a header."""
    raw, head = table.read_bytes(), (",".join(COLUMNS) + "\r\n").encode()
    if head.startswith(raw):
        table.write_bytes(head)
    elif raw.startswith(head):
        os.truncate(table, raw.rfind(b"\n") + 1)
    for left in (table.parent / FRAMES).glob("*.tmp"):
        left.unlink()


def _read_table(table: Path) -> tuple[RecordedFrame, ...]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, restkey="", strict=True)
            if absent := set(COLUMNS) - set(rows.fieldnames or ()):
                raise DataError(
                    f"{table}: is not of a recorded folder: its header lacks "
                    f"{', '.join(sorted(absent))}; give a folder that 'record' made"
                )
            return tuple(_frame(row, table, rows.line_num) for row in rows)
    except FileNotFoundError:
        raise DataError(
            f"{table.parent}: has no {table.name}; give a folder that 'edge-inspector record' made"
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: is no CSV file in UTF-8: {error}") from error


def _frame(row: dict[str, str | None], table: Path, line: int) -> RecordedFrame:
    given = {name: row[name] or "" for name in COLUMNS}
    try:
        if (
            "" in row
            or None in row.values()
            or not (given["path"] and given["group"] and given["camera"])
        ):
            raise WireError("path, group and camera must be there, and every other column")
        if Path(given["path"]).parent != Path(FRAMES) or not Path(given["path"]).stem.isdecimal():
            raise WireError(f"path '{given['path'][:80]}'; it reads {FRAMES}/000001.png")
        return RecordedFrame(
            path=table.parent / given["path"],
            camera=given["camera"],
            unit_key=given["group"],
            unit_id=given["unit_id"] or None,
            trigger_id=int(given["trigger_id"]) if given["trigger_id"] else None,
            source=given["source"],
            epoch=given["epoch"],
            seq=int(given["seq"]),
            time_zero_ns=int(given["time_zero_ns"]),
            captured_utc_ns=int(given["captured_utc_ns"]) if given["captured_utc_ns"] else None,
            incumbent=read_incumbent(given["incumbent"]) if given["incumbent"] else None,
        )
    except (ValueError, WireError) as error:
        raise DataError(
            f"{table}:{line}: a damaged row: {error}; remove it, or run 'record' again, which "
            "cuts off a last row without its end"
        ) from None
