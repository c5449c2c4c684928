"""
Teaches an autoencoder what good crops look like. Good images only; nothing to tune.

The rate falls when the loss of held-out good crops no longer does; after the last fall training is
over. What was best on the held-out crops is kept.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from edge_inspector import clock, importer
from edge_inspector.errors import DataError, Misuse
from edge_inspector.manifest import Input
from edge_inspector.models import ANOMALY_MODELS
from edge_inspector.models.autoencoder import Autoencoder, Schedule
from edge_inspector.models.gradcon import Constraint
from edge_inspector.models.graph import EngineGraph
from edge_inspector.models.heads import PlainHead, ResidualHead
from edge_inspector.models.measures import MEASURES, gradcon
from edge_inspector.training.data import GoodCrops, moved
from edge_inspector.training.plan import Plan, Tick, Trained

LEAST_GAIN = 1e-3
"""Share of the held-out loss by which it must fall to count as better."""
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
    network = _network(plan, crops.shape)
    score = plan.score or network.default_score
    head = _head(score, network, plan)
    begun = clock.now_ns()
    steps, ended, losses = _descend(network, plan, crops, begun, tick)
    network.eval()
    with torch.no_grad():
        sample = crops.train[:: max(math.ceil(len(crops.train) / LARGEST_SAMPLE), 1)]
        head.fit(network.look(x) for x in prepared(network, sample))
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


def _network(plan: Plan, shape: Input) -> Autoencoder:
    """The network with what the plan says of its loss."""
    network: Autoencoder = importer.choose(ANOMALY_MODELS, plan.model, "model")(
        shape.height, shape.width, shape.channels, standardise=plan.standardise
    )
    score = plan.score or network.default_score
    if score not in network.scores:
        raise Misuse(
            f"the model '{plan.model}' gives no score '{score}'; it gives "
            f"{', '.join(network.scores)}"
        )
    if plan.beta is not None:
        if "elbo" not in network.scores:
            raise Misuse(f"--beta {plan.beta:g}; the model '{plan.model}' weighs no divergence")
        network.beta = plan.beta
    if score == "gradcon":
        network.constraint = Constraint(network.kernels(), plan.alpha)
    return network


def _head(score: str, network: Autoencoder, plan: Plan) -> PlainHead | ResidualHead:
    if score == "residual":
        return ResidualHead(network.cell)
    if score == "gradcon":
        return PlainHead(network.cell, partial(gradcon, gamma=plan.gamma))
    return PlainHead(network.cell, MEASURES[score])


def _descend(
    network: Autoencoder, plan: Plan, crops: GoodCrops, begun: int, tick: Tick
) -> tuple[int, str, list[float]]:
    """Steps taken, why they ended, and the held-out losses; the best state is left in `network`."""
    schedule = network.schedule
    generator = torch.Generator().manual_seed(plan.seed)
    network.start(_mean(network, crops.train))
    optimiser = torch.optim.Adam(network.parameters(), weight_decay=schedule.weight_decay)
    epoch = math.ceil(len(crops.train) / schedule.batch)
    plateau = Plateau(schedule)
    step, ended = 0, ""
    for step, batch in enumerate(_batches(crops.train, schedule, generator), start=1):
        rate = schedule.rates[min(plateau.falls, len(schedule.rates) - 1)]
        optimiser.param_groups[0]["lr"] = rate * min(1.0, step / schedule.first_steps)
        warmth = min(1.0, step / schedule.warm_steps)
        loss = _step(network, optimiser, batch, generator, warmth)
        if not math.isfinite(loss):
            ended = f"{BROKEN} {loss} at step {step}, the best state before is kept"
            break
        tick(step, loss, plateau.best)
        bound = _bound(plan, schedule, step, epoch, clock.now_ns() - begun)
        if step % (schedule.round_steps or epoch) and not bound:
            continue
        done = plateau.look(network, crops.held_out, warm=step >= schedule.warm_steps)
        ended = "the held-out loss no longer fell" if done else bound
        if ended:
            break
    if plateau.state is None:
        raise DataError(f"{ended}, before anything was learned; look at the images, or --seed")
    network.load_state_dict(plateau.state)
    return step, ended, plateau.losses


def _bound(plan: Plan, schedule: Schedule, step: int, epoch: int, taken_ns: int) -> str:
    """The bound that was reached, in words."""
    if taken_ns > plan.minutes * 60e9:
        return f"the {plan.minutes:g} minutes were over"
    epochs = plan.epochs or schedule.epochs
    if epochs is not None and step >= epochs * epoch:
        return f"the {epochs} epochs were over"
    return f"the {plan.steps} steps were taken" if step >= plan.steps else ""


class Plateau:
    """Watches the held-out loss: keeps the best state, counts how often the loss ceased to fall."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.best = math.inf
        self.falls = 0
        self.losses: list[float] = []
        self.state: dict[str, Tensor] | None = None
        self._stale = 0

    def look(self, network: Autoencoder, held_out: Tensor, *, warm: bool) -> bool:
        """True when the last rate has come to its plateau."""
        network.eval()
        with torch.no_grad():
            held_out = held_out[:LOOKED_AT]
            batches = [network.elbo(x, None).item() for x in prepared(network, held_out)]
        network.train()
        loss = sum(batches) / len(batches)
        self.losses.append(loss)
        better = self.state is None or loss < self.best - LEAST_GAIN * abs(self.best)
        if better and math.isfinite(loss):
            self.best, self._stale = loss, 0
            self.state = copy.deepcopy(network.state_dict())
            return False
        self._stale += 1 if warm else 0
        if self._stale < self.schedule.patience:
            return False
        self.falls, self._stale = self.falls + 1, 0
        if self.state is not None:
            network.load_state_dict(self.state)
        return self.falls >= len(self.schedule.rates)


def _step(
    network: Autoencoder,
    optimiser: torch.optim.Optimizer,
    batch: Tensor,
    generator: torch.Generator,
    warmth: float,
) -> float:
    x = network.prepare(batch)
    loss = network.elbo(x, generator, warmth)
    constraint = network.constraint
    if constraint is not None:
        loss = loss + constraint.alpha * constraint.of_batch(loss, network.kernels())
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    if constraint is not None:
        constraint.learn(network.kernels())
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


def _batches(crops: Tensor, schedule: Schedule, generator: torch.Generator) -> Iterator[Tensor]:
    """Shuffled batches, without end."""
    while True:
        for chosen in torch.split(torch.randperm(len(crops), generator=generator), schedule.batch):
            batch = crops[chosen]
            if schedule.flip:
                batch = _flipped(batch, generator)
            yield moved(batch, generator) if len(crops) < SMALL_SET else batch


def _flipped(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the crops mirrored left to right."""
    mirrored = torch.rand(len(batch), 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirrored, batch.flip(2), batch)
