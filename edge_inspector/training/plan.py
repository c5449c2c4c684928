"""What to train and what came of it: the same for every loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from edge_inspector.errors import Misuse

LOOPS = {
    "vae": "edge_inspector.training.anomaly:train",
    "lean": "edge_inspector.training.anomaly:train",
    "sensitive": "edge_inspector.training.sensitive:train",
    "solder-vae": "edge_inspector.training.anomaly:train",
    "beta-vae": "edge_inspector.training.anomaly:train",
    "cae": "edge_inspector.training.anomaly:train",
    "sure": "edge_inspector.training.sure:train",
    "padim": "edge_inspector.training.peers:train_padim",
    "patchcore": "edge_inspector.training.peers:train_patchcore",
}
"""Model name -> its loop, `(plan, crops, tick) -> Trained`."""


ALPHA, GAMMA = 0.03, 0.12
"""
Of gradcon: the weights that its authors are remembered to have used. The solder paper has none.
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to train; `minutes` and `steps` are bounds, training mostly ends by itself."""

    model: str
    seed: int = 0
    minutes: float = 60.0
    steps: int | None = None
    """None takes the model's own number: as many as it takes to settle, or what suits it."""
    score: str | None = None
    standardise: bool = False
    threads: int = 2
    weights: Path | None = None
    """File with a backbone's weights; None takes an installed package's."""
    epochs: int | None = None
    """A bound too; None takes the network's own, if it has one."""
    beta: float | None = None
    """Weight of the divergence; None takes the network's own."""
    alpha: float | None = None
    """Weight of the gradient constraint in training, for the score gradcon; None takes `ALPHA`."""
    gamma: float | None = None
    """Weight of the gradient term in the score gradcon; None takes `GAMMA`."""
    part: Path | None = None
    """Folder for the checkpoints; None keeps none."""
    resume: bool = False
    """Go on from the checkpoint in `part`."""

    def refuse(self, *names: str) -> None:
        """Raise `Misuse` where one of these was given: the model has no use for it."""
        for name in names:
            if (value := getattr(self, name)) is not None:
                raise Misuse(f"--{name} {value}: the model '{self.model}' has no use for it")

    def identity(self, digest: str) -> str:
        """What a checkpoint must have been made of, to go on from it; bounds may differ."""
        constraint = (
            f"gradcon {self.alpha or ALPHA:g}" if self.score == "gradcon" else "no constraint"
        )
        return (
            f"{self.model}, seed {self.seed}, standardise {self.standardise}, beta {self.beta}, "
            f"{constraint}, images {digest[:16]}"
        )


@dataclass(frozen=True, slots=True)
class Trained:
    """
    What an engine is made of, with how training went; `losses` are of the held-out crops.

    `graph` takes uint8 crops (n, h, w, c) to score, float32 (n,), and anomaly map, uint8 (n, h', w').
    """

    graph: nn.Module
    score: str
    steps: int
    seconds: float
    ended: str
    losses: tuple[float, ...]
    sound: bool = True
    """False when the loss was no number at some step; the last good state was kept."""


Tick = Callable[[int, float, float], None]
"""Step, loss of the batch, best loss of the held-out crops."""
