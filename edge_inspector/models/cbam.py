"""Convolutional block attention (Woo et al., "CBAM", 2018): which channels, then which places."""

from __future__ import annotations

import torch
from torch import Tensor, nn

REDUCTION = 16
LEAST = 4
"""Neurons that are left to the shared perceptron where there are few channels."""
KERNEL = 7


class Cbam(nn.Module):
    """A feature map (n, planes, h, w) weighted by channel, then by place; its shape stays."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        hidden = max(planes // REDUCTION, LEAST)
        self.channels = nn.Sequential(
            nn.Linear(planes, hidden), nn.ReLU(), nn.Linear(hidden, planes)
        )
        self.places = nn.Conv2d(2, 1, KERNEL, padding=KERNEL // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Both weights lie between 0 and 1."""
        told = self.channels(x.mean(dim=(2, 3))) + self.channels(x.amax(dim=(2, 3)))
        x = x * torch.sigmoid(told)[:, :, None, None]
        seen = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.places(seen))
