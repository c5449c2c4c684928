"""
Teaches an autoencoder what good crops look like. Good images only; nothing to tune.

The rate falls when the loss of held-out good crops no longer does; after the last fall training is
over. What was best on the held-out crops is kept.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from edge_inspector import importer
from edge_inspector.errors import DataError, Misuse
from edge_inspector.manifest import Input
from edge_inspector.models import ANOMALY_MODELS
from edge_inspector.models.autoencoder import Autoencoder, Schedule
from edge_inspector.models.gradcon import Constraint
from edge_inspector.models.graph import EngineGraph
from edge_inspector.models.heads import PlainHead, ResidualHead
from edge_inspector.models.measures import MEASURES, gradcon
from edge_inspector.models.standard import mean_over
from edge_inspector.training.bounds import Bounds
from edge_inspector.training.checkpoint import Keeper, State
from edge_inspector.training.data import SMALL_SET, GoodCrops, moved
from edge_inspector.training.plan import ALPHA, GAMMA, Plan, Tick, Trained
from edge_inspector.training.plateau import Plateau, prepared
from edge_inspector.training.robust import usual_ones

BROKEN = "the loss was"
SETTLED = "the held-out loss no longer fell"
LARGEST_SAMPLE = 512
"""Good crops that the head learns from."""


def train(plan: Plan, crops: GoodCrops, tick: Tick = lambda step, loss, best: None) -> Trained:
    """Train until the plateau or the time's end; raises `DataError` when it never gets going."""
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    network = _network(plan, crops.shape)
    score = plan.score or network.default_score
    head = _head(score, network, plan)
    course = _descend(network, plan, crops, tick)
    network.eval()
    with torch.no_grad():
        sample = crops.train[:: max(math.ceil(len(crops.train) / LARGEST_SAMPLE), 1)]
        looks = [network.look(x) for x in prepared(network, sample)]
        head.fit(usual_ones(looks, network.cell))
    return Trained(
        EngineGraph(network, head).eval(),
        score,
        course.steps,
        course.bounds.taken_ns / 1e9,
        course.ended,
        tuple(course.plateau.losses),
        not course.ended.startswith(BROKEN),
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
    plan.refuse("weights")
    if plan.beta is not None:
        if "elbo" not in network.scores:
            raise Misuse(f"--beta {plan.beta:g}; the model '{plan.model}' weighs no divergence")
        network.beta = plan.beta
    if score == "gradcon":
        network.constraint = Constraint(network.kernels(), plan.alpha or ALPHA)
    else:
        plan.refuse("alpha", "gamma")
    return network


def _head(score: str, network: Autoencoder, plan: Plan) -> PlainHead | ResidualHead:
    if score == "residual":
        return ResidualHead(network.cell)
    if score == "gradcon":
        return PlainHead(network.cell, partial(gradcon, gamma=plan.gamma or GAMMA))
    return PlainHead(network.cell, MEASURES[score])


def _descend(network: Autoencoder, plan: Plan, crops: GoodCrops, tick: Tick) -> Course:
    """Training from its start or its checkpoint to its end; the best state is left in `network`."""
    course = Course(network, plan, crops)
    with Keeper(plan.part, plan.identity(crops.digest), resume=plan.resume) as keeper:
        keeper.follow(course, lambda loss: tick(course.steps, loss, course.plateau.best))
    if course.plateau.state is None:
        raise DataError(
            f"{course.ended}, before anything was learned; look at the images, or --seed"
        )
    network.load_state_dict(course.plateau.state)
    return course


class Course:
    """A training under way: everything that its next step depends on."""

    def __init__(self, network: Autoencoder, plan: Plan, crops: GoodCrops) -> None:
        self.network, self.plan, self.crops = network, plan, crops
        self.generator = torch.Generator().manual_seed(plan.seed)
        with torch.no_grad():
            mean = mean_over(prepared(network, crops.train))
        network.start(mean)
        self.optimiser = torch.optim.Adam(
            network.parameters(), weight_decay=network.schedule.weight_decay
        )
        self.plateau = Plateau(network.schedule)
        self.order = torch.empty(0, dtype=torch.int64)
        self.steps, self.ended = 0, ""
        epochs = plan.epochs or network.schedule.epochs
        self.bounds = Bounds(plan.minutes, plan.steps, epochs, self._epoch)

    def state(self) -> State:
        """What `restore` takes."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "plateau": vars(self.plateau) | {"schedule": None},
            "order": self.order,
            "steps": self.steps,
            "ended": self.ended,
            "taken_ns": self.bounds.taken_ns,
        }

    def restore(self, state: State) -> None:
        """Go on from there; a bound that ended it may have been raised since."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        vars(self.plateau).update(state["plateau"] | {"schedule": self.network.schedule})
        self.order, self.steps = state["order"], state["steps"]
        self.bounds.go_on(state["taken_ns"])
        final = state["ended"].startswith((SETTLED, BROKEN))
        self.ended = state["ended"] if final else self.bounds.reached(self.steps)

    def advance(self) -> float:
        """One step, and a look where one is due; the loss of the batch."""
        schedule = self.network.schedule
        rate = schedule.rates[min(self.plateau.falls, len(schedule.rates) - 1)]
        batch = self._batch(schedule)
        step = self.steps = self.steps + 1
        self.optimiser.param_groups[0]["lr"] = rate * min(1.0, step / schedule.first_steps)
        warmth = min(1.0, step / schedule.warm_steps)
        loss = _step(self.network, self.optimiser, batch, self.generator, warmth)
        if not math.isfinite(loss):
            self.ended = f"{BROKEN} {loss} at step {step}, the best state before is kept"
            return loss
        self.ended = self.bounds.reached(step)
        if step % (schedule.round_steps or self._epoch) == 0 or self.ended:
            warm = step >= schedule.warm_steps
            if self.plateau.look(self.network, self.crops.held_out, warm=warm):
                self.ended = SETTLED
        return loss

    @property
    def _epoch(self) -> int:
        """Steps."""
        return math.ceil(len(self.crops.train) / self.network.schedule.batch)

    def _batch(self, schedule: Schedule) -> Tensor:
        """The next crops, in another order every epoch."""
        if not len(self.order):
            self.order = torch.randperm(len(self.crops.train), generator=self.generator)
        batch = self.crops.train[self.order[: schedule.batch]]
        self.order = self.order[schedule.batch :].clone()
        if schedule.flip:
            batch = _flipped(batch, self.generator)
        return moved(batch, self.generator) if len(self.crops.train) < SMALL_SET else batch


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


def _flipped(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the crops mirrored left to right."""
    mirrored = torch.rand(len(batch), 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirrored, batch.flip(2), batch)
