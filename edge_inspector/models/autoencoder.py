"""What every variational autoencoder here has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from edge_inspector.models.gradcon import Constraint


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a network is best taught; the paper's own where there is one."""

    batch: int = 8
    rates: tuple[float, ...] = (3e-3, 1e-3, 3e-4)
    """Adam's learning rate, lowered on a plateau."""
    weight_decay: float = 0.0
    flip: bool = False
    """Half of the crops are mirrored left to right."""
    round_steps: int | None = 100
    """Steps between two looks at the held-out loss; None is once an epoch."""
    patience: int = 4
    """Rounds without a better held-out loss that make a plateau."""
    first_steps: int = 50
    """Steps over which the rate rises: Adam's first are too long for a latent that is not heard."""
    warm_steps: int = 1000
    """Steps over which the divergence gains its weight: before, the latent must learn to carry."""
    epochs: int | None = None
    """Passes over the crops after which training ends at the latest."""


class Look(NamedTuple):
    """What a network makes of prepared crops, as far as it has it."""

    x: Tensor
    decoded: Tensor
    divergence: Tensor | None = None
    """beta KL at each place of the latent, (n, 1, h'', w'')."""
    constraint: Tensor | None = None
    """Term of the gradient constraint, (n,)."""


class Autoencoder(nn.Module, ABC):
    """Crops to pixels as the network sees them, through a latent and back."""

    default_score: str
    """The score that an engine of this network carries unless told otherwise."""
    scores: tuple[str, ...] = ("cosine", "reconstruction", "residual")
    """The scores that an engine of this network can carry."""
    cell: int
    """Steps of the prepared pixels per step of the anomaly map, each way."""
    schedule: Schedule = Schedule()
    beta: float = 1.0
    """Weight of the divergence."""

    def __init__(self) -> None:
        super().__init__()
        self.constraint: Constraint | None = None
        """Set where the network learns under the gradient constraint; `look` then has its term."""

    @abstractmethod
    def prepare(self, crops: Tensor) -> Tensor:
        """uint8 (n, h, w, c) to float32 (n, planes, h', w')."""

    @abstractmethod
    def start(self, mean: Tensor) -> None:
        """Begin from the mean of the prepared good crops, (planes, h', w')."""

    @abstractmethod
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and log variance of the latent; no variance where it is no distribution."""

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """The prepared pixels that a latent stands for."""

    @abstractmethod
    def loss(self, x: Tensor, decoded: Tensor, divergence: Tensor) -> Tensor:
        """What training lowers; `divergence` (n,) is the summed KL of each crop's latent."""

    def kernels(self) -> list[Tensor]:
        """The weights that the gradient constraint is about; none where there is no such score."""
        return []

    def look(self, x: Tensor) -> Look:
        """Through the latent's mean: the same crop gives the same answer."""
        mean, log_variance = self.encode(x)
        divergence = None
        if log_variance is not None:
            places = _divergence(mean, log_variance).sum(dim=1, keepdim=True)
            divergence = self.beta * (places if places.dim() == 4 else places[..., None, None])
        return Look(x, self.decode(mean), divergence, self.gradient_term(x, mean))

    def gradient_term(self, x: Tensor, latent: Tensor) -> Tensor | None:
        """Of each crop, (n,), where the network has learned under the gradient constraint."""
        return None

    def reconstruct(self, x: Tensor) -> Tensor:
        """Through the latent's mean."""
        return self.decode(self.encode(x)[0])

    def elbo(self, x: Tensor, generator: torch.Generator | None, warmth: float = 1.0) -> Tensor:
        """The loss, its KL weighted by `warmth`; `generator` draws the latent, None takes its mean."""
        mean, log_variance = self.encode(x)
        if log_variance is None:
            return self.loss(x, self.decode(mean), x.new_zeros(len(x)))
        latent = mean
        if generator is not None:
            noise = torch.randn(mean.shape, generator=generator)
            latent = mean + noise * torch.exp(0.5 * log_variance)
        divergence = _divergence(mean, log_variance).flatten(1).sum(dim=1)
        return self.loss(x, self.decode(latent), warmth * self.beta * divergence)


def _divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL of each number of the latent to the standard normal distribution."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
