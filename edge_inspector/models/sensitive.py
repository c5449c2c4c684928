"""
The sensitive anomaly network: trained to tell faults made of good crops from good crops.

An autoencoder is asked whether it can draw what it sees, and it draws a ball of the wrong size as
well as a good one. This network is asked what is wrong instead. It sees each crop twice: as it is,
and as deviations from the mean good crop in spreads of the pixel, where a stain of 25 grey levels
weighs as much as a ball off its place. A few numbers of the whole crop tell every place how the
unit lies, so that a unit that moved is no unit whose balls moved.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_inspector.models.heads import eight_bit

FIRST, FINE, COARSE = 16, 32, 48
"""Channels at a quarter, an eighth and a sixteenth of a crop of 256 px."""
POSE = 8
"""Numbers of the whole crop that every place is told, and how much of each place they are made of."""
GREY = 64.0
"""Grey levels are divided by this."""
NOISE = 2.0
"""Grey levels of spread that every pixel has at least."""
FARTHEST = 6.0
"""Spreads at which a deviation is cut off."""


class Sensitive(nn.Module):
    """
    Crops (n, h, w, c) uint8 to the log odds of a fault in each cell, (n, 1, h / 8, w / 8).

    Cells are 8 px wide; 4 px where the shorter side is below 128 px. In training `motions` come
    with them, (n, 3, h / 16, w / 16): how far a fault moved what is there, and how much it grew.
    """

    def __init__(self, height: int, width: int, channels: int) -> None:
        super().__init__()
        self.step = 4 if min(height, width) >= 128 else 2
        self.channels = channels
        rows, columns = height // (4 * self.step), width // (4 * self.step)
        shape = (1, 1, height, width * channels)
        self.register_buffer("level", torch.zeros(()))
        self.register_buffer("picture", torch.zeros(shape))
        self.register_buffer("inverse", torch.ones(shape))
        kernel = (self.step + 2, (self.step + 2) * channels)
        stride = (self.step, self.step * channels)
        inset = (1, channels)
        self.seen = nn.Conv2d(1, FIRST, kernel, stride, inset)
        self.deviating = nn.Conv2d(1, FIRST, kernel, stride, inset, bias=False)
        self.fine = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(FIRST, FINE, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(FINE, FINE, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(FINE, COARSE, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.place = nn.Parameter(torch.zeros(1, COARSE, rows, columns))
        self.coarse = nn.Sequential(nn.Conv2d(COARSE, COARSE, 3, padding=1), nn.ReLU())
        self.narrow = nn.Conv2d(COARSE, POSE, 1)
        self.pose = nn.Sequential(
            nn.Flatten(),
            nn.Linear(POSE * rows * columns, 4 * POSE),
            nn.ReLU(),
            nn.Linear(4 * POSE, POSE),
            nn.ReLU(),
            nn.Linear(POSE, 3 * COARSE),
        )
        down, across = torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns)
        self.register_buffer("down", down.reshape(1, 1, rows, 1).repeat(1, 1, 1, columns))
        self.register_buffer("across", across.reshape(1, 1, 1, columns).repeat(1, 1, rows, 1))
        self.odds = nn.Conv2d(COARSE, 4, 1)
        self.motions = nn.Conv2d(COARSE, 3, 1)
        # Faults are rare: without this, the first steps only learn that.
        nn.init.constant_(self.odds.bias, -3.0)  # type: ignore[arg-type]

    def start(self, good: Tensor) -> None:
        """Learn the mean and the spread of each pixel of good crops, uint8 (n, h, w, c)."""
        rows = good.flatten(2)
        total, squares = torch.zeros(rows.shape[1:]), torch.zeros(rows.shape[1:])
        for batch in torch.split(rows, 64):
            x = batch.to(torch.float32)
            total, squares = total + x.sum(0), squares + x.square().sum(0)
        mean = total / len(rows)
        spread = (squares / len(rows) - mean.square()).clamp(min=0).sqrt()
        self.get_buffer("picture").copy_(mean)
        self.get_buffer("inverse").copy_(1 / (spread + NOISE))
        self.get_buffer("level").copy_(mean.mean())

    def features(self, crops: Tensor) -> Tensor:
        """What is known of each place of 16 px, (n, 48, h / 16, w / 16)."""
        n, height, width, channels = crops.shape
        x = crops.reshape(n, 1, height, width * channels).to(torch.float32)
        deviation = (x - self.get_buffer("picture")) * self.get_buffer("inverse")
        shown = self.seen((x - self.get_buffer("level")) * (1 / GREY))
        hidden = self.fine(shown + self.deviating(deviation.clamp(-FARTHEST, FARTHEST) * 0.5))
        hidden = self.coarse(hidden + self.place)
        lies = self.pose(self.narrow(hidden)).unsqueeze(2).unsqueeze(3)
        even, down, across = lies.chunk(3, dim=1)
        tilted = down * self.get_buffer("down") + across * self.get_buffer("across")
        told: Tensor = hidden + even + tilted
        return told

    def forward(self, crops: Tensor) -> Tensor:
        """Log odds of a fault in each cell."""
        return functional.pixel_shuffle(self.odds(self.features(crops)), 2)


class SensitiveGraph(nn.Module):
    """The engine: the log odds of the likeliest fault as the score, and a map of where."""

    def __init__(self, network: Sensitive) -> None:
        super().__init__()
        self.network = network
        for name in ("usual", "gain"):
            self.register_buffer(name, torch.zeros(()))

    def fit(self, crops: Tensor) -> None:
        """Scale the map: usual good places are 0, the worst place of a usual good crop is 64."""
        odds = torch.cat([self.network(batch) for batch in torch.split(crops, 64)])
        self.usual = odds.flatten(1).median(dim=1).values.median()
        peak = odds.amax(dim=(1, 2, 3)).median()
        self.gain = 64.0 / (peak - self.usual).clamp(min=1e-3)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Score, float32 (n,), and anomaly map, uint8 (n, h / 8, w / 8)."""
        odds = self.network(crops)
        return odds.amax(dim=(1, 2, 3)), eight_bit((odds - self.usual) * self.gain)
