"""
The simple networks of the failure-mode paper: convolutions with pooling, then dense layers.

The widths are those that give the paper's numbers of parameters to the last one, on 299 x 299 grey
crops and six classes: 89,719,878, 43,674,886 and 20,171,846.
"""

from __future__ import annotations

from torch import Tensor, nn

PLANS = {
    "scnn01": ((64,), (64,)),
    "scnn02": ((32, 64), (128,)),
    "scnn03": ((32, 64, 128), (128, 64)),
}
"""Planes of the convolutions, neurons of the dense layers below the last."""

LAYERS = 3
"""Modules per convolution."""


class Scnn(nn.Module):
    """Convolutions 3 x 3 without a border, each with ReLU and pooling by 2."""

    def __init__(self, planes: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in widths:
            layers += [nn.Conv2d(planes, width, 3), nn.ReLU(), nn.MaxPool2d(2)]
            planes = width
        self.layers = nn.Sequential(*layers)
        self.planes = (planes,)

    def side(self, side: int) -> int:
        """Px that are left of a side, in px."""
        for _ in range(len(self.layers) // LAYERS):
            side = (side - 2) // 2
        return side

    def forward(self, x: Tensor) -> list[Tensor]:
        """Crops (n, planes, h, w) to the last map alone."""
        return [self.layers(x)]
