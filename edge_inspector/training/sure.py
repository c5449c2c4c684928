"""Teaches `sure` what good crops show: features once, then everything is solved, nothing descends."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from edge_inspector import clock
from edge_inspector.errors import Misuse
from edge_inspector.models.features import FeatureGraph, Features, covariances
from edge_inspector.models.sure import Sure
from edge_inspector.models.weights import load_weights
from edge_inspector.training.data import GoodCrops
from edge_inspector.training.plan import Plan, Tick, Trained

BLOCKS = (10, 13)
"""Blocks whose outputs are levels: the last of stride 16, and one of stride 32."""
PLANES = (48, 64)
"""Mixtures of planes that are kept of each: weaker ones cost time and tell no more."""
MOST = 800
"""Good crops that are learned from at most: 0.16 MB of features each at 256 px."""
MOST_HELD_OUT = 128
LATENT, CROPS_PER_NUMBER = 200, 3
"""Numbers of the latent at most, and crops that each asks for."""
SHRINKS = (0.1, 0.3, 0.6, 1.0)
"""How far the covariance of a place is drawn to that of all places: held-out good crops choose."""
RIDGE = 0.01
SIDE = 32
"""Sides must be a multiple of this many px."""
Fit = Callable[[list[Tensor], list[Tensor]], tuple[nn.Module, float]]
"""Features of crops to learn from and held out, to a judge and its held-out loss."""


def train(plan: Plan, crops: GoodCrops, tick: Tick = lambda step, loss, best: None) -> Trained:
    """A linear VAE over the features, and the covariance of what it leaves, at each place."""
    return learn(plan, crops, tick, fit, BLOCKS, "residual")


def learn(
    plan: Plan, crops: GoodCrops, tick: Tick, fit: Fit, blocks: tuple[int, ...], score: str
) -> Trained:
    """What every judge of features needs: the features, once, and the scale of its map."""
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    shape = crops.shape
    if shape.height % SIDE or shape.width % SIDE:
        raise Misuse(
            f"--size {shape.height}: {plan.model} needs a multiple of {SIDE} px, as its backbone "
            "halves the crop five times"
        )
    if plan.score not in (None, score):
        raise Misuse(f"--score {plan.score}: {plan.model} has the score '{score}' alone")
    plan.refuse("steps", "epochs", "beta", "alpha", "gamma")
    begun = clock.now_ns()
    features = Features(blocks, standardise=plan.standardise)
    load_weights(features.backbone, plan.weights)
    features.eval()
    chosen = crops.train[:: math.ceil(len(crops.train) / MOST)]
    with torch.no_grad():
        levels = extract(features, chosen, tick)
        held_out = extract(features, crops.held_out[:MOST_HELD_OUT])
        judge, loss = fit(levels, held_out)
        graph = FeatureGraph(features, judge).eval()
        graph.scale(held_out)
    seconds = (clock.now_ns() - begun) / 1e9
    return Trained(graph, score, len(chosen), seconds, "it is solved, not descended to", (loss,))


def extract(
    features: Features, crops: Tensor, tick: Tick = lambda step, loss, best: None
) -> list[Tensor]:
    """Features of all crops, one crop at a time: depthwise layers are fastest within the cache."""
    fast = features.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = []
    for step, crop in enumerate(crops, start=1):
        found.append(fast(crop[None]))
        tick(step, math.nan, math.nan)
    features.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return [torch.cat(level).contiguous() for level in zip(*found, strict=True)]


def fit(levels: list[Tensor], held_out: list[Tensor]) -> tuple[Sure, float]:
    """The judge, and the mean held-out evidence."""
    judge = Sure(len(levels))
    for level, features, planes in zip(judge.levels, levels, PLANES, strict=True):
        level.fit_scale(features, planes)
    rests = _unseen_rests(judge, levels)
    _fit_basis(judge, levels)
    for level, rest, unseen in zip(judge.levels, rests, judge.rests(held_out), strict=True):
        mean = rest.mean(dim=0)
        options = [covariances(rest - mean, shrink, RIDGE) for shrink in SHRINKS]
        losses = [surprise(covariance, unseen - mean) for covariance in options]
        level.places.fit(mean, options[losses.index(min(losses))])
    return judge, judge(held_out).mean().item()


def _unseen_rests(judge: Sure, levels: list[Tensor]) -> list[Tensor]:
    """Rests of each half of the crops under the latent of the other, as a new crop would have."""
    found = []
    for first, second in ((0, 1), (1, 0)):
        _fit_basis(judge, [features[first::2] for features in levels])
        found.append(judge.rests([features[second::2] for features in levels]))
    return [torch.cat(pair) for pair in zip(*found, strict=True)]


def _fit_basis(judge: Sure, levels: list[Tensor]) -> None:
    """Probabilistic PCA of whole crops (Tipping and Bishop, 1999), through crops' inner products."""
    flat = [level.normalise(f).flatten(1) for level, f in zip(judge.levels, levels, strict=True)]
    count = len(flat[0])
    products = torch.stack([x @ x.T for x in flat]).sum(dim=0)
    powers, vectors = torch.linalg.eigh(products)
    size = max(min(LATENT, count // CROPS_PER_NUMBER), 1)
    kept, across = powers[-size:].clamp(min=1e-6), vectors[:, -size:]
    noise = powers[:-size].clamp(min=0).sum() / max(count - size, 1)
    for level, x in zip(judge.levels, flat, strict=True):
        level.fit_basis((across / kept.sqrt()).T @ x, (1 - noise / kept).clamp(min=0))


def surprise(covariance: Tensor, deviations: Tensor) -> float:
    """Mean negative log likelihood of deviations (n, planes, h, w), without its constant."""
    lower = torch.linalg.cholesky(covariance)
    at = deviations.flatten(2).permute(2, 1, 0)
    white = torch.linalg.solve_triangular(lower, at, upper=False)
    logs = lower.diagonal(dim1=1, dim2=2).log().sum(dim=1).mean()
    return float(0.5 * white.square().sum(dim=1).mean() + logs)
