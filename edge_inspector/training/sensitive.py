"""
Teaches the sensitive network to tell good crops from crops marred by `faults`.

Every step sees faults that no step before saw, so there is nothing to overfit but the good crops;
the rate follows a half cosine to the end of the steps or of the minutes, whichever comes first.
"""

from __future__ import annotations

import math
from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional

from edge_inspector.errors import DataError, Misuse
from edge_inspector.models.sensitive import Sensitive, SensitiveGraph
from edge_inspector.training.bounds import Bounds
from edge_inspector.training.checkpoint import Keeper, State
from edge_inspector.training.data import GoodCrops
from edge_inspector.training.marred import Batch, Marred, batches
from edge_inspector.training.plan import Plan, Tick, Trained

STEPS = 6000
"""What about five minutes of two cores allow for 256 px crops."""
RATE = 2e-3
DECAY = 1e-4
FIRST_STEPS = 50
MOTION = 0.06
"""Weight of knowing how far something was moved beside knowing that it was."""
ROUND = 200
"""Steps from one look at marred held-out crops to the next."""
LOOKED_AT = 4
"""Batches of marred held-out crops, made once, that each look takes."""
SAMPLE = 256
"""Good crops that the map's scale is taken from."""


def train(plan: Plan, crops: GoodCrops, tick: Tick = lambda step, loss, best: None) -> Trained:
    """Train for the steps or minutes of the plan; raises `Misuse` and `DataError`."""
    if plan.score not in (None, "odds"):
        raise Misuse(f"the model 'sensitive' gives no score '{plan.score}'; it gives odds")
    plan.refuse("epochs", "beta", "alpha", "gamma", "weights")
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    course = Course(plan, crops)
    with Keeper(plan.part, plan.identity(crops.digest), resume=plan.resume) as keeper:
        if (state := keeper.state()) is not None:
            course.restore(state)
        course.run(keeper, tick)
    graph = SensitiveGraph(course.network.eval())
    with torch.no_grad():
        graph.fit(crops.train[:SAMPLE])
    return Trained(
        graph.eval(),
        "odds",
        course.steps,
        course.bounds.taken_ns / 1e9,
        course.ended,
        tuple(course.losses),
        course.sound,
    )


class Course:
    """A training under way."""

    def __init__(self, plan: Plan, crops: GoodCrops) -> None:
        shape = crops.shape
        self.plan, self.crops = plan, crops
        self.network = Sensitive(
            shape.height, shape.width, shape.channels, standardise=plan.standardise
        )
        self.network.start(crops.train)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), RATE, weight_decay=DECAY)
        self.bounds = Bounds(plan.minutes, plan.steps or STEPS)
        self.steps, self.ended, self.sound = 0, "", True
        self.losses: list[float] = []
        """Of the held-out crops."""
        marred = Marred(crops.held_out.numpy(), 2 * self.network.step, plan.seed, 0)
        self._held_out = list(islice(marred, LOOKED_AT))

    def state(self) -> State:
        """What `restore` takes."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "steps": self.steps,
            "losses": self.losses,
            "taken_ns": self.bounds.taken_ns,
        }

    def restore(self, state: State) -> None:
        """Go on from there."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.steps, self.losses = state["steps"], state["losses"]
        self.bounds.go_on(state["taken_ns"])

    def run(self, keeper: Keeper, tick: Tick) -> None:
        """To the end; a loss that is no number stops it, the state before being kept."""
        if ended := self.bounds.reached(self.steps):
            self.ended = ended
            return
        for batch in batches(self.crops.train, 2 * self.network.step, self.plan.seed, self.steps):
            loss = self._step(batch)
            if not math.isfinite(loss):
                self._broken(loss)
                return
            self.ended = self.bounds.reached(self.steps)
            if self.steps % ROUND == 0 or self.ended:
                self.losses.append(self._look())
            tick(self.steps, loss, min(self.losses, default=math.inf))
            keeper.after_step(self.state, last=bool(self.ended))
            if self.ended:
                return

    def _step(self, batch: Batch) -> float:
        done = self.bounds.spent(self.steps)
        rate = RATE * min(1.0, (self.steps + 1) / FIRST_STEPS)
        rate *= 0.5 * (1 + math.cos(math.pi * min(done, 1.0))) + 0.01
        self.optimiser.param_groups[0]["lr"] = rate
        loss = faults_loss(self.network, batch)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        if loss.isfinite():
            self.optimiser.step()
            self.steps += 1
        return loss.item()

    def _look(self) -> float:
        """Loss of the marred held-out crops."""
        self.network.eval()
        with torch.no_grad():
            losses = [faults_loss(self.network, batch).item() for batch in self._held_out]
        self.network.train()
        return sum(losses) / len(losses)

    def _broken(self, loss: float) -> None:
        self.sound = False
        self.ended = f"the loss was {loss} at step {self.steps + 1}, the state before is kept"
        if self.steps == 0:
            raise DataError(
                f"{self.ended}, before anything was learned; look at the images, or --seed"
            )


def faults_loss(network: Sensitive, batch: Batch) -> Tensor:
    """Cross-entropy of the cells that are said, and the squared error of the motions."""
    features = network.features(batch.crops)
    odds = functional.pixel_shuffle(network.odds(features), 2).squeeze(1)
    said = (batch.faults >= 0).to(torch.float32)
    truth = (batch.faults > 0).to(torch.float32)
    each = functional.binary_cross_entropy_with_logits(odds, truth, reduction="none")
    known = batch.motions.isfinite()
    away = network.motions(features) - torch.where(known, batch.motions, 0.0)
    motion = (away.square() * known).sum() / known.sum().clamp(min=1)
    loss: Tensor = (each * said).sum() / said.sum() + MOTION * motion
    return loss
