"""Labelled crops for classifiers: read once, every class checked to be there and to have one name."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from edge_inspector.manifest import Input
from edge_inspector.studies.dataset import Item, is_good


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
