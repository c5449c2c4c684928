"""
The folder of a GAN: `gan.toml`, `<class>/NNNN.png`, sample sheets and the curve of the distance.

Pixels are kept as drawn, not snapped to the three values of a wafer map: of real maps scaled to
64 px, 39 % of the pixels lie between those values, and the classifier learns from these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import tomlkit
import torch
from pydantic import Field
from torch import Tensor

from edge_inspector.documents import Document, load
from edge_inspector.errors import DataError, Misuse
from edge_inspector.manifest import Input
from edge_inspector.studies.dataset import load_crop
from edge_inspector.training.checkpoint import all_or_nothing
from edge_inspector.training.gan import GanPlan, TrainedGan
from edge_inspector.training.gan_quality import Quality
from edge_inspector.training.gan_sheet import curve, png
from edge_inspector.training.labelled import LabelledCrops

CARD = "gan.toml"


class Card(Document):
    """What a GAN's folder holds, and whether it may be learned from."""

    format: Literal["edge_inspector/gan/1"] = "edge_inspector/gan/1"
    shape: Input
    classes: tuple[str, ...]
    count: int = Field(ge=1)
    """Images of each class."""
    data_sha256: str
    """Of the images and labels that it learned from."""
    images_sha256: str
    """Of the pixels of all that it drew."""
    seed: int
    rate: float
    matching: float
    steps: int
    seconds: float
    ended: str
    distance: float
    """The critic's, at the end."""
    quality: Quality


def write_gan(
    folder: Path,
    trained: TrainedGan,
    images: Tensor,
    crops: LabelledCrops,
    quality: Quality,
    *,
    plan: GanPlan,
) -> Card:
    """Write all or nothing; `images` are ordered by class, as many of each."""
    count = len(images) // len(trained.classes)
    card = Card(
        shape=crops.shape,
        classes=trained.classes,
        count=count,
        data_sha256=crops.digest,
        images_sha256=_digest(images.numpy()),
        seed=plan.seed,
        rate=plan.rate,
        matching=plan.matching,
        steps=trained.steps,
        seconds=round(trained.seconds, 1),
        ended=trained.ended,
        distance=round(trained.distances[-1], 4),
        quality=quality,
    )
    with all_or_nothing(folder) as draft:
        for place, name in enumerate(trained.classes):
            (draft / name).mkdir()
            for number, pixels in enumerate(images[place * count : (place + 1) * count].numpy()):
                (draft / name / f"{number:04d}.png").write_bytes(png(pixels))
        (draft / "distance.png").write_bytes(curve(trained.distances))
        for sheet in sorted(plan.part.glob("sheet-*.png")) if plan.part else ():
            (draft / sheet.name).write_bytes(sheet.read_bytes())
        (draft / CARD).write_text(tomlkit.dumps(card.model_dump()), encoding="utf-8")
    return card


def check_names(classes: Sequence[str]) -> None:
    """Raise `DataError` for a class whose name cannot be a folder's."""
    for name in classes:
        if name.startswith(".") or set(name) & set('/\\:*?"<>|'):
            raise DataError(f"class '{name}': its images get a folder of that name; rename it")


def read_generated(folder: Path, classes: Sequence[str], shape: Input) -> tuple[Tensor, Tensor]:
    """
    All generated crops, uint8 (n, h, w, c), with their places in `classes`, int64 (n,).

    Raises `Misuse` when the GAN failed its own quality check, or drew other classes or too small.
    """
    card = load(Card, folder / CARD)
    if not card.quality.sound:
        raise Misuse(
            f"{folder}: the GAN failed its own quality check ({'; '.join(card.quality.faults)}); "
            "train it longer, or leave --augment out"
        )
    if odd := [name for name in card.classes if name not in classes]:
        raise Misuse(
            f"{folder}: draws the class '{odd[0]}', which the images to learn from lack "
            f"({', '.join(classes)}); train the GAN on the same images"
        )
    if (card.shape.height, card.shape.width) < (shape.height, shape.width):
        raise Misuse(
            f"{folder}: draws {card.shape.height} x {card.shape.width} px, too small for crops of "
            f"{shape.height} x {shape.width} px; train the GAN with --size {shape.height}"
        )
    files = [
        (name, path) for name in card.classes for path in sorted((folder / name).glob("*.png"))
    ]
    as_drawn = [load_crop(path, card.shape) for _, path in files]
    if _digest(np.stack(as_drawn) if as_drawn else np.empty(0)) != card.images_sha256:
        raise DataError(
            f"{folder}: its {len(files)} images are not those that its quality check saw; "
            "train the GAN again"
        )
    fitted = as_drawn if card.shape == shape else [load_crop(path, shape) for _, path in files]
    labels = torch.tensor([list(classes).index(name) for name, _ in files])
    return torch.from_numpy(np.stack(fitted)), labels


def _digest(images: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()
