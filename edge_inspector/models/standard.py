"""Sums that several networks have in common."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def standardised(x: Tensor, floor: float) -> Tensor:
    """Each crop of (n, ...) less its mean, over its deviation; `floor` is added to the variance."""
    axes = tuple(range(1, x.dim()))
    centred = x - x.mean(dim=axes, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(dim=axes, keepdim=True) + floor)


def mean_over(batches: Iterable[Tensor]) -> Tensor:
    """Mean over the crops of several batches (n, ...)."""
    total, count = torch.zeros(()), 0
    for batch in batches:
        total, count = total + batch.sum(dim=0), count + len(batch)
    return total / count
