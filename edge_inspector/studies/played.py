"""Pictures in files as a line would show them: with their truth, at a rate, each lying a little differently."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.errors import DataError, Misuse
from edge_inspector.sources.folder import images_in
from edge_inspector.sources.folder import read_image as read_file
from edge_inspector.studies.dataset import is_good, read_image, read_items

DEFECTIVE = "defective"
COLOURLESS = 2
"""Grey levels by which channels may differ in a picture that has no colour."""
GAIN, NOISE, DEG_PER_PX = 0.02, 1.5, 0.1
"""What comes with each px of motion: light by 2 %, 1.5 grey levels of noise, a tenth of a degree."""


class Picture(NamedTuple):
    """One file, and its label where that is known."""

    path: Path
    label: str | None


def pictures(scene: Path, *, split: str | None = None, good: str | None = None) -> list[Picture]:
    """
    The pictures of a CSV (`path,label,split`), or of a folder in order of their names.

    In a folder those whose names match `good` are good, the others defective; without `good`
    nothing is known. Raises `Misuse` or `DataError`.
    """
    if scene.is_dir():
        if split is not None:
            raise Misuse(f"{scene} is a folder, which has no split '{split}'; give its CSV")
        return [Picture(path, _label(path.name, good)) for path in images_in(scene)]
    if good is not None:
        raise Misuse(f"{scene} says itself which pictures are good; leave '{good}' out")
    items = [item for item in read_items(scene) if split in (None, item.split)]
    if not items:
        raise DataError(f"{scene}: no picture of split '{split}'; leave it out, or give another")
    return [Picture(item.path, "good" if is_good(item.label) else item.label) for item in items]


def drawn(found: Sequence[Picture], seed: int, defect_rate: float) -> Iterator[Picture]:
    """Good and defective pictures at a rate without end, each kind all through before again."""
    rng = np.random.default_rng(seed)
    good = [one for one in found if one.label is not None and is_good(one.label)]
    defective = [one for one in found if one.label is not None and not is_good(one.label)]
    if not (good or defect_rate == 1) or not (defective or defect_rate == 0):
        raise DataError(
            f"{len(good)} good and {len(defective)} defective pictures of {len(found)}; a defect "
            f"rate of {defect_rate:g} needs both, and labels: give a CSV, or --good"
        )
    rounds = (_shuffled(good, rng), _shuffled(defective, rng))
    while True:
        yield next(rounds[int(rng.random() < defect_rate)])


@dataclass(frozen=True, slots=True)
class Exposure:
    """How a picture is shown: scaled to `size` (width, height), moved by up to `jitter_px`."""

    size: tuple[int, int] | None = None
    jitter_px: float = 0.0

    def take(self, path: Path, rng: np.random.Generator) -> NDArray[Any] | bytes:
        """The file as it is where nothing is to be done to it; raises `DataError`."""
        if self.size is None and not self.jitter_px:
            raw = read_file(path)
            if raw is None:
                raise DataError(f"'{path}' cannot be read as an image; remove it from the folder")
            return raw if isinstance(raw, bytes) else np.ascontiguousarray(raw)
        pixels = _plain(read_image(path))
        if self.size is not None:
            pixels = cv2.resize(pixels, self.size, interpolation=cv2.INTER_AREA)
        return _moved(pixels, self.jitter_px, rng) if self.jitter_px else pixels


def incumbent_said(label: str | None, errors: float, seed: int, number: int) -> str | None:
    """What an inspector that errs at this rate says of unit `number`, the same for a seed."""
    if label is None:
        return None
    right = np.random.default_rng([seed, number, 1]).random() >= errors
    if is_good(label):
        return "pass" if right else "fail"
    return f"fail:{label}" if right else "pass"


def _label(name: str, good: str | None) -> str | None:
    if good is None:
        return None
    return "good" if fnmatch(name, good) else DEFECTIVE


def _shuffled(found: Sequence[Picture], rng: np.random.Generator) -> Iterator[Picture]:
    while True:
        for index in rng.permutation(len(found)):
            yield found[index]


def _plain(pixels: NDArray[Any]) -> NDArray[Any]:
    """Grey where a file stores it thrice: a camera has one format for all of its frames."""
    grey = pixels.ndim == 3 and int(np.ptp(pixels, axis=2).max()) <= COLOURLESS
    return np.ascontiguousarray(pixels[:, :, 0]) if grey else pixels


def _moved(pixels: NDArray[Any], jitter_px: float, rng: np.random.Generator) -> NDArray[Any]:
    height, width = pixels.shape[:2]
    angle = float(rng.uniform(-1, 1)) * jitter_px * DEG_PER_PX
    pose = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0), np.float64)
    pose[:, 2] += rng.uniform(-jitter_px, jitter_px, 2)
    moved = cv2.warpAffine(pixels, pose, (width, height), borderMode=cv2.BORDER_REPLICATE)
    top = np.iinfo(pixels.dtype).max
    noise = rng.standard_normal(pixels.shape, np.float32) * np.float32(NOISE * top / 255)
    lit = moved * np.float32(1 + rng.uniform(-GAIN, GAIN)) + noise
    return np.clip(np.rint(lit), 0, top).astype(pixels.dtype)
