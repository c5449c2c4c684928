"""A classifier engine's graph: preprocessing, network, class map and novelty in one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_inspector.models.classifier import ClassifierNet
from edge_inspector.models.novelty import Novelty

FAINT = 1e-3
"""Peak of a class map below which it is not stretched: rounding would become a picture."""


class ClassifierGraph(nn.Module):
    """
    uint8 crops to score, map, probabilities and novelty, see `forward`.

    `good` is the place of the class without a defect, None where every class is one.
    """

    defects: Tensor

    def __init__(self, network: ClassifierNet, novelty: Novelty, good: int | None) -> None:
        super().__init__()
        self.network = network
        self.novelty = novelty
        self.good = good
        kinds = torch.ones(network.classes)
        if good is not None:
            kinds[good] = 0
        self.register_buffer("defects", kinds)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """
        Score (n,), map uint8 (n, h', w'), probabilities (n, k), novelty (n,); float32 but the map.

        The score is the probability of all defects together, or grows with novelty to 1 where
        every class is one; the map shows the most probable defect class, 255 at its peak.
        """
        maps = self.network.feature_maps(self.network.prepare(crops))
        embedding = self.network.embed(maps)
        logits = self.network.logits(embedding)
        probabilities = torch.softmax(logits, dim=1)
        novelty = self.novelty(embedding, logits)
        # 1 - P(good) would have 24 bits below 1; the sum keeps 24 bits of the smallest score.
        shown = probabilities * self.defects
        score = shown.sum(dim=1).clamp(max=1) if self.good is not None else novelty / (1 + novelty)
        # Chosen by logits: probabilities of two defects may both be rounded to 0.
        told = torch.where(self.defects > 0, logits, -torch.inf)
        chosen = told.argmax(dim=1)
        place = self.network.class_maps(maps, embedding, chosen).squeeze(1).clamp(min=0)
        peak = place.amax(dim=(1, 2), keepdim=True).clamp(min=FAINT)
        return score, (255 * place / peak + 0.5).to(torch.uint8), probabilities, novelty
