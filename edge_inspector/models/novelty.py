"""
How far a crop lies from what training showed, by what a classifier's last layer sees of it.

Two distances, because each misses kinds of defect that the other finds: Mahalanobis to the nearest
class less that to all classes together (Ren et al., "A Simple Fix to Mahalanobis Distance for
Improving Near-OOD Detection", 2021), and the angle to the k-th nearest training crop (Sun et al.,
"Out-of-Distribution Detection with Deep Nearest Neighbors", 2022).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

SHRINK = 0.02
"""Of the covariance's mean variance, added to each: directions that training hardly used."""
KEPT, NEIGHBOUR, PLANES = 200, 5, 128
"""Training crops kept of each class, the neighbour that counts, directions kept of the embedding."""
HIGH = 0.98
"""Quantile that tells how far the distances of training crops reach."""


class Novelty(nn.Module):
    """Embedding (n, d) and logits (n, k) to a distance (n,), 0 and higher; `fit` it first."""

    mean: Tensor
    within: Tensor
    whole: Tensor
    centres: Tensor
    directions: Tensor
    shown: Tensor
    usual: Tensor
    reach: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("mean", "within", "whole", "centres", "directions", "shown"):
            self.register_buffer(name, torch.empty(0))
        self.register_buffer("usual", torch.zeros(2))
        self.register_buffer("reach", torch.ones(2))
        self.neighbour = 1

    def fit(self, embeddings: Tensor, labels: Tensor, logits: Tensor) -> None:
        """Learn from training crops: embeddings (n, d), labels int64 (n,), logits (n, k)."""
        found = embeddings.to(torch.float64)
        classes = torch.tensor(sorted(set(labels.tolist())))
        members = [found[labels == label] for label in classes]
        centres = torch.stack([member.mean(dim=0) for member in members])
        mean = found.mean(dim=0)
        within = whitening(found - centres[torch.searchsorted(classes, labels)])
        self.mean, self.within = mean.float(), within.float()
        self.whole = whitening(found - mean).float()
        self.centres = ((centres - mean) @ within).float()
        bank = torch.cat([member[:KEPT] for member in members])
        # Not centred: directions from the origin are what the last layer sums, centred ones are worse.
        planes = torch.linalg.eigh(bank.T @ bank).eigenvectors[:, -PLANES:]
        self.directions = planes.float()
        self.shown = functional.normalize((bank @ planes).float())
        self.neighbour = min(NEIGHBOUR, *(len(member) for member in members))
        distances = torch.cat([self.distances(part) for part in torch.split(embeddings, 512)])
        self.usual = distances.median(dim=0).values
        high = torch.quantile(distances, HIGH, dim=0)
        self.reach = ((high - self.usual) / math.log(0.5 / (1 - HIGH))).clamp(min=1e-6)

    def distances(self, embedding: Tensor) -> Tensor:
        """Relative squared Mahalanobis per dimension, and 1 - cosine to the k-th nearest, (n, 2)."""
        centred = embedding - self.mean
        white = (centred @ self.within)[:, None] - self.centres
        nearest = white.square().mean(dim=2).amin(dim=1)
        relative = nearest - (centred @ self.whole).square().mean(dim=1)
        cosines = functional.normalize(embedding @ self.directions) @ self.shown.T
        angle = 1 - torch.topk(cosines, self.neighbour, dim=1).values[:, -1]
        return torch.stack([relative, angle], dim=1)

    def forward(self, embedding: Tensor, logits: Tensor) -> Tensor:
        """Both distances above the usual, in steps over which the tail of training falls e-fold."""
        return ((self.distances(embedding) - self.usual) / self.reach).clamp(min=0).sum(dim=1)


def whitening(deviations: Tensor) -> Tensor:
    """W (d, d) with which `deviations @ W`, (n, d), have about unit covariance."""
    covariance = deviations.T @ deviations / len(deviations)
    floor = SHRINK * covariance.diagonal().mean() + 1e-12
    eye = torch.eye(len(covariance), dtype=covariance.dtype)
    lower = torch.linalg.cholesky(covariance + floor * eye)
    inverse: Tensor = torch.linalg.solve_triangular(lower, eye, upper=False)
    return inverse.T.contiguous()
