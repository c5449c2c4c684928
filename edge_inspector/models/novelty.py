"""
How far a crop lies from what training showed, by what a classifier's last layer sees of it.

The distance of Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples"
(2018): Mahalanobis, to the nearest class, with one covariance for all classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SHRINK = 0.02
"""Of the covariance's mean variance, added to each: directions that training hardly used."""


class Novelty(nn.Module):
    """Embedding (n, d) and logits (n, k) to a distance (n,), higher is stranger; `fit` it first."""

    mean: Tensor
    whitening: Tensor
    centres: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("mean", "whitening", "centres"):
            self.register_buffer(name, torch.empty(0))

    def fit(self, embeddings: Tensor, labels: Tensor, logits: Tensor) -> None:
        """Learn from training crops: embeddings (n, d), labels int64 (n,), logits (n, k)."""
        found = embeddings.to(torch.float64)
        mean = found.mean(dim=0)
        classes = torch.tensor(sorted(set(labels.tolist())))
        centres = torch.stack([found[labels == label].mean(dim=0) for label in classes])
        within = found - centres[torch.searchsorted(classes, labels)]
        covariance = within.T @ within / len(within)
        floor = SHRINK * covariance.diagonal().mean() + 1e-12
        lower = torch.linalg.cholesky(covariance + floor * torch.eye(len(covariance)))
        whitening = torch.linalg.solve_triangular(
            lower, torch.eye(len(lower)).double(), upper=False
        ).T
        self.mean = mean.float()
        self.whitening = whitening.float().contiguous()
        self.centres = ((centres - mean) @ whitening).float()

    def forward(self, embedding: Tensor, logits: Tensor) -> Tensor:
        """Root of the squared distance per dimension to the nearest class."""
        white = (embedding - self.mean) @ self.whitening
        cross = white @ self.centres.T
        squared = (
            white.square().sum(dim=1, keepdim=True) - 2 * cross + self.centres.square().sum(dim=1)
        )
        nearest = squared.amin(dim=1).clamp(min=0)
        return (nearest / embedding.shape[1]).sqrt()
