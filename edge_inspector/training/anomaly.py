"""
Teaches an autoencoder what good crops look like. Good images only; nothing to tune.

The rate falls when the loss of held-out good crops no longer does; after the last fall training is
over. What was best on the held-out crops is kept.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from edge_inspector import clock, importer
from edge_inspector.errors import DataError, Misuse
from edge_inspector.models import ANOMALY_MODELS
from edge_inspector.models.autoencoder import Autoencoder
from edge_inspector.models.graph import EngineGraph
from edge_inspector.models.heads import HEADS, CosineHead, ResidualHead
from edge_inspector.training.data import GoodCrops, moved
from edge_inspector.training.plan import Plan, Tick, Trained

BATCH = 8
RATES = (3e-3, 1e-3, 3e-4)
"""Adam's learning rate, lowered on a plateau."""
ROUND = 100
"""Steps between two looks at the held-out loss."""
LEAST_GAIN = 1e-3
"""Share of the held-out loss by which it must fall to count as better."""
PATIENCE = 4
"""Rounds without a better held-out loss that make a plateau."""
FIRST_STEPS = 50
"""Steps over which the rate rises: Adam's first steps are too long for a latent that is not heard."""
WARM_STEPS = 1000
"""Steps over which the divergence gains its full weight: before, the latent must learn to carry."""
LOOKED_AT = 96
"""Held-out crops that each look takes, so that looking costs a tenth of learning."""
BROKEN = "the loss was"
SMALL_SET = 500
"""Crops below which the set is widened by small motions."""
LARGEST_SAMPLE = 512
"""Good crops that the head learns from."""


def train(plan: Plan, crops: GoodCrops, tick: Tick = lambda step, loss, best: None) -> Trained:
    """Train until the plateau or the time's end; raises `DataError` when it never gets going."""
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    shape = crops.shape
    network: Autoencoder = importer.choose(ANOMALY_MODELS, plan.model, "model")(
        shape.height, shape.width, shape.channels, standardise=plan.standardise
    )
    score = plan.score or network.default_score
    head = _head(score, network.cell)
    begun = clock.now_ns()
    steps, ended, losses = _descend(network, plan, crops, begun, tick)
    with torch.no_grad():
        sample = crops.train[:: max(math.ceil(len(crops.train) / LARGEST_SAMPLE), 1)]
        head.fit((x, network.reconstruct(x)) for x in prepared(network, sample))
    seconds = (clock.now_ns() - begun) / 1e9
    return Trained(
        EngineGraph(network, head).eval(),
        score,
        steps,
        seconds,
        ended,
        tuple(losses),
        not ended.startswith(BROKEN),
    )


def _head(score: str, cell: int) -> CosineHead | ResidualHead:
    if score not in HEADS:
        raise Misuse(f"unknown score '{score}'; known: {', '.join(sorted(HEADS))}")
    return HEADS[score](cell)


def _descend(
    network: Autoencoder, plan: Plan, crops: GoodCrops, begun: int, tick: Tick
) -> tuple[int, str, list[float]]:
    """Steps taken, why they ended, and the held-out losses; the best state is left in `network`."""
    generator = torch.Generator().manual_seed(plan.seed)
    network.start(_mean(network, crops.train))
    optimiser = torch.optim.Adam(network.parameters())
    plateau = Plateau()
    step, ended = 0, ""
    for step, batch in enumerate(_batches(crops.train, generator), start=1):
        rate = RATES[min(plateau.falls, len(RATES) - 1)]
        optimiser.param_groups[0]["lr"] = rate * min(1.0, step / FIRST_STEPS)
        loss = _step(network, optimiser, batch, generator, min(1.0, step / WARM_STEPS))
        if not math.isfinite(loss):
            ended = f"{BROKEN} {loss} at step {step}, the best state before is kept"
            break
        tick(step, loss, plateau.best)
        bound = _bound(plan, step, clock.now_ns() - begun)
        if step % ROUND and not bound:
            continue
        done = plateau.look(network, crops.held_out, warm=step >= WARM_STEPS)
        ended = "the held-out loss no longer fell" if done else bound
        if ended:
            break
    if plateau.state is None:
        raise DataError(f"{ended}, before anything was learned; look at the images, or --seed")
    network.load_state_dict(plateau.state)
    return step, ended, plateau.losses


def _bound(plan: Plan, step: int, taken_ns: int) -> str:
    """The bound that was reached, in words."""
    if taken_ns > plan.minutes * 60e9:
        return f"the {plan.minutes:g} minutes were over"
    return f"the {plan.steps} steps were taken" if step >= plan.steps else ""


class Plateau:
    """Watches the held-out loss: keeps the best state, counts how often the loss ceased to fall."""

    def __init__(self) -> None:
        self.best = math.inf
        self.falls = 0
        self.losses: list[float] = []
        self.state: dict[str, Tensor] | None = None
        self._stale = 0

    def look(self, network: Autoencoder, held_out: Tensor, *, warm: bool) -> bool:
        """True when the last rate has come to its plateau."""
        with torch.no_grad():
            held_out = held_out[:LOOKED_AT]
            batches = [network.elbo(x, None).item() for x in prepared(network, held_out)]
        loss = sum(batches) / len(batches)
        self.losses.append(loss)
        better = self.state is None or loss < self.best - LEAST_GAIN * abs(self.best)
        if better and math.isfinite(loss):
            self.best, self._stale = loss, 0
            self.state = copy.deepcopy(network.state_dict())
            return False
        self._stale += 1 if warm else 0
        if self._stale < PATIENCE:
            return False
        self.falls, self._stale = self.falls + 1, 0
        if self.state is not None:
            network.load_state_dict(self.state)
        return self.falls >= len(RATES)


def _step(
    network: Autoencoder,
    optimiser: torch.optim.Optimizer,
    batch: Tensor,
    generator: torch.Generator,
    warmth: float,
) -> float:
    x = network.prepare(batch)
    loss = network.elbo(x, generator, warmth)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    if loss.isfinite():
        optimiser.step()
    return loss.item()


def prepared(network: Autoencoder, crops: Tensor) -> Iterator[Tensor]:
    """Crops as the network sees them, in batches small enough for any memory."""
    for batch in torch.split(crops, 32):
        yield network.prepare(batch)


def _mean(network: Autoencoder, crops: Tensor) -> Tensor:
    with torch.no_grad():
        sums = [batch.sum(dim=0) for batch in prepared(network, crops)]
        return torch.stack(sums).sum(dim=0) / len(crops)


def _batches(crops: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Shuffled batches, without end."""
    while True:
        for chosen in torch.split(torch.randperm(len(crops), generator=generator), BATCH):
            batch = crops[chosen]
            yield moved(batch, generator) if len(crops) < SMALL_SET else batch
