"""An engine's graph: preprocessing, network, score and map in one."""

from __future__ import annotations

from torch import Tensor, nn

from edge_inspector.models.autoencoder import Autoencoder
from edge_inspector.models.heads import PlainHead, ResidualHead


class EngineGraph(nn.Module):
    """uint8 crops to score and anomaly map: preprocessing, network, score and map in one."""

    def __init__(self, network: Autoencoder, head: PlainHead | ResidualHead) -> None:
        super().__init__()
        self.network = network
        self.head = head

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Score, float32 (n,), and anomaly map, uint8 (n, h', w'), of crops, uint8 (n, h, w, c)."""
        score, anomaly_map = self.head(self.network.look(self.network.prepare(crops)))
        return score, anomaly_map
