"""
The lean anomaly network: a VAE with a spatial latent that fits into a millisecond of one core.

What costs time at this size is moving data, not arithmetic. So pixels are unshuffled by a constant
one-hot strided convolution over the interleaved rows (no transpose, whatever the channels), the
decoder grows by nearest neighbour, and the reconstruction stays in unshuffled space.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_inspector.models.autoencoder import Autoencoder
from edge_inspector.models.standard import standardised

FINE, COARSE = 16, 48
"""Channels next to the pixels, and next to the latent."""
LATENT = 4
"""Numbers per place of the latent: where a ball of 256 px crops lies, how large, how bright."""
GREY = 64.0
"""Grey levels are divided by this."""


class Lean(Autoencoder):
    """
    Crops (n, h, w, c) uint8 to unshuffled pixels and their reconstruction.

    The latent keeps its place: 16 x 16 for 256 px, one place about one ball. A constant picture,
    learned from the mean of the good crops, carries what never changes, so that the latent is left
    with what does. Sides below 128 px are unshuffled by 2 instead of 4. `standardise` takes each
    crop's own mean and deviation out, for products whose brightness and contrast say nothing.
    """

    default_score = "residual"
    cell = 1

    def __init__(self, height: int, width: int, channels: int, *, standardise: bool) -> None:
        super().__init__()
        self.size = (height, width, channels)
        self.step = 4 if min(height, width) >= 128 else 2
        self.standardise = standardise
        planes = self.step * self.step * channels
        rows, columns = height // self.step, width // self.step
        self.register_buffer("unshuffle", _one_hot(planes, self.step, self.step * channels))
        self.encoder = nn.Sequential(
            nn.Conv2d(planes, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, COARSE, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(COARSE, COARSE, 3, padding=1),
            nn.ReLU(),
        )
        self.mean = nn.Conv2d(COARSE, LATENT, 1)
        self.log_variance = nn.Conv2d(COARSE, LATENT, 1)
        self.widen = nn.Conv2d(LATENT, COARSE, 3, padding=1)
        self.place = nn.Parameter(torch.zeros(1, COARSE, rows // 4, columns // 4))
        self.decoder = nn.Sequential(
            nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(COARSE, FINE, 3, padding=1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(FINE, planes, 3, padding=1),
        )
        self.picture = nn.Parameter(torch.zeros(1, planes, rows, columns))
        # A wide posterior drowns the latent before the decoder has learned to listen to it.
        nn.init.constant_(self.log_variance.bias, -4.0)  # type: ignore[arg-type]

    def start(self, mean: Tensor) -> None:
        """Begin from the mean of the prepared good crops, (planes, h', w')."""
        self.picture.data.copy_(mean[None])

    def prepare(self, crops: Tensor) -> Tensor:
        """uint8 (n, h, w, c) to float32 (n, step² c, h / step, w / step)."""
        height, width, channels = self.size
        rows = crops.to(torch.float32).reshape(-1, 1, height, width * channels)
        stride = (self.step, self.step * channels)
        x = functional.conv2d(rows, self.get_buffer("unshuffle"), stride=stride)
        if not self.standardise:
            return x * (1 / GREY)
        return standardised(x, 1.0)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latent, each (n, 4, h', w')."""
        hidden = self.encoder(x - self.picture)
        return self.mean(hidden), self.log_variance(hidden)

    def decode(self, latent: Tensor) -> Tensor:
        """A latent to the unshuffled pixels it stands for."""
        decoded: Tensor = self.decoder(self.widen(latent) + self.place)
        return decoded + self.picture

    def loss(self, x: Tensor, decoded: Tensor, divergence: Tensor) -> Tensor:
        """
        Negative ELBO per pixel, with the noise of the pixels at its optimum for the batch.

        With the optimum in place, squared error and divergence need no weight between them
        (Rybkin et al., "Simple and effective VAE training with calibrated decoders", 2021).
        """
        pixels = x[0].numel()
        return 0.5 * torch.log((x - decoded).square().mean()) + divergence.mean() / pixels


def _one_hot(planes: int, rows: int, columns: int) -> Tensor:
    return torch.eye(planes).reshape(planes, 1, rows, columns)
