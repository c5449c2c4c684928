"""
From pixels and their reconstruction to the evidence: one score per crop and a map of where.

Heads keep the axes of the convolutions and end in sums and maxima: flattening a large map
makes a runtime reorder it. `fit` learns from good crops what is usual; it is constant afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_inspector.models.autoencoder import Look
from edge_inspector.models.standard import mean_over

USUAL = 64.0
"""Map value of the worst place of a usual good crop; 128 is three times as far out."""
SMOOTHING = 3
"""Cells over which evidence is averaged, each way: about one ball of 256 px crops."""


Measure = Callable[[Look, int], tuple[Tensor, Tensor]]
"""What a network made of crops, and the cell of the map, to score (n,) and evidence (n, 1, h', w')."""


class PlainHead(nn.Module):
    """A score that has nothing to learn from good crops but the scale of its map."""

    def __init__(self, cell: int, measure: Measure) -> None:
        super().__init__()
        self.cell = cell
        self.measure = measure
        self.register_buffer("gain", torch.ones(()))

    def fit(self, looks: Iterable[Look]) -> None:
        """Scale the map."""
        evidence = (smooth(self.measure(look, self.cell)[1]) for look in looks)
        peaks = torch.cat([each.amax(dim=(1, 2, 3)) for each in evidence])
        self.gain = USUAL / peaks.median().clamp(min=1e-12)

    def forward(self, look: Look) -> tuple[Tensor, Tensor]:
        """Score, float32 (n,), and anomaly map, uint8 (n, h', w')."""
        score, evidence = self.measure(look, self.cell)
        return score, eight_bit(smooth(evidence) * self.gain)


class Usual(nn.Module):
    """
    Residuals, (n, planes, h, w), to deviations from what is usual at each place, (n, 1, h', w').

    Squares are divided by their mean at each pixel, averaged over cells and neighbouring cells,
    rooted, and normalised by their mean and spread at each cell.
    """

    def __init__(self, cell: int) -> None:
        super().__init__()
        self.cell = cell
        for name in ("weight", "center", "spread"):
            self.register_buffer(name, torch.ones(()))

    def fit(self, residuals: list[Tensor]) -> None:
        """Learn from batches of good crops."""
        square = mean_over(r.square() for r in residuals)
        # Far below the mean, a residual is noise of the camera that other crops would show.
        self.weight = 1 / (square + 0.2 * square.mean())
        levels = torch.cat([self.level(r) for r in residuals])
        self.center = levels.mean(dim=0)
        # The fourth moment counts the rare extremes of good units more than a deviation does.
        spread = (levels - self.center).pow(4).mean(dim=0).pow(0.25)
        self.spread = 1 / (spread + 0.25 * spread.mean() + 1e-6)

    def level(self, residual: Tensor) -> Tensor:
        """Root of the weighted mean square around each cell."""
        squares = smooth(cells(residual * residual * self.weight, self.cell))
        return torch.sqrt(squares + 1e-12)

    def forward(self, residual: Tensor) -> Tensor:
        """In spreads of good crops; below 0 is quieter than usual."""
        return (self.level(residual) - self.center) * self.spread


class ResidualHead(nn.Module):
    """
    The worst place, in spreads of what is usual there.

    Pixels are held against their reconstruction, which knows how a unit may move, and against the
    mean good crop: a network with room to spare reconstructs some missing balls as missing.
    """

    def __init__(self, cell: int) -> None:
        super().__init__()
        self.reconstructed = Usual(cell)
        self.plain = Usual(cell)
        for name in ("picture", "gain"):
            self.register_buffer(name, torch.ones(()))

    def fit(self, looks: Iterable[Look]) -> None:
        """Learn what is usual from (pixels, reconstruction) of good crops."""
        kept = [(look.x, look.decoded) for look in looks]
        self.picture = mean_over(x for x, _ in kept)
        self.reconstructed.fit([x - decoded for x, decoded in kept])
        self.plain.fit([x - self.picture for x, _ in kept])
        peaks = torch.cat([self.where(x, decoded)[0] for x, decoded in kept])
        self.gain = USUAL / peaks.median().clamp(min=1e-6)

    def where(self, x: Tensor, decoded: Tensor) -> tuple[Tensor, Tensor]:
        """Score (n,) and evidence (n, 1, h', w')."""
        evidence = torch.maximum(self.reconstructed(x - decoded), self.plain(x - self.picture))
        return evidence.amax(dim=(1, 2, 3)), evidence

    def forward(self, look: Look) -> tuple[Tensor, Tensor]:
        """Score, float32 (n,), and anomaly map, uint8 (n, h', w')."""
        score, evidence = self.where(look.x, look.decoded)
        return score, eight_bit(evidence * self.gain)


def cells(x: Tensor, cell: int) -> Tensor:
    """Mean over planes and over cells of `cell` steps, (n, 1, h', w')."""
    planes = x.mean(dim=1, keepdim=True)
    return functional.avg_pool2d(planes, cell) if cell > 1 else planes


def smooth(x: Tensor) -> Tensor:
    """Mean over neighbouring cells."""
    return functional.avg_pool2d(x, SMOOTHING, stride=1, padding=SMOOTHING // 2)


def eight_bit(evidence: Tensor) -> Tensor:
    """Bent towards 255, so that a large defect still has one worst place."""
    level = evidence.clamp(min=0)
    return (255 * level / (level + (255 - USUAL)) + 0.5).squeeze(1).to(torch.uint8)
