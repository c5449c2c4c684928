"""The scores that need no statistics: what they count, and where."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from edge_inspector.models.autoencoder import Look
from edge_inspector.models.heads import Measure, cells


def cosine(look: Look, cell: int) -> tuple[Tensor, Tensor]:
    """1 - cosine similarity of pixels and reconstruction: the score of the BGA paper."""
    # |a/|a| - b/|b||² / 2 is 1 - cosine without the difference of two numbers near 1.
    distance = (_unit(look.x) - _unit(look.decoded)).square()
    return 0.5 * distance.sum(dim=(1, 2, 3)), cells(distance, cell)


def reconstruction(look: Look, cell: int) -> tuple[Tensor, Tensor]:
    """Mean squared error of a pixel: the solder paper's first score."""
    squared = (look.x - look.decoded).square()
    return squared.mean(dim=(1, 2, 3)), cells(squared, cell)


def elbo(look: Look, cell: int) -> tuple[Tensor, Tensor]:
    """Squared error + beta KL, per pixel; on the map the KL lies where its latent does."""
    score, evidence = reconstruction(look, cell)
    assert look.divergence is not None
    total = look.divergence.sum(dim=(1, 2, 3))
    pixels = look.x.shape[1] * look.x.shape[2] * look.x.shape[3]
    places = look.divergence.shape[2] * look.divergence.shape[3]
    spread = functional.interpolate(look.divergence, size=evidence.shape[2:], mode="nearest")
    return score + total / pixels, evidence + spread * (places / pixels)


def gradcon(look: Look, cell: int, gamma: float) -> tuple[Tensor, Tensor]:
    """Mean squared error + gamma x gradient term; the term is of the whole crop, not on the map."""
    score, evidence = reconstruction(look, cell)
    assert look.constraint is not None
    return score + gamma * look.constraint, evidence


MEASURES: dict[str, Measure] = {"cosine": cosine, "reconstruction": reconstruction, "elbo": elbo}


def _unit(x: Tensor) -> Tensor:
    return x * torch.rsqrt((x * x).sum(dim=(1, 2, 3), keepdim=True) + 1e-12)
