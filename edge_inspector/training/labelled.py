"""Labelled crops for classifiers: read once, every class checked to be there and to have one name."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge_inspector.errors import DataError
from edge_inspector.manifest import Input
from edge_inspector.studies.dataset import Item, is_good, read_items
from edge_inspector.training.data import Read, choose_shape, remarks

FEWEST = 2
"""Images of a class below which there is nothing to learn from."""
FEW = 20
"""Images of a class below which it is said that they are few."""
RESERVED = "unknown"
"""What a classifier answers to that is of no class."""


@dataclass(frozen=True, slots=True)
class LabelledCrops:
    """
    Crops, uint8 (n, h, w, c), with labels, int64 (n,), that are places in `classes`.

    `classes` has the good class first, when there is one, and the others in order of name. The last
    `generated` crops of `train` were drawn by a GAN and have no name in `train_names`.
    """

    shape: Input
    classes: tuple[str, ...]
    train: Tensor
    train_labels: Tensor
    val: Tensor
    val_labels: Tensor
    digest: str
    """sha256 of all pixels and labels."""
    train_names: tuple[str, ...] = ()
    val_names: tuple[str, ...] = ()
    corrupt: tuple[Item, ...] = ()
    remarks: tuple[str, ...] = ()
    generated: int = 0

    @property
    def good(self) -> int | None:
        """Place of the good class."""
        return 0 if is_good(self.classes[0]) else None


def read_labelled(
    data: Sequence[Path],
    seed: int,
    *,
    size: int | None = None,
    channels: int | None = None,
    square: bool = False,
) -> LabelledCrops:
    """Splits train and val of all sets of `data` together; raises `DataError` naming the class."""
    items = [item for source in data for item in read_items(source, every_class=True)]
    classes = _classes(items)
    found = _placed(items)
    if all(item.split != "val" for item in items):
        items = _held_out(items, seed)
        count = sum(item.split == "val" for item in items)
        found.append(f"no image is of split val; {count} of split train are held out for it")
    learn = [item for item in items if item.split == "train"]
    shape = choose_shape(learn, size=size, channels=channels, square=square, multiple=1)
    read, held = Read(shape), Read(shape)
    read.take(learn)
    held.take([item for item in items if item.split == "val"])
    _require(classes, read, held)
    found += _counted(classes, read.labels, held.labels)
    place = {label: index for index, label in enumerate(classes)}
    return with_digest(
        LabelledCrops(
            shape,
            classes,
            torch.from_numpy(read.stack()),
            torch.tensor([place[label] for label in read.labels]),
            torch.from_numpy(held.stack()),
            torch.tensor([place[label] for label in held.labels]),
            "",
            tuple(read.names),
            tuple(held.names),
            (*read.corrupt, *held.corrupt),
            (*found, *remarks(shape, [*read.seen, *held.seen])),
        )
    )


def with_generated(crops: LabelledCrops, images: Tensor, labels: Tensor) -> LabelledCrops:
    """Images that a GAN drew, uint8 (n, h, w, c), learned from too; val stays as it is."""
    mixed = replace(
        crops,
        train=torch.cat([crops.train, images]),
        train_labels=torch.cat([crops.train_labels, labels]),
        generated=crops.generated + len(images),
        remarks=(*crops.remarks, f"{len(images)} generated images are learned from too"),
    )
    return with_digest(mixed)


def with_digest(crops: LabelledCrops) -> LabelledCrops:
    """The crops with the digest of what they are."""
    parts = (crops.train, crops.train_labels, crops.val, crops.val_labels)
    digest = hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()
    return replace(crops, digest=digest)


def _classes(items: Sequence[Item]) -> tuple[str, ...]:
    """Classes of split train, the good one first; raises `DataError` below two."""
    counts = Counter(item.label for item in items)
    _check_names(counts)
    learned = {item.label for item in items if item.split == "train"}
    if len(learned) < 2:
        raise DataError(
            f"images of split train are of {len(learned)} class"
            f"{'' if len(learned) == 1 else 'es'} ({', '.join(sorted(learned)) or 'none'}), of "
            f"{len(counts)} in all; a classifier needs 2 or more; give images of defects the split "
            "train, or leave the splits empty"
        )
    return tuple(sorted(learned, key=lambda label: (not is_good(label), label)))


def _check_names(counts: Counter[str]) -> None:
    """Raise `DataError` where it is in doubt which class a label names."""
    names: dict[str, list[str]] = {}
    for label in sorted(counts):
        names.setdefault(label.strip().casefold(), []).append(label)
    for plain, alike in names.items():
        told = " and ".join(f"'{label}' ({counts[label]} images)" for label in alike)
        if len(alike) > 1:
            raise DataError(f"labels {told} differ in case or spaces only; write them alike")
        if is_good(plain) and not is_good(alike[0]):
            raise DataError(f"label {told}: the good class is written '{plain}'; write it so")
        if plain == RESERVED:
            raise DataError(
                f"label {told} is what a classifier answers to that is of no class; give these a "
                "name, or take them out"
            )
    if {"good", "normal"} <= set(counts):
        raise DataError("labels 'good' and 'normal' both name the good class; use one of them")


def _placed(items: Sequence[Item]) -> list[str]:
    """What is odd in the splits, a sentence each; raises `DataError` for a class of val alone."""
    found = []
    learned = {item.label for item in items if item.split == "train"}
    for split in ("val", "test"):
        counts = Counter(item.label for item in items if item.split == split)
        absent = {label: count for label, count in counts.items() if label not in learned}
        told = ", ".join(f"'{label}' ({count})" for label, count in sorted(absent.items()))
        if absent and split == "val":
            raise DataError(
                f"images of split val are of classes that split train lacks: {told}; give some of "
                "them the split train, or all of them the split test"
            )
        if absent:
            found.append(
                f"split test has classes that split train lacks: {told}; no engine of this "
                "training can name them, it can only answer 'unknown'"
            )
    splits: dict[str, set[str]] = {}
    for item in items:
        if item.group:
            splits.setdefault(item.group, set()).add(item.split)
    torn = sorted(group for group, of_group in splits.items() if len(of_group) > 1)
    if torn:
        found.append(
            f"{len(torn)} of {len(splits)} groups, as '{torn[0]}', lie in more than one split; "
            "figures on them are better than the line's will be"
        )
    if not any(is_good(label) for label in learned):
        found.append("no class is named good or normal: every crop is taken to be defective")
    return found


def _held_out(items: Sequence[Item], seed: int) -> list[Item]:
    """A tenth of each class of train, by group, one image or more where it has two."""
    names = [item.group or str(item.path) for item in items]
    members: dict[str, Counter[str]] = {}
    for name, item in zip(names, items, strict=True):
        if item.split == "train":
            members.setdefault(name, Counter())[item.label] += 1
    left = sum(members.values(), Counter())
    wanted = {label: max(count // 10, 1) for label, count in left.items()}
    held, order = set(), sorted(members)
    for index in np.random.default_rng(seed).permutation(len(order)):
        of_group = members[order[index]]
        spared = all(left[label] > count for label, count in of_group.items())
        if spared and any(wanted[label] > 0 for label in of_group):
            held.add(order[index])
            left -= of_group
            for label, count in of_group.items():
                wanted[label] -= count
    return [
        replace(item, split="val") if item.split == "train" and name in held else item
        for name, item in zip(names, items, strict=True)
    ]


def _require(classes: Iterable[str], read: Read, held: Read) -> None:
    """Raise `DataError` where a class cannot be learned, or nothing is left to hold out."""
    counts = Counter(read.labels)
    broken = Counter(item.label for item in read.corrupt)
    lacking = [
        f"'{label}' {counts[label]}" + (f" ({broken[label]} broken)" if broken[label] else "")
        for label in classes
        if counts[label] < FEWEST
    ]
    if lacking:
        raise DataError(
            f"too few images to learn from: {', '.join(lacking)}; each class needs {FEWEST} or more "
            f"in split train, and {FEW} or more to be of use; add images, or take the class out"
        )
    if not held.labels:
        raise DataError(f"0 images to hold out can be read ({len(held.corrupt)} are broken)")


def _counted(classes: Iterable[str], learned: Sequence[str], held: Sequence[str]) -> list[str]:
    """Classes with few images, or none in val, a sentence each."""
    counts, in_val = Counter(learned), Counter(held)
    few = [f"'{label}' ({counts[label]})" for label in classes if counts[label] < FEW]
    unseen = [f"'{label}'" for label in classes if not in_val[label]]
    found = []
    if few:
        found.append(f"fewer than {FEW} images to learn from: {', '.join(few)}")
    if unseen:
        found.append(
            f"no image of split val shows {', '.join(unseen)}; how well it does is not seen"
        )
    return found
