"""Which of the good crops are not: a head must not learn from them what is usual."""

from __future__ import annotations

import torch
from torch import Tensor

from edge_inspector.models.autoencoder import Look
from edge_inspector.models.heads import cells, smooth
from edge_inspector.models.standard import mean_over
from edge_inspector.studies.calibrate import MAD_TO_SIGMA

MOST = 0.05
"""Share of the crops that may be left out: up to 3 % may show defective units."""
FAR = 1.5
"""Times the score at that share that a crop's must be, so that clean sets keep all of theirs."""


def usual_ones(looks: list[Look], cell: int) -> list[Look]:
    """
    The looks without the crops that stand out somewhere.

    A crop's score is its worst cell in robust spreads: median and median absolute deviation over
    all crops do not see a defect that 3 % of them have, even where all have it at one place.
    """
    picture = mean_over(look.x for look in looks)
    parts = [[look.x - look.decoded for look in looks], [look.x - picture for look in looks]]
    score = torch.stack([_worst(residuals, cell) for residuals in parts]).amax(dim=0)
    ranked = score.sort().values
    limit = FAR * ranked[-1 - int(MOST * len(ranked))]
    masks = torch.split(~(score > limit), [len(look.x) for look in looks])
    return [_only(look, mask) for look, mask in zip(looks, masks, strict=True) if mask.any()]


def _worst(residuals: list[Tensor], cell: int) -> Tensor:
    """Of each crop, (n,)."""
    levels = torch.cat([smooth(cells(r * r, cell)).sqrt() for r in residuals])
    away = levels - levels.median(dim=0).values
    spread = MAD_TO_SIGMA * away.abs().median(dim=0).values
    return (away / (spread + 0.25 * spread.mean() + 1e-6)).amax(dim=(1, 2, 3))


def _only(look: Look, those: Tensor) -> Look:
    parts = {name: part[those] for name, part in look._asdict().items() if part is not None}
    return look._replace(**parts)
