"""
From the last feature maps to classes, and back: what in the maps speaks for each class.

A head has `embed`, `logits`, `class_maps` and `last`, its last layer; maps come as a list, the
finest first.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class PooledHead(nn.Module):
    """Each map averaged over its places, side by side, to one linear layer."""

    def __init__(self, planes: tuple[int, ...], classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(sum(planes), classes)

    def embed(self, maps: list[Tensor]) -> Tensor:
        """(n, planes of all maps)."""
        return torch.cat([level.mean(dim=(2, 3)) for level in maps], dim=1)

    def logits(self, embedding: Tensor) -> Tensor:
        """(n, classes)."""
        logits: Tensor = self.last(self.dropout(embedding))
        return logits

    def class_maps(self, maps: list[Tensor], embedding: Tensor, weights: Tensor) -> Tensor:
        """
        Class activation (Zhou et al., 2016), (n, k, h', w') at the size of the finest map.

        Its mean over all places and the bias make the logit, where sizes are multiples.
        `weights` are rows of the last layer, (n or 1, k, d), for the classes that are asked for.
        """
        size, at = maps[0].shape[2:], 0
        found: list[Tensor] = []
        for level in maps:
            planes, height, width = level.shape[1:]
            spoken = weights[:, :, at : at + planes] @ level.flatten(2)
            spoken = spoken.reshape(-1, weights.shape[1], height, width)
            if found:
                spoken = functional.interpolate(spoken, size=size, mode="bilinear")
            found.append(spoken)
            at += planes
        return torch.stack(found).sum(dim=0)


class DenseHead(nn.Module):
    """
    One map (planes, h, w) laid flat, to dense layers with ReLU and a last one without.

    `usual` (planes, h, w) is the mean map of good crops, zero until it is set: what every crop has
    there, the frame around a wafer for one, is no part of a class map.
    """

    usual: Tensor

    def __init__(self, shape: tuple[int, int, int], widths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        planes, height, width = shape
        sizes = (planes * height * width, *widths)
        self.shape = shape
        self.hidden = nn.ModuleList(nn.Linear(size, grown) for size, grown in pairwise(sizes))
        self.last = nn.Linear(sizes[-1], classes)
        self.register_buffer("usual", torch.zeros(shape), persistent=False)

    def embed(self, maps: list[Tensor]) -> Tensor:
        """(n, neurons of the last hidden layer)."""
        return self._activations(maps)[-1]

    def logits(self, embedding: Tensor) -> Tensor:
        """(n, classes)."""
        logits: Tensor = self.last(embedding)
        return logits

    def class_maps(self, maps: list[Tensor], embedding: Tensor, weights: Tensor) -> Tensor:
        """
        Gradient of a logit times what is unusual in the map, summed over planes, (n, k, h', w').

        ReLU is linear where it is open, so that the gradient is a product of open weights.
        `weights` are rows of the last layer, (n or 1, k, d), for the classes that are asked for.
        """
        back = weights
        open_layers = zip(self.hidden, self._activations(maps), strict=True)
        for layer, activation in reversed(list(open_layers)):
            back = (back * (activation > 0).to(back.dtype)[:, None]) @ cast(nn.Linear, layer).weight
        planes, height, width = self.shape
        back = back.reshape(-1, weights.shape[1], planes, height, width)
        return (back * (maps[0] - self.usual)[:, None]).sum(dim=2)

    def _activations(self, maps: list[Tensor]) -> list[Tensor]:
        x = maps[0].flatten(1)
        found = []
        for layer in self.hidden:
            x = functional.relu(layer(x))
            found.append(x)
        return found
