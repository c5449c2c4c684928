"""PaDiM (Defard et al., 2021) and PatchCore (Roth et al., 2022), as judges of joined features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_inspector.models.features import Places, joined


class Padim(nn.Module):
    """Mahalanobis distance of a random choice of planes to the Gaussian of each place."""

    chosen: Tensor

    def __init__(self, chosen: Tensor) -> None:
        super().__init__()
        self.register_buffer("chosen", chosen)
        self.places = Places()

    def reduced(self, levels: list[Tensor]) -> Tensor:
        """The chosen planes of the joined levels, (n, planes, h, w)."""
        return joined(levels).index_select(1, self.chosen)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Evidence (n, 1, h, w): the distance, over the root of the number of planes."""
        squares: Tensor = self.places(self.reduced(levels))
        return torch.sqrt(squares + 1e-12)


class PatchCore(nn.Module):
    """Distance to the nearest of a bank of good crops' features, as one 1 x 1 convolution."""

    mean: Tensor
    weight: Tensor
    squares: Tensor

    def __init__(self, mean: Tensor, bank: Tensor) -> None:
        """`mean` (planes,) is taken from both sides, so that squares stay small; `bank` (rows, planes)."""
        super().__init__()
        away = bank - mean
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1))
        self.register_buffer("weight", (-2 * away)[:, :, None, None])
        self.register_buffer("squares", away.square().sum(dim=1))

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Evidence (n, 1, h, w): Euclidean distance to the nearest row."""
        x = joined(levels) - self.mean
        nearest = nn.functional.conv2d(x, self.weight, self.squares).amin(dim=1, keepdim=True)
        own = x.square().sum(dim=1, keepdim=True)
        return torch.sqrt((own + nearest).clamp(min=1e-6))
