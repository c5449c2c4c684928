"""
Whether generated images are of use: a classifier of real images must know them, and all differ.

The classifier learns real training images only. How often it names the class that an image was
drawn for is compared with how often it is right on real validation images, class by class.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from edge_inspector.documents import Document
from edge_inspector.models.classifier import ClassifierNet
from edge_inspector.training.classifier import train
from edge_inspector.training.classifier_plan import ClassifierPlan
from edge_inspector.training.labelled import LabelledCrops

MODEL, EPOCHS, MINUTES = "scnn03", 8, 4.0
"""Of the classifier that checks."""
KNOWN = 0.6
"""Least recall on generated images of a class, as a share of that on real ones."""
DIVERSE = 0.4
"""Least distance between images of a class, as a share of that between real ones."""
COMPARED = 200
"""Images of a class, at most, of which the diversity is taken."""


class ClassQuality(Document):
    """One class: recall of the checking classifier, and diversity against real images, 1 as they."""

    recall: float
    real_recall: float
    diversity: float

    @property
    def fault(self) -> str:
        """What is wrong with images of this class, in words; empty when nothing is."""
        least = KNOWN * self.real_recall
        if not self.recall >= least:
            return (
                f"a classifier of real images knows {self.recall:.2f} of them, at least "
                f"{least:.2f} are needed"
            )
        if not self.diversity >= DIVERSE:
            return (
                f"they differ {self.diversity:.2f} times as much as real ones, at least "
                f"{DIVERSE} are needed: the generator has collapsed"
            )
        return ""


class Quality(Document):
    """The verdict on a GAN; accuracies are means over its classes."""

    sound: bool
    accuracy: float
    real_accuracy: float
    classes: dict[str, ClassQuality]

    @property
    def faults(self) -> list[str]:
        """A sentence for each class that failed."""
        return [f"{name}: {each.fault}" for name, each in self.classes.items() if each.fault]


def judge(
    crops: LabelledCrops, images: Tensor, labels: Tensor, *, seed: int, threads: int
) -> Quality:
    """The quality of generated `images`, uint8 (n, h, w, c), of the classes of `crops`."""
    checker = ClassifierPlan(
        MODEL, seed=seed, epochs=EPOCHS, minutes=MINUTES, threads=threads, pretrained=False
    )
    network = train(checker, replace(crops, generated=0)).network.eval()
    drawn_said, drawn_places = _looked(network, images)
    real_said, _ = _looked(network, crops.val)
    _, real_places = _looked(network, crops.train)
    classes = {}
    for k, name in enumerate(crops.classes):
        drawn, real = labels == k, crops.val_labels == k
        spread = _spread(real_places[crops.train_labels == k])
        classes[name] = ClassQuality(
            recall=_share(drawn_said[drawn] == k),
            real_recall=_share(real_said[real] == k),
            diversity=_spread(drawn_places[drawn]) / max(spread, 1e-9),
        )
    count = len(classes)
    return Quality(
        sound=not any(each.fault for each in classes.values()),
        accuracy=round(sum(each.recall for each in classes.values()) / count, 4),
        real_accuracy=round(sum(each.real_recall for each in classes.values()) / count, 4),
        classes=classes,
    )


def _looked(network: ClassifierNet, crops: Tensor) -> tuple[Tensor, Tensor]:
    """The class said of each crop, and where it lies in the network's feature space."""
    with torch.no_grad():
        places = torch.cat(
            [
                network.embed(network.feature_maps(network.prepare(x)))
                for x in torch.split(crops, 64)
            ]
        )
        return network.logits(places).argmax(dim=1), places


def _share(right: Tensor) -> float:
    """Of the images told right; 1 where there is none to tell."""
    return round(right.float().mean().item(), 4) if len(right) else 1.0


def _spread(places: Tensor) -> float:
    """Mean distance between two."""
    return torch.nn.functional.pdist(places[:COMPARED]).mean().item()
