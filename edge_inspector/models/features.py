"""
What a frozen backbone sees in a crop, and an engine made of it: features, evidence, score, map.

Features are whitened in full at every place, because what is usual differs from place to place.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_inspector.models.efficientnet_lite import EfficientNetLite0, prepare
from edge_inspector.models.heads import USUAL, eight_bit
from edge_inspector.models.standard import standardised

SMALL, LARGER = 128, 2
"""Crops with a side below this many px are seen that many times larger."""
DEVIATION = 0.5
"""Of a standardised crop: about that of the photographs that the backbone learned from."""


class Features(nn.Module):
    """Crops, uint8 (n, h, w, c), to features of each stride, averaged over 3 x 3 neighbours."""

    def __init__(self, blocks: tuple[int, ...], *, standardise: bool) -> None:
        super().__init__()
        self.backbone = EfficientNetLite0(blocks)
        self.standardise = standardise

    def forward(self, crops: Tensor) -> list[Tensor]:
        """Features (n, planes, h / stride, w / stride), the finest first."""
        x = prepare(crops)
        if self.standardise:
            x = DEVIATION * standardised(x, 1e-4)
        if min(x.shape[2:]) < SMALL:
            x = functional.interpolate(x, scale_factor=LARGER, mode="bilinear")
        return [pooled(level) for level in self.backbone(x)]


class FeatureGraph(nn.Module):
    """An engine: features, the evidence that `judge` makes of them, its worst place, its map."""

    gain: Tensor

    def __init__(self, features: Features, judge: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.judge = judge
        self.register_buffer("gain", torch.ones(()))

    def scale(self, levels: list[Tensor]) -> None:
        """Scale the map by the features of good crops."""
        peaks = self.where(levels).amax(dim=(1, 2, 3))
        self.gain = USUAL / peaks.median().clamp(min=1e-6)

    def where(self, levels: list[Tensor]) -> Tensor:
        """Evidence, (n, 1, h', w')."""
        evidence: Tensor = pooled(self.judge(levels))
        return evidence

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Score, float32 (n,), and anomaly map, uint8 (n, h', w'), of crops, uint8 (n, h, w, c)."""
        evidence = self.where(self.features(crops))
        return evidence.amax(dim=(1, 2, 3)), eight_bit(evidence * self.gain)


class Places(nn.Module):
    """Features (n, planes, h, w) to the mean square of their whitened deviation at each place."""

    mean: Tensor
    whitening: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("mean", "whitening"):
            self.register_buffer(name, torch.empty(0))

    def fit(self, mean: Tensor, covariance: Tensor) -> None:
        """`mean` (planes, h, w), `covariance` (h w, planes, planes), positive definite."""
        planes = covariance.shape[1]
        lower = torch.linalg.cholesky(covariance)
        inverse = torch.linalg.solve_triangular(lower, torch.eye(planes), upper=False)
        self.mean, self.whitening = mean[None], inverse.transpose(1, 2).contiguous()

    def forward(self, features: Tensor) -> Tensor:
        """Squared Mahalanobis distance per plane, (n, 1, h, w)."""
        height, width = self.mean.shape[2:]
        white = by_place(features - self.mean) @ self.whitening
        return white.square().mean(dim=2).transpose(0, 1).reshape(-1, 1, height, width)


def by_place(features: Tensor) -> Tensor:
    """(n, planes, h, w) to (h w, n, planes)."""
    return features.flatten(2).permute(2, 0, 1)


def covariances(deviations: Tensor, shrink: float, ridge: float) -> Tensor:
    """
    Covariance at each place, (h w, planes, planes), of deviations (n, planes, h, w).

    Drawn by `shrink` to the mean over all places (1 is that alone), `ridge` on the diagonal as a
    share of its mean.
    """
    at = by_place(deviations)
    found = at.transpose(1, 2) @ at / at.shape[1]
    shared = found.mean(dim=0)
    floor = ridge * shared.diagonal().mean() * torch.eye(len(shared))
    return (1 - shrink) * found + shrink * shared + floor


def joined(levels: list[Tensor]) -> Tensor:
    """Levels as one, at the resolution of the first."""
    size = levels[0].shape[2:]
    grown = [functional.interpolate(f, size=size, mode="bilinear") for f in levels[1:]]
    return torch.cat([levels[0], *grown], dim=1)


def pooled(level: Tensor) -> Tensor:
    """Averaged with its neighbours, at the rim with those that exist."""
    return functional.avg_pool2d(level, 3, stride=1, padding=1, count_include_pad=False)
