"""
The sensitive anomaly network: trained to tell faults made of good crops from good crops.

An autoencoder is asked whether it can draw what it sees, and it draws a ball of the wrong size as
well as a good one. This network is asked what is wrong instead. It sees each crop twice: as it is,
and as deviations from the mean good crop in spreads of the pixel, where a stain of 25 grey levels
weighs as much as a ball off its place. A few numbers of the whole crop tell every place how the
unit lies, so that a unit that moved is no unit whose balls moved.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_inspector.models.heads import USUAL, eight_bit
from edge_inspector.models.standard import standardised

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
MIDDLE, CONTRAST = 128.0, 48.0
"""Mean and deviation in grey levels of standardised crops."""
AROUND_PX = 19
"""Side of the square, in px of crops of 256, over which the edges of one thing are counted."""


class Sensitive(nn.Module):
    """
    Crops (n, h, w, c) uint8 to the log odds of a fault in each cell, (n, 1, h / 8, w / 8).

    `standardise` takes each crop's own brightness and contrast out.

    Cells are 8 px wide; 4 px where the shorter side is below 128 px. In training `motions` come
    with them, (n, 3, h / 16, w / 16): how far a fault moved what is there, and how much it grew.
    """

    def __init__(
        self, height: int, width: int, channels: int, *, standardise: bool = False
    ) -> None:
        super().__init__()
        self.standardise = standardise
        self.step = 4 if min(height, width) >= 128 else 2
        self.channels = channels
        rows, columns = height // (4 * self.step), width // (4 * self.step)
        shape = (1, 1, height, width * channels)
        self.register_buffer("level", torch.zeros(()))
        self.register_buffer("picture", torch.zeros(shape))
        self.register_buffer("inverse", torch.ones(shape))
        half = (1, 1, height // 2, width // 2)
        self.register_buffer("half_picture", torch.zeros(half))
        self.register_buffer("half_inverse", torch.ones(half))
        self.register_buffer("edges", torch.zeros(1, 3, *half[2:]))
        square = (self.step, self.step * channels)
        self.deviating = nn.Conv2d(1, FIRST, square, square)
        self.halved = nn.AvgPool2d((2, 2 * channels))
        self.seen = nn.Conv2d(1, FIRST, 3, self.step // 2, 1, bias=False)
        self.pooled = nn.AvgPool2d(self.step // 2)
        self.shapes = nn.Conv2d(FIRST, FINE, 3, stride=2, padding=1)
        self.moved = nn.Conv2d(3, FINE, 3, stride=2, padding=1, bias=False)
        self.fine = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(FINE, COARSE, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.place = nn.Parameter(torch.zeros(1, COARSE, rows, columns))
        self.pose = Pose(rows, columns)
        self.last = nn.Sequential(nn.Conv2d(COARSE, COARSE, 3, padding=1), nn.ReLU())
        self.odds = nn.Conv2d(COARSE, 4, 1)
        self.motions = nn.Conv2d(COARSE, 3, 1)
        # Faults are rare: without this, the first steps only learn that.
        nn.init.constant_(self.odds.bias, -3.0)  # type: ignore[arg-type]

    def start(self, good: Tensor) -> None:
        """Learn the mean and the spread of pixels of good crops, uint8 (n, h, w, c)."""
        fine = _moments(self._rows(batch) for batch in torch.split(good, 64))
        half = _moments(self.halved(self._rows(batch)) for batch in torch.split(good, 64))
        for name, (mean, spread) in (("", fine), ("half_", half)):
            self.get_buffer(f"{name}picture").copy_(mean)
            self.get_buffer(f"{name}inverse").copy_(1 / (spread + NOISE))
        self.get_buffer("level").copy_(half[0].mean())
        self.get_buffer("edges").copy_(self._edges(half[0][0], half[1][0] + NOISE))

    def _edges(self, mean: Tensor, spread: Tensor) -> Tensor:
        """What a deviation of one spread at every second px says: px right, down and outwards."""
        down, across = torch.gradient(mean, spacing=2.0, dim=(0, 1))
        slopes = torch.stack([-across, -down, torch.hypot(across, down)])
        side = 2 * round(AROUND_PX * self.step / 16) + 1
        known = (slopes[2].square() / spread)[None, None]
        around = functional.avg_pool2d(known, side, stride=1, padding=side // 2)[0]
        return slopes / around.clamp(min=0.05 * float(around.max()) + 1e-6)

    def features(self, crops: Tensor) -> Tensor:
        """What is known of each place of 16 px, (n, 48, h / 16, w / 16)."""
        x = self._rows(crops)
        half = self.halved(x)
        seen = self.seen((half - self.get_buffer("level")) * (1 / GREY))
        marks = self.deviating(self._deviation(x, ""))
        moved = self.pooled(self._deviation(half, "half_") * self.get_buffer("edges"))
        fine = self.fine(self.shapes(functional.relu(seen + marks)) + self.moved(moved))
        told: Tensor = self.last(self.pose(fine + self.place))
        return told

    def _rows(self, crops: Tensor) -> Tensor:
        """Grey levels, colours side by side: no transpose; float32 (n, 1, h, w c)."""
        n, height, width, channels = crops.shape
        x = crops.reshape(n, 1, height, width * channels).to(torch.float32)
        if not self.standardise:
            return x
        return MIDDLE + CONTRAST * standardised(x, 1.0)

    def _deviation(self, x: Tensor, name: str) -> Tensor:
        """From the mean good crop, in spreads of each px."""
        away = (x - self.get_buffer(f"{name}picture")) * self.get_buffer(f"{name}inverse")
        return away.clamp(-FARTHEST, FARTHEST)

    def forward(self, crops: Tensor) -> Tensor:
        """Log odds of a fault in each cell."""
        return functional.pixel_shuffle(self.odds(self.features(crops)), 2)


class Pose(nn.Module):
    """Tells every place how the whole unit lies: a few numbers, even, downwards and across."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.numbers = nn.Sequential(
            nn.Conv2d(COARSE, POSE, 1),
            nn.Flatten(),
            nn.Linear(POSE * rows * columns, 4 * POSE),
            nn.ReLU(),
            nn.Linear(4 * POSE, POSE),
            nn.ReLU(),
            nn.Linear(POSE, 3 * COARSE),
        )
        down = torch.linspace(-1, 1, rows).reshape(1, 1, rows, 1)
        across = torch.linspace(-1, 1, columns).reshape(1, 1, 1, columns)
        self.register_buffer("down", down.expand(1, 1, rows, columns).clone())
        self.register_buffer("across", across.expand(1, 1, rows, columns).clone())

    def forward(self, hidden: Tensor) -> Tensor:
        """(n, 48, h, w) with what the numbers mean at each place added."""
        told = self.numbers(hidden).unsqueeze(2).unsqueeze(3)
        even, down, across = told.chunk(3, dim=1)
        tilted = down * self.get_buffer("down") + across * self.get_buffer("across")
        return hidden + even + tilted  # type: ignore[no-any-return]


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
        self.gain = USUAL / (peak - self.usual).clamp(min=1e-3)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Score, float32 (n,), and anomaly map, uint8 (n, h / 8, w / 8)."""
        odds = self.network(crops)
        return odds.amax(dim=(1, 2, 3)), eight_bit((odds - self.usual) * self.gain)


def _moments(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over batches, each (1, h, w)."""
    total, squares, count = torch.zeros(()), torch.zeros(()), 0
    for batch in batches:
        total, squares = total + batch.sum(dim=0), squares + batch.square().sum(dim=0)
        count += len(batch)
    mean = total / count
    return mean, (squares / count - mean.square()).clamp(min=0).sqrt()
