"""When a training has learned what it can: the loss of held-out good crops no longer falls."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from edge_inspector.models.autoencoder import Autoencoder, Schedule

LEAST_GAIN = 1e-3
"""Share of the held-out loss by which it must fall to count as better."""
LOOKED_AT = 96
"""Held-out crops that each look takes, so that looking costs a tenth of learning."""


class Plateau:
    """Watches the held-out loss: keeps the best state, counts how often the loss ceased to fall."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.best = math.inf
        self.falls = 0
        self.losses: list[float] = []
        self.state: dict[str, Tensor] | None = None
        self._stale = 0

    def look(self, network: Autoencoder, held_out: Tensor, *, warm: bool) -> bool:
        """True when the last rate has come to its plateau."""
        network.eval()
        with torch.no_grad():
            held_out = held_out[:LOOKED_AT]
            batches = [network.elbo(x, None).item() for x in prepared(network, held_out)]
        network.train()
        loss = sum(batches) / len(batches)
        self.losses.append(loss)
        better = self.state is None or loss < self.best - LEAST_GAIN * abs(self.best)
        if better and math.isfinite(loss):
            self.best, self._stale = loss, 0
            self.state = copy.deepcopy(network.state_dict())
            return False
        self._stale += 1 if warm else 0
        if self._stale < self.schedule.patience:
            return False
        self.falls, self._stale = self.falls + 1, 0
        if self.state is not None:
            network.load_state_dict(self.state)
        return self.falls >= len(self.schedule.rates)


def prepared(network: Autoencoder, crops: Tensor) -> Iterator[Tensor]:
    """Crops as the network sees them, in batches small enough for any memory."""
    for batch in torch.split(crops, 32):
        yield network.prepare(batch)
