"""Teaches PaDiM and PatchCore, the peers of `sure`, from the same features."""

from __future__ import annotations

import torch
from torch import Tensor

from edge_inspector.models.features import covariances, joined
from edge_inspector.models.peers import Padim, PatchCore
from edge_inspector.training.data import GoodCrops
from edge_inspector.training.plan import Plan, Tick, Trained
from edge_inspector.training.sure import learn

PADIM_BLOCKS, PATCHCORE_BLOCKS = (4, 10), (10, 13)
"""Blocks whose outputs are joined, of strides 8 and 16, and 16 and 32: each peer at its best."""
PLANES = 100
"""Planes that PaDiM keeps, as in its paper."""
RIDGE = 0.01
"""PaDiM's regularisation of the covariance, as a share of its mean diagonal."""
ROWS = 2000
"""Rows of PatchCore's bank."""
POOL, SKETCH = 60_000, 64
"""Features that the bank is chosen from, and random directions in which the choice is made."""


def train_padim(
    plan: Plan, crops: GoodCrops, tick: Tick = lambda step, loss, best: None
) -> Trained:
    """A Gaussian at each place over a random choice of planes."""

    def fit(levels: list[Tensor], held_out: list[Tensor]) -> tuple[Padim, float]:
        planes = sum(level.shape[1] for level in levels)
        generator = torch.Generator().manual_seed(plan.seed)
        judge = Padim(torch.randperm(planes, generator=generator)[:PLANES].sort().values)
        features = judge.reduced(levels)
        mean = features.mean(dim=0)
        judge.places.fit(mean, covariances(features - mean, 0.0, RIDGE))
        return judge, judge(held_out).mean().item()

    return learn(plan, crops, tick, fit, PADIM_BLOCKS, "mahalanobis")


def train_patchcore(
    plan: Plan, crops: GoodCrops, tick: Tick = lambda step, loss, best: None
) -> Trained:
    """A bank of features that covers those of the good crops."""

    def fit(levels: list[Tensor], held_out: list[Tensor]) -> tuple[PatchCore, float]:
        generator = torch.Generator().manual_seed(plan.seed)
        rows = _some_rows(levels, generator)
        bank = rows[coreset(rows, ROWS, generator)]
        judge = PatchCore(rows.mean(dim=0), bank)
        return judge, judge(held_out).mean().item()

    return learn(plan, crops, tick, fit, PATCHCORE_BLOCKS, "nearest")


def _some_rows(levels: list[Tensor], generator: torch.Generator) -> Tensor:
    """Joined features of as many places of each crop as the pool has room for."""
    size = levels[0].shape[2] * levels[0].shape[3]
    share = max(min(POOL // len(levels[0]), size), 1)
    found = []
    for index in range(len(levels[0])):
        crop = joined([level[index : index + 1] for level in levels])
        found.append(crop[0].flatten(1).T[torch.randperm(size, generator=generator)[:share]])
    return torch.cat(found)


def coreset(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Greedy k-centre choice: each time the row that is furthest from all chosen ones."""
    if len(rows) <= count:
        return torch.arange(len(rows))
    sketch = rows @ torch.randn(rows.shape[1], SKETCH, generator=generator) / SKETCH**0.5
    squares = sketch.square().sum(dim=1)
    chosen = [int(torch.randint(len(rows), (1,), generator=generator))]
    nearest = torch.full((len(rows),), float("inf"))
    while len(chosen) < count:
        last = chosen[-1]
        away = squares - 2 * (sketch @ sketch[last]) + squares[last]
        nearest = torch.minimum(nearest, away)
        chosen.append(int(nearest.argmax()))
    return torch.tensor(chosen)
