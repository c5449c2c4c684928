"""
The wafer paper's feature fusion: three branches that see the crop at three scales.

The paper names branches, "tailored pooling operations" and one dense layer over what the branches
find, side by side; their depth and widths are ours.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

SCALES = (1, 2, 4)
"""Px of the crop, each way, that a branch sees as one."""
WIDTHS = (16, 32, 64, 128)
"""Planes of a branch's convolutions; the map halves before each but the first."""
STRIDE = max(SCALES) << (len(WIDTHS) - 1)
"""Sides that are multiples of this have maps whose sizes are multiples of each other."""


class Fusion(nn.Module):
    """Prepared crops (n, planes, h, w) to the last map of each branch, the finest first."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_branch(planes) for _ in SCALES)
        self.planes = (WIDTHS[-1],) * len(SCALES)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps (n, 128, h / 8, w / 8) at the finest scale, halved at each coarser one."""
        scaled = [x if scale == 1 else functional.avg_pool2d(x, scale) for scale in SCALES]
        return [branch(seen) for branch, seen in zip(self.branches, scaled, strict=True)]


def _branch(planes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in WIDTHS:
        if layers:
            layers.append(nn.MaxPool2d(2))
        layers += [nn.Conv2d(planes, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
        layers.append(nn.ReLU())
        planes = width
    return nn.Sequential(*layers)
