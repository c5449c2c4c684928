"""
The VAE of "BGA anomaly detection by exploiting Variational AutoEncoders", as printed.

Convolutions of 16 and 32 channels with stride 2, dense 16 per position, a latent of 2, dense back
to (h/4, w/4, 32), transposed convolutions of 32 and 16, sigmoid. Loss: squared error + KL.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_inspector.models.autoencoder import Autoencoder
from edge_inspector.models.standard import standardised

LATENT = 2


class Vae(Autoencoder):
    """Crops as pixels in 0..1, (n, c, h, w), and their reconstruction from two numbers."""

    default_score = "cosine"
    scores = ("cosine", "elbo", "reconstruction", "residual")
    cell = 4

    def __init__(self, height: int, width: int, channels: int, *, standardise: bool) -> None:
        super().__init__()
        self.standardise = standardise
        rows, columns = height // 4, width // 4
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 16, 1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.mean = nn.Linear(16 * rows * columns, LATENT)
        self.log_variance = nn.Linear(16 * rows * columns, LATENT)
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, 32 * rows * columns),
            nn.ReLU(),
            nn.Unflatten(1, (32, rows, columns)),
            nn.ConvTranspose2d(32, 32, 3, stride=2, padding=1, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 3, stride=2, padding=1, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, channels, 3, padding=1),
            nn.Sigmoid(),
        )

    def start(self, mean: Tensor) -> None:
        """Nothing is known before the first step."""

    def prepare(self, crops: Tensor) -> Tensor:
        """uint8 (n, h, w, c) to 0..1, (n, c, h, w); standardised to mean 1/2, deviation 1/8."""
        x = crops.to(torch.float32).permute(0, 3, 1, 2) * (1 / 255)
        if not self.standardise:
            return x
        return (0.5 + 0.125 * standardised(x, 1e-4)).clamp(0, 1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, each (n, 2)."""
        hidden = self.encoder(x)
        return self.mean(hidden), self.log_variance(hidden)

    def decode(self, latent: Tensor) -> Tensor:
        """Two numbers to pixels in 0..1, (n, c, h, w)."""
        pixels: Tensor = self.decoder(latent)
        return pixels

    def loss(self, x: Tensor, decoded: Tensor, divergence: Tensor) -> Tensor:
        """Squared error of the whole crop + KL, as in the paper, per pixel; mean over the batch."""
        squared = (x - decoded).square().flatten(1).sum(dim=1)
        return (squared + divergence).mean() / x[0].numel()
