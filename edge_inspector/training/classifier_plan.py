"""Which classifier to train, how, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from edge_inspector.models.classifier import ClassifierNet


class Phase(NamedTuple):
    """A part of a training: to which share of its epochs, at what first rate."""

    until: float
    rate: float


ONE_PHASE = (Phase(1.0, 1e-3),)
"""Of a network that learns from nothing."""
THREE_PHASES = (Phase(0.15, 1e-3), Phase(0.45, 1e-3), Phase(1.0, 1e-4))
"""Of a network with weights of other images: head; last 30 layers; last 100 at a low rate."""


@dataclass(frozen=True, slots=True)
class ClassifierPlan:
    """What to train; `minutes` is a bound, towards which the rate falls as towards the epochs."""

    model: str
    seed: int = 0
    minutes: float = 60.0
    epochs: int = 30
    threads: int = 2
    loss: Literal["cross-entropy", "focal"] = "cross-entropy"
    balance: Literal["weights", "sampling", "none"] = "weights"
    stop: Literal["loss", "macro-f1"] = "macro-f1"
    patience: int = 8
    """Epochs of the last phase without a better one after which training ends."""
    weights: Path | None = None
    """File with a backbone's weights; None takes what is at hand."""
    pretrained: bool = True
    augment: Path | None = None
    """Folder of a GAN whose images are learned from too."""
    vary: bool = True
    """Show half of the crops as a line might have: a little moved, turned, scaled, lit otherwise."""
    flips: bool = False
    rate: float | None = None
    """First rate of the first phase, the others in proportion; None takes the phases' own."""
    batch: int | None = None
    """None takes 8 to 64, so that an epoch has 32 steps where it can."""
    device: str = "cpu"
    half: bool = False
    """Multiply in bfloat16 while learning: twice as fast on processors that know it."""
    part: Path | None = None
    """Folder for the checkpoints; None keeps none."""
    resume: bool = False

    def identity(self, digest: str) -> str:
        """What a checkpoint must have been made of, to go on from it; minutes may differ."""
        return (
            f"{self.model}, seed {self.seed}, epochs {self.epochs}, loss {self.loss}, "
            f"balance {self.balance}, stop {self.stop} {self.patience}, rate {self.rate}, "
            f"batch {self.batch}, half {self.half}, varied {self.vary}, flips {self.flips}, "
            f"pretrained {self.pretrained} {self.weights}, images {digest[:16]}"
        )


class Epoch(NamedTuple):
    """How the network did after one epoch; losses are per crop."""

    loss: float
    val_loss: float
    val_macro_f1: float


@dataclass(frozen=True, slots=True)
class TrainedClassifier:
    """What an engine is made of, with how training went."""

    network: ClassifierNet
    """In evaluation mode, on the processor, in the state that was best on the val crops."""
    classes: tuple[str, ...]
    epochs: int
    steps: int
    seconds: float
    ended: str
    history: tuple[Epoch, ...]
    best: int = 0
    """Place in `history` of the state that was kept."""
    sound: bool = True
    """False when the loss was no number at some step; the last good state was kept."""
