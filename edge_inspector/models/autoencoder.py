"""What every variational autoencoder here has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Autoencoder(nn.Module, ABC):
    """Crops to pixels as the network sees them, through a latent and back."""

    default_score: str
    """The score that an engine of this network carries unless told otherwise."""
    cell: int
    """Steps of the prepared pixels per step of the anomaly map, each way."""

    @abstractmethod
    def prepare(self, crops: Tensor) -> Tensor:
        """uint8 (n, h, w, c) to float32 (n, planes, h', w')."""

    @abstractmethod
    def start(self, mean: Tensor) -> None:
        """Begin from the mean of the prepared good crops, (planes, h', w')."""

    @abstractmethod
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latent."""

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """The prepared pixels that a latent stands for."""

    @abstractmethod
    def loss(self, x: Tensor, decoded: Tensor, divergence: Tensor) -> Tensor:
        """What training lowers; `divergence` (n,) is the summed KL of each crop's latent."""

    def reconstruct(self, x: Tensor) -> Tensor:
        """Through the latent's mean: the same crop gives the same answer."""
        return self.decode(self.encode(x)[0])

    def elbo(self, x: Tensor, generator: torch.Generator | None, warmth: float = 1.0) -> Tensor:
        """The loss, its KL weighted by `warmth`; `generator` draws the latent, None takes its mean."""
        mean, log_variance = self.encode(x)
        latent = mean
        if generator is not None:
            noise = torch.randn(mean.shape, generator=generator)
            latent = mean + noise * torch.exp(0.5 * log_variance)
        terms = mean.square() + log_variance.exp() - 1 - log_variance
        divergence = 0.5 * terms.flatten(1).sum(dim=1)
        return self.loss(x, self.decode(latent), warmth * divergence)
