"""Recorded frames to good units, and which of them teach and which set the threshold."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xxhash

from edge_inspector.errors import DataError, Misuse
from edge_inspector.records import Outcome
from edge_inspector.studies.calibrate import units_needed
from edge_inspector.studies.dataset import Item
from edge_inspector.studies.recorded import RecordedFrame, read_recorded

FEWEST = 20
"""Good units below which neither an engine nor a threshold means anything."""
MAIN_SIZE = 0.9
"""Share of a camera's frames that must have one size; the others are left out."""
REPEATING = 0.05
"""Share of pictures seen before from which they repeat by themselves, not by a fault."""
CALIBRATING = (0.3, 0.5)
"""Least and largest share of the units that set the threshold; between, as many as it needs."""
HELD_OUT = 0.1
"""Share of the teaching units that training keeps apart."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One recorded unit with a frame of every camera; `name` is what a person would call it."""

    key: str
    name: str
    frames: tuple[RecordedFrame, ...]

    def seen_by(self, cameras: Sequence[str]) -> Unit:
        """The unit with the frames of these cameras alone."""
        return replace(self, frames=tuple(f for f in self.frames if f.camera in cameras))

    @property
    def items(self) -> list[Item]:
        """As `studies` take it."""
        return [Item(f.path, "good", "val", self.key, f.camera) for f in self.frames]

    def is_called(self, name: str) -> bool:
        """Whether a person may mean this unit."""
        first = self.frames[0]
        known = {self.key, self.name, first.unit_id, first.path.stem, first.path.name}
        return name in known or (first.trigger_id is not None and name == str(first.trigger_id))


@dataclass(frozen=True, slots=True)
class Units:
    """
    Good units by use, `failed` by the incumbent, and what was left out, a sentence each.

    A unit is in one of `train`, `held_out` and `calibrate`, chosen by the seed, never by time.
    """

    cameras: tuple[str, ...]
    train: tuple[Unit, ...]
    held_out: tuple[Unit, ...]
    calibrate: tuple[Unit, ...]
    failed: tuple[Unit, ...]
    remarks: tuple[str, ...]
    repeats: bool = False
    """Whether many pictures came more than once, as where a line is played from files."""

    @property
    def good(self) -> tuple[Unit, ...]:
        """All good units."""
        return self.train + self.held_out + self.calibrate

    def seen_by(self, cameras: Sequence[str]) -> Units:
        """The same units with the frames of these cameras alone."""

        def narrowed(units: tuple[Unit, ...]) -> tuple[Unit, ...]:
            return tuple(unit.seen_by(cameras) for unit in units)

        return replace(
            self,
            cameras=tuple(cameras),
            train=narrowed(self.train),
            held_out=narrowed(self.held_out),
            calibrate=narrowed(self.calibrate),
            failed=narrowed(self.failed),
        )


def read_units(folder: Path, *, drop: Sequence[str] = (), seed: int = 0, overkill: float) -> Units:
    """Units of a recorded folder; raises `DataError` for too few, `Misuse` for a name to drop."""
    frames = read_recorded(folder)
    remarks: list[str] = []
    cameras = tuple(dict.fromkeys(frame.camera for frame in frames))
    known = _units(frames, cameras, remarks)
    failed = tuple(unit for unit in known if _said(unit) is Outcome.FAIL)
    unsaid = sum(_said(unit) is Outcome.UNINSPECTED for unit in known)
    passed = [unit for unit in known if _said(unit) in (None, Outcome.PASS)]
    if failed:
        remarks.append(f"{len(failed)} units that the incumbent failed teach nothing")
    if unsaid:
        remarks.append(f"{unsaid} units that the incumbent did not inspect are left out")
    usable = _one_size(folder, passed, remarks)
    good = _distinct(usable)
    repeated = len(usable) - len(good)
    repeats = _returned([digest for _, digest in usable]) > REPEATING * len(usable)
    if repeated:
        remarks.append(
            f"{repeated} units have exactly the pixels of another and are left out; "
            + (
                "pictures repeat here, so a frozen camera will not be told by them"
                if repeats
                else "was the camera frozen?"
            )
        )
    _require(folder, good, known, failed)
    unknown = [name for name in drop if not any(unit.is_called(name) for unit in known)]
    if unknown:
        raise Misuse(
            f"--drop {unknown[0]}: none of {len(known)} units of {folder} is called so; give the "
            f"unit id, the trigger id or the file's name, as {known[0].name}"
        )
    parts = _divided(good, seed, overkill)
    kept = [[u for u in part if not any(u.is_called(name) for name in drop)] for part in parts]
    _require(folder, [unit for part in kept for unit in part], known, failed)
    train, held_out, calibrate = (tuple(part) for part in kept)
    return Units(cameras, train, held_out, calibrate, failed, tuple(remarks), repeats)


def _units(
    frames: Iterable[RecordedFrame], cameras: tuple[str, ...], remarks: list[str]
) -> list[Unit]:
    """Frames of one unit together; the first of each camera, all cameras or none."""
    seen: dict[str, dict[str, RecordedFrame]] = {}
    for frame in frames:
        seen.setdefault(frame.unit_key, {}).setdefault(frame.camera, frame)
    whole = {key: by for key, by in seen.items() if len(by) == len(cameras)}
    if len(whole) < len(seen):
        remarks.append(
            f"{len(seen) - len(whole)} of {len(seen)} units lack a frame of one of the cameras "
            f"{', '.join(cameras)} and are left out"
        )
    return [
        Unit(key, _name(by[cameras[0]]), tuple(by[camera] for camera in cameras))
        for key, by in whole.items()
    ]


def _name(frame: RecordedFrame) -> str:
    if frame.unit_id is not None:
        return frame.unit_id
    return frame.path.stem if frame.trigger_id is None else str(frame.trigger_id)


def _said(unit: Unit) -> Outcome | None:
    """What the incumbent said of the unit: one frame that failed fails it."""
    said = [frame.incumbent.outcome for frame in unit.frames if frame.incumbent is not None]
    for outcome in (Outcome.FAIL, Outcome.UNINSPECTED, Outcome.PASS):
        if outcome in said:
            return outcome
    return None


def _one_size(folder: Path, units: Sequence[Unit], remarks: list[str]) -> list[tuple[Unit, int]]:
    """Units whose frames can be read and have the size of most, with a digest of their pixels."""
    read: list[tuple[Unit, int, tuple[tuple[int, ...], ...]]] = []
    broken = 0
    for unit in units:
        try:
            pixels = [frame.pixels() for frame in unit.frames]
        except DataError:
            broken += 1
            continue
        digest = xxhash.xxh3_64()
        for picture in pixels:
            digest.update(np.ascontiguousarray(picture).data)
        read.append((unit, digest.intdigest(), tuple(picture.shape for picture in pixels)))
    if broken:
        remarks.append(f"{broken} units whose pictures cannot be read are left out")
    counts = Counter(shapes for _, _, shapes in read)
    if not counts:
        return []
    shape, count = counts.most_common(1)[0]
    if count < MAIN_SIZE * len(read):
        raise DataError(
            f"{folder}: the frames of {len(read)} units have {len(counts)} sizes, as "
            f"{_sizes(shape)} ({count} units) and {_sizes(counts.most_common(2)[1][0])}; regions "
            "have one place in frames of one size: record with one setting of the camera, or "
            "scale the frames alike"
        )
    if count < len(read):
        remarks.append(
            f"{len(read) - count} units whose frames are not {_sizes(shape)} are left out"
        )
    return [(unit, digest) for unit, digest, shapes in read if shapes == shape]


def _sizes(shapes: Sequence[tuple[int, ...]]) -> str:
    return " + ".join(f"{shape[1]} x {shape[0]} px" for shape in shapes)


def _returned(digests: Sequence[int]) -> int:
    """How many pictures came again after another one; a frozen camera's come one after the other."""
    seen: set[int] = set()
    count, previous = 0, None
    for digest in digests:
        count += digest in seen and digest != previous
        seen.add(digest)
        previous = digest
    return count


def _distinct(units: Sequence[tuple[Unit, int]]) -> list[Unit]:
    """One unit of those with the same pixels: a threshold must not rest on what was learned."""
    kept: dict[int, Unit] = {}
    for unit, digest in units:
        kept.setdefault(digest, unit)
    return list(kept.values())


def _require(
    folder: Path, good: Sequence[Unit], known: Sequence[Unit], failed: Sequence[Unit]
) -> None:
    if failed and len(failed) == len(known):
        raise DataError(
            f"{folder}: the incumbent failed all {len(known)} recorded units; there is nothing "
            "good to learn from: is its pass really 'pass', see 'incumbent' in frames.csv?"
        )
    if len(good) < FEWEST:
        raise DataError(
            f"{folder}: {len(good)} good units of {len(known)} recorded; teaching needs {FEWEST} "
            "at least and 300 or more to promise 1 % overkill; record more"
        )


def _divided(good: Sequence[Unit], seed: int, overkill: float) -> tuple[list[Unit], ...]:
    """Units to learn from, held out, and for the threshold; a unit's place does not depend on drops."""
    order = sorted(good, key=lambda u: hashlib.sha256(f"{seed}:{u.key}".encode()).digest())
    least, most = (round(share * len(order)) for share in CALIBRATING)
    calibrating = min(max(units_needed(overkill), least), most)
    rest = order[calibrating:]
    held_out = max(round(HELD_OUT * len(rest)), 4)
    return rest[held_out:], rest[:held_out], order[:calibrating]
