"""Crops as a line might have shown them too: a mild change of place and light, made per batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

SHIFT, SCALE, ANGLE = 0.04, 0.05, math.radians(5)
"""Largest shift in shares of the side, change of scale, and turn."""
GAIN, OFFSET = 0.10, 8.0
"""Largest change of contrast, and of brightness in grey levels."""


def varied(crops: Tensor, generator: torch.Generator) -> Tensor:
    """
    Half of the crops, uint8 (n, h, w, c), moved, turned, scaled and lit otherwise; edges repeat.

    The others stay as they are: resampling softens, and the line's crops are sharp.
    """
    n = len(crops)
    draw = torch.rand(n, 7, generator=generator).to(crops.device) * 2 - 1
    scale, angle = 1 + SCALE * draw[:, 0], ANGLE * draw[:, 1]
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    shift = 2 * SHIFT * draw[:, 2:4]
    across = torch.stack([cosine, -sine, shift[:, 0]], dim=1)
    down = torch.stack([sine, cosine, shift[:, 1]], dim=1)
    x = crops.permute(0, 3, 1, 2).to(torch.float32)
    grid = functional.affine_grid(torch.stack([across, down], dim=1), list(x.shape), False)
    x = functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
    gain, offset, chosen = (draw[:, i].view(n, 1, 1, 1) for i in (4, 5, 6))
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = mean + (x - mean) * (1 + GAIN * gain) + OFFSET * offset
    x = (x + 0.5).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    return torch.where(chosen > 0, x, crops)


def flipped(crops: Tensor, generator: torch.Generator) -> Tensor:
    """A half mirrored each way; where defects are told by their side, it must not be done."""
    for axis in (1, 2):
        mirrored = torch.rand(len(crops), 1, 1, 1, generator=generator).to(crops.device) < 0.5
        crops = torch.where(mirrored, crops.flip(axis), crops)
    return crops
