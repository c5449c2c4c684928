"""
The DCGAN of "Autonomous Wafer-Level Packaging Defect Classification via GANs", told the class.

One generator draws all classes: what they have in common, such as the outline of a wafer, is
learned from all images together, and a rare class has a few dozen. The paper normalises pixels to
0..1, hence the sigmoid.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from edge_inspector.manifest import Input

LATENT = 64
"""Numbers of noise; the paper names none."""
TOLD = 8.0
"""Of the class among the noise: as long as that is, or it would be learned last of all."""
WIDTH, WIDEST = 16, 256
"""Planes at half the size of the crop, doubled with every halving up to the widest."""
SMALLEST = 8
"""Sides in px below which nothing is halved."""


class Generator(nn.Module):
    """Noise and class to a crop: transposed convolutions, batch norm, ReLU."""

    def __init__(self, classes: int, shape: Input) -> None:
        super().__init__()
        self.classes = classes
        planes, rows, columns = pyramid(shape)
        self.first = nn.Linear(LATENT + classes, planes[-1] * rows * columns)
        layers: list[nn.Module] = [nn.Unflatten(1, (planes[-1], rows, columns))]
        for wide, slim in zip(planes[::-1], planes[-2::-1], strict=False):
            layers += [nn.BatchNorm2d(wide), nn.ReLU()]
            layers += [nn.ConvTranspose2d(wide, slim, 4, stride=2, padding=1)]
        layers += [nn.BatchNorm2d(planes[0]), nn.ReLU()]
        layers += [nn.ConvTranspose2d(planes[0], shape.channels, 4, stride=2, padding=1)]
        self.layers = nn.Sequential(*layers, nn.Sigmoid())

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Noise (n, 64) and labels (n,) to pixels in 0..1, (n, c, h, w)."""
        told = TOLD * functional.one_hot(labels, self.classes).to(noise.dtype)
        pixels: Tensor = self.layers(self.first(torch.cat([noise, told], dim=1)))
        return pixels


class Critic(nn.Module):
    """
    How real a crop of a class looks, without bounds: convolutions, leaky ReLU.

    A Wasserstein distance asks for a bounded slope. The paper names neither weight clipping nor
    gradient penalty; here each layer's largest singular value is held at 1 (Miyato 2018), at a
    third of the penalty's cost. The paper's batch norm would undo the bound and is left out.
    """

    def __init__(self, classes: int, shape: Input) -> None:
        super().__init__()
        planes, rows, columns = pyramid(shape)
        layers: list[nn.Module] = []
        for before, after in zip((shape.channels, *planes), planes, strict=False):
            layers += [spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1))]
            layers += [nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.scores = spectral_norm(nn.Linear(planes[-1] * rows * columns, classes))

    def forward(self, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels in 0..1 (n, c, h, w) and labels (n,) to scores (n,) and features (n, d)."""
        features = self.layers(2 * pixels - 1)
        score = self.scores(features).gather(1, labels[:, None])[:, 0]
        return score, features


def pyramid(shape: Input) -> tuple[list[int], int, int]:
    """Planes after each halving of a crop, and the rows and columns that are left at the end."""
    rows, columns, planes = shape.height, shape.width, [WIDTH]
    rows, columns = rows // 2, columns // 2
    while min(rows, columns) >= SMALLEST and not (rows % 2 or columns % 2):
        rows, columns = rows // 2, columns // 2
        planes.append(min(2 * planes[-1], WIDEST))
    return planes, rows, columns
