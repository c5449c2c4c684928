"""
`sure`: a linear VAE over frozen features of a whole crop, whose decoder's noise knows its place.

The optimum of a linear VAE is probabilistic PCA (Lucas et al., "Don't blame the ELBO", 2019), so it
is solved, not descended to. The latent explains light, exposure and variant of the product, which
move all places together; what it leaves unexplained is held against the covariance of such rests at
each place. Evidence is that squared distance, averaged over the levels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_inspector.models.features import Places

FLOOR = 0.2
"""Share of a plane's mean spread that is added to its spread at each place."""
LEAST = 0.02
"""The same, of its level: where good crops do not differ at all, rounding must not look unusual."""


class Sure(nn.Module):
    """Levels of features to evidence (n, 1, h, w), at the resolution of the finest."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = [Level() for _ in range(levels)]
        self.registered = nn.ModuleList(self.levels)

    def rests(self, levels: list[Tensor]) -> list[Tensor]:
        """What the latent does not explain of each level, in spreads of each place."""
        ready = [level.normalise(x) for level, x in zip(self.levels, levels, strict=True)]
        parts = [level.encode(x) for level, x in zip(self.levels, ready, strict=True)]
        latent = torch.stack(parts).sum(dim=0)
        return [x - level.decode(latent) for level, x in zip(self.levels, ready, strict=True)]

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Root mean square of the whitened rests of all planes."""
        rests = self.rests(levels)
        planes = sum(rest.shape[1] for rest in rests)
        parts = [
            level.places(rest) * (rest.shape[1] / planes)
            for level, rest in zip(self.levels, rests, strict=True)
        ]
        size = parts[0].shape[2:]
        grown = [functional.interpolate(part, size=size, mode="bilinear") for part in parts[1:]]
        return torch.sqrt(torch.stack([parts[0], *grown]).sum(dim=0) + 1e-12)


class Level(nn.Module):
    """One level's share of the linear VAE, and the noise of its decoder."""

    mixture: Tensor
    mean: Tensor
    scale: Tensor
    basis: Tensor
    heard: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.places = Places()
        for name in ("mixture", "mean", "scale", "basis", "heard"):
            self.register_buffer(name, torch.empty(0))

    def fit_scale(self, features: Tensor, planes: int) -> None:
        """Learn from good crops: their `planes` strongest mixtures, mean and spread at each place."""
        away = (features - features.mean(dim=0)).transpose(0, 1).flatten(1)
        vectors = torch.linalg.eigh(away @ away.T / away.shape[1])[1]
        self.mixture = vectors[:, -planes:].T[:, :, None, None].contiguous()
        mixed = functional.conv2d(features, self.mixture)
        spread, mean = torch.std_mean(mixed, dim=0, correction=0, keepdim=True)
        level = mean.square().mean(dim=(2, 3), keepdim=True).sqrt()
        floor = FLOOR * spread.mean(dim=(2, 3), keepdim=True) + LEAST * level + 1e-6
        self.mean, self.scale = mean, 1 / (spread + floor)

    def fit_basis(self, basis: Tensor, heard: Tensor) -> None:
        """Components (k, planes h w) and how much of each the posterior's mean keeps (k,)."""
        self.basis, self.heard = basis, heard

    def normalise(self, features: Tensor) -> Tensor:
        """Mixed, in spreads of each place, (n, planes, h, w)."""
        return (functional.conv2d(features, self.mixture) - self.mean) * self.scale

    def encode(self, x: Tensor) -> Tensor:
        """This level's part of the latent's mean, (n, k)."""
        return functional.linear(x.flatten(1), self.basis) * self.heard

    def decode(self, latent: Tensor) -> Tensor:
        """What the latent says of this level, (n, planes, h, w)."""
        return (latent @ self.basis).reshape(-1, *self.mean.shape[1:])
