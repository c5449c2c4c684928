"""
Labelled images: a CSV, a folder in the MVTec AD layout, or one folder per class.

Folders that name no split are divided here, by a hash of the path, the same on every machine; so
are rows of a CSV without a split, each for itself, so that a CSV that grows keeps its splits.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_inspector.crops import fit
from edge_inspector.errors import DataError, Uninspectable
from edge_inspector.manifest import Input
from edge_inspector.records import Pixels

SPLITS = ("train", "val", "test")
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
_AS_STORED = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION


@dataclass(frozen=True, slots=True)
class Item:
    """
    One labelled image; images of one `group` show the same thing and share a split.

    Where units are seen by several cameras, `camera` names one and `group` is the unit.
    """

    path: Path
    label: str
    split: str
    group: str = ""
    camera: str = ""


def is_good(label: str) -> bool:
    """Whether a label names units without a defect."""
    return label in ("normal", "good")


def read_items(data: Path, *, every_class: bool = False) -> list[Item]:
    """
    Every image of `data`, files checked to exist; raises `DataError`.

    `every_class` is how classifiers learn: where no split is given, train has its share of every
    class, and not of the good one alone; folders may then be split/class, and none may be empty.
    """
    if data.is_file():
        items = _from_csv(data, every_class)
    elif every_class and (data / "train").is_dir():
        items = _from_splits(data)
    elif (data / "train" / "good").is_dir():
        items = _from_mvtec(data)
    elif data.is_dir():
        items = _from_classes(data, every_class)
    else:
        raise DataError(f"{data}: there is no such CSV file or folder")
    if not items:
        raise DataError(
            f"{data}: no image found; give a CSV with path,label,split, a folder with train/good "
            "and test/<class>, or one folder per class with one of them named good or normal"
        )
    return items


def load_crop(path: Path, shape: Input) -> Pixels:
    """The image as the engine takes it, uint8 (h, w, c); raises `DataError` for a broken file."""
    return as_crop(read_image(path), path, shape)


def as_crop(pixels: NDArray[Any], path: Path, shape: Input) -> Pixels:
    """Pixels of `path` as the engine takes them; raises `DataError` naming it."""
    try:
        crop = fit(pixels, shape.height, shape.width, shape.channels, square=shape.square)
    except Uninspectable as error:
        raise DataError(f"{path}: {error.detail}") from error
    return crop.reshape(shape.height, shape.width, shape.channels)


def read_image(path: Path) -> NDArray[Any]:
    """The file's pixels as stored, 8 or 16 bits, (h, w) or (h, w, 3) BGR; raises `DataError`."""
    try:
        raw = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    pixels = None
    if raw.size:
        try:
            pixels = cv2.imdecode(raw, _AS_STORED)
        except cv2.error as error:
            raise DataError(f"{path}: is no image that can be decoded: {error.err}") from error
    if pixels is None:
        raise DataError(f"{path}: is no image that can be decoded ({raw.size} bytes); replace it")
    return pixels


def load_crops(
    items: Iterable[Item], shape: Input, corrupt: list[Item]
) -> Iterator[tuple[Item, Pixels]]:
    """Each item with its crop; items whose file is broken are appended to `corrupt` instead."""
    for item in items:
        try:
            crop = load_crop(item.path, shape)
        except DataError:
            corrupt.append(item)
            continue
        yield item, crop


def _from_csv(path: Path, every_class: bool) -> list[Item]:
    items, base = [], path.parent
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            absent = {"path", "label", "split"} - set(rows.fieldnames or ())
            if absent:
                raise DataError(
                    f"{path}: the header lacks {', '.join(sorted(absent))}; "
                    "it must read path,label,split[,group[,camera]]"
                )
            for row in rows:
                items.append(_item(row, base, f"{path}:{rows.line_num}"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is no CSV file in UTF-8: {error}") from error
    _check_files(path, items)
    return _dealt(items, base, every_class)


def _item(row: dict[str, str | None], base: Path, place: str) -> Item:
    name, label, split = (row[key] for key in ("path", "label", "split"))
    if not name or not label:
        raise DataError(f"{place}: path and label must not be empty")
    if split not in ("", *SPLITS):
        raise DataError(
            f"{place}: split '{split}'; it must be one of {', '.join(SPLITS)}, or empty"
        )
    return Item(base / name, label, split, row.get("group") or "", row.get("camera") or "")


def _dealt(items: list[Item], base: Path, every_class: bool) -> list[Item]:
    """
    A split for those without: shares as of folders, by a hash of the group, else of the path.

    Without `every_class`, a group of which anything is defective is not learned from; with it, the
    first group of a class that train would lack is.
    """
    names = [item.group or item.path.relative_to(base).as_posix() for item in items]
    pairs = list(zip(names, items, strict=True))
    defective = {n for n, i in pairs if not is_good(i.label) and not every_class}

    def split_of(name: str) -> str:
        place = _place(name)
        if name in defective:
            return "val" if place < 0.5 else "test"
        return "val" if place < 0.15 else "test" if place < 0.3 else "train"

    splits = {name: split_of(name) for name in names}
    if every_class:
        learned = {i.label for n, i in pairs if (i.split or splits[n]) == "train"}
        for label in sorted({i.label for i in items if not i.split} - learned):
            first = min((n for n, i in pairs if i.label == label and not i.split), key=_place)
            splits[first] = "train"
    return [item if item.split else replace(item, split=splits[name]) for name, item in pairs]


def _place(name: str) -> float:
    """Where a name falls in 0..1, the same on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def _check_files(path: Path, items: list[Item]) -> None:
    missing = [str(item.path) for item in items if not item.path.is_file()]
    if missing:
        more = ", …" if len(missing) > 3 else ""
        raise DataError(
            f"{path}: {len(missing)} of {len(items)} files are missing: "
            f"{', '.join(missing[:3])}{more}; paths are relative to the CSV"
        )


def _from_mvtec(data: Path) -> list[Item]:
    training = _images(data / "train" / "good")
    held_out = _images(data / "validation" / "good")
    items = [Item(path, "good", "val") for path in held_out]
    if held_out:
        items += [Item(path, "good", "train") for path in training]
    else:
        items += _divided(training, "good", data, {"val": 0.15, "train": 1.0})
    for folder in sorted(f for f in (data / "test").glob("*") if f.is_dir()):
        items += [Item(path, folder.name, "test") for path in _images(folder)]
    return items


def _from_splits(data: Path) -> list[Item]:
    """Folders split/class, as image folders of other frameworks are."""
    items: list[Item] = []
    for name, split in (*zip(SPLITS, SPLITS, strict=True), ("validation", "val")):
        for folder in _folders(data / name, empty=False):
            items += [Item(path, folder.name, split) for path in _images(folder)]
    return items


def _from_classes(data: Path, every_class: bool) -> list[Item]:
    items: list[Item] = []
    for folder in _folders(data, empty=not every_class):
        shares = (
            {"val": 0.15, "test": 0.15, "train": 1.0}
            if every_class or is_good(folder.name)
            else {"val": 0.5, "test": 1.0}
        )
        items += _divided(_images(folder), folder.name, data, shares)
    return items


def _folders(data: Path, *, empty: bool) -> list[Path]:
    """The folders of `data`, one a class; raises `DataError` where one is empty and must not be."""
    folders = sorted(f for f in data.glob("*") if f.is_dir())
    bare = [] if empty else [folder for folder in folders if not _images(folder)]
    if bare:
        raise DataError(
            f"{bare[0]}: the class '{bare[0].name}' has 0 images; put images there, or remove it"
        )
    return folders


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def _divided(paths: list[Path], label: str, base: Path, shares: dict[str, float]) -> list[Item]:
    """Shares of the images to each split in turn, the last taking the rest, in order of a hash."""
    queue = sorted(
        paths, key=lambda p: hashlib.sha256(p.relative_to(base).as_posix().encode()).digest()
    )
    items: list[Item] = []
    for split, share in shares.items():
        count = len(queue) if share == 1.0 else round(share * len(paths))
        items += [Item(path, label, split) for path in queue[:count]]
        queue = queue[count:]
    return sorted(items, key=lambda item: item.path)
