"""
Teaches a classifier what each class looks like, in the phases that its network has.

The rate of the last phase falls along a cosine to the last epoch. What was best on the val crops is
kept; training ends early when nothing better came for a while.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_inspector.errors import DataError
from edge_inspector.models.classifier import ClassifierNet, build
from edge_inspector.training.augment import flipped, varied
from edge_inspector.training.bounds import Bounds
from edge_inspector.training.checkpoint import Keeper, State
from edge_inspector.training.classifier_plan import (
    ONE_PHASE,
    THREE_PHASES,
    ClassifierPlan,
    Epoch,
    TrainedClassifier,
)
from edge_inspector.training.labelled import LabelledCrops
from edge_inspector.training.plan import Tick

BROKEN = "the loss was"
SETTLED = "nothing better came for"
FOCUS = 2.0
"""Exponent of the focal loss, as its authors (Lin et al. 2017) recommend."""
WARM_STEPS = 50
"""Steps of each phase over which its rate rises, a tenth of all where they are few."""
LOOK_BATCH = 128
EPOCH_STEPS = 32
_PLAIN = ("order", "steps", "phase", "phase_step", "ended", "best", "kept", "losses")
"""What of a course is kept in a checkpoint as it is."""


def train(
    plan: ClassifierPlan, crops: LabelledCrops, tick: Tick = lambda step, loss, best: None
) -> TrainedClassifier:
    """
    Train to the last epoch or as long as it gets better; `tick` gets the best macro-F1 so far.

    Raises `DataError` when it never gets going.
    """
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    network = build(
        plan.model,
        len(crops.classes),
        crops.shape,
        weights=plan.weights,
        pretrained=plan.pretrained,
        seed=plan.seed,
    )
    network = _placed(network, plan.device, torch.channels_last)
    course = Course(network, plan, crops)
    with Keeper(plan.part, plan.identity(crops.digest), resume=plan.resume) as keeper:
        keeper.follow(course, lambda loss: tick(course.steps, loss, course.best_f1))
    if course.kept is None:
        raise DataError(
            f"{course.ended}, before anything was learned; look at the images, a lower --rate or "
            "another --seed"
        )
    network.load_state_dict(course.kept)
    return TrainedClassifier(
        _placed(network, "cpu", torch.contiguous_format).eval(),
        crops.classes,
        math.ceil(course.steps / course.epoch_steps),
        course.steps,
        course.bounds.taken_ns / 1e9,
        course.ended,
        tuple(course.history),
        course.best,
        not course.ended.startswith(BROKEN),
    )


def _placed(network: ClassifierNet, device: str, order: torch.memory_format) -> ClassifierNet:
    placed: ClassifierNet = network.to(device, memory_format=order)  # type: ignore[call-overload]
    return placed


class Course:
    """A training under way: everything that its next step depends on."""

    def __init__(self, network: ClassifierNet, plan: ClassifierPlan, crops: LabelledCrops) -> None:
        self.network, self.plan, self.crops = network, plan, crops
        self.groups = network.phases()
        self.phases = ONE_PHASE if len(self.groups) == 1 else THREE_PHASES
        self.generator = torch.Generator().manual_seed(plan.seed)
        self.kind = torch.device(plan.device).type
        self.order = torch.empty(0, dtype=torch.int64)
        count = len(crops.train)
        self.batch = min(plan.batch or min(max(count // EPOCH_STEPS, 8), 64), count)
        self.epoch_steps = count // self.batch
        self.bounds = Bounds(plan.minutes, None, plan.epochs, self.epoch_steps)
        self.epochs = plan.epochs
        self.steps, self.phase_step, self.ended = 0, 0, ""
        self.history: list[Epoch] = []
        self.best = 0
        self.kept: dict[str, Tensor] | None = None
        self.losses: list[float] = []
        even = torch.ones(len(crops.classes))
        counts = torch.bincount(crops.train_labels, minlength=len(even)).float()
        rarity = (counts.mean() / counts.clamp(min=1)).to(plan.device)
        self.weight = rarity if plan.balance == "weights" else even.to(plan.device)
        self.val_weight = even.to(plan.device) if plan.balance == "none" else rarity
        self._enter(0)

    @property
    def best_f1(self) -> float:
        """Macro-F1 on the val crops of what is kept; 0 before the first look."""
        return self.history[self.best].val_macro_f1 if self.history else 0.0

    def state(self) -> State:
        """What `restore` takes."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "dropout": torch.get_rng_state(),
            "history": [list(epoch) for epoch in self.history],
            "taken_ns": self.bounds.taken_ns,
        } | {name: getattr(self, name) for name in _PLAIN}

    def restore(self, state: State) -> None:
        """Go on from there; the minutes that ended it may have become more since."""
        self.network.load_state_dict(state["network"])
        self._enter(state["phase"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["dropout"])
        for name in _PLAIN:
            setattr(self, name, state[name])
        self.history = [Epoch(*epoch) for epoch in state["history"]]
        self.bounds.go_on(state["taken_ns"])
        self._fit_minutes()
        final = self.ended.startswith((SETTLED, BROKEN))
        self.ended = self.ended if final else self._reached()

    def advance(self) -> float:
        """One step, and a look after each epoch; the loss of the batch."""
        self._set_rate()
        crops, labels = self._batch()
        with torch.autocast(self.kind, torch.bfloat16, enabled=self.plan.half):
            logits = self.network(crops)
        loss = self.loss(logits.float(), labels, self.weight)
        self.steps, self.phase_step = self.steps + 1, self.phase_step + 1
        if not loss.isfinite():
            rest = "" if self.kept is None else ", the best state before is kept"
            self.ended = f"{BROKEN} {loss.item()} at step {self.steps}{rest}"
            return loss.item()
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.groups[self.phase], 1.0)
        self.optimiser.step()
        self.losses.append(loss.item())
        self.ended = self._reached()
        if self.ended or self.steps % self.epoch_steps == 0:
            self._look()
        return loss.item()

    def loss(self, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        """Mean of the crops' losses, each with the weight of its class."""
        losses = functional.cross_entropy(logits, labels, reduction="none")
        if self.plan.loss == "focal":
            losses = losses * (1 - torch.exp(-losses)) ** FOCUS
        return (losses * weight[labels]).mean()

    def _enter(self, phase: int) -> None:
        """Let the parameters of a phase learn, and none else."""
        self.phase, self.phase_step = phase, 0
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)
        for parameter in self.groups[phase]:
            parameter.requires_grad_(True)
        self.optimiser = torch.optim.AdamW(self.groups[phase], weight_decay=1e-4)
        self.network.train()

    def _set_rate(self) -> None:
        """The phase that is due and its rate now."""
        spent = self.steps / (self.epochs * self.epoch_steps)
        due = next(
            i for i, phase in enumerate(self.phases) if spent < phase.until or i == self.last
        )
        if due > self.phase:
            self._enter(due)
        start = self.phases[due - 1].until if due else 0.0
        share = min((spent - start) / (1 - start), 1.0) if due == self.last else 0.0
        scale = 1.0 if self.plan.rate is None else self.plan.rate / self.phases[0].rate
        warm_steps = min(WARM_STEPS, self.epochs * self.epoch_steps // 10 + 1)
        warmth = min(1.0, (self.phase_step + 1) / warm_steps)
        fall = 0.5 * (1 + math.cos(math.pi * share))
        for group in self.optimiser.param_groups:
            group["lr"] = self.phases[due].rate * scale * warmth * fall

    @property
    def last(self) -> int:
        """The last phase."""
        return len(self.phases) - 1

    def _batch(self) -> tuple[Tensor, Tensor]:
        """The next crops with their labels, in another order every epoch."""
        labels = self.crops.train_labels
        if len(self.order) < self.batch:
            if self.plan.balance == "sampling":
                share = 1.0 / torch.bincount(labels)[labels]
                self.order = torch.multinomial(
                    share, len(labels), replacement=True, generator=self.generator
                )
            else:
                self.order = torch.randperm(len(labels), generator=self.generator)
        chosen, self.order = self.order[: self.batch], self.order[self.batch :].clone()
        batch = self.crops.train[chosen].to(self.plan.device)
        if self.plan.flips:
            batch = flipped(batch, self.generator)
        if self.plan.vary:
            batch = varied(batch, self.generator)
        return batch, labels[chosen].to(self.plan.device)

    @torch.no_grad()
    def _look(self) -> None:
        """How it does on the val crops; keeps the state when it is the best, ends when none is."""
        self.network.eval()
        batches = torch.split(self.crops.val, LOOK_BATCH)
        logits = torch.cat([self.network(batch.to(self.plan.device)) for batch in batches])
        self.network.train()
        labels = self.crops.val_labels.to(self.plan.device)
        look = Epoch(
            sum(self.losses) / len(self.losses),
            self.loss(logits, labels, self.val_weight).item(),
            macro_f1(logits.argmax(1), labels),
        )
        self.history.append(look)
        self.losses = []
        first = self.kept is None
        if math.isfinite(look.val_loss) and (first or self._worth(-1) > self._worth(self.best)):
            self.best = len(self.history) - 1
            self.kept = copy.deepcopy(self.network.state_dict())
        stale = len(self.history) - 1 - self.best
        if self.phase == self.last and stale >= self.plan.patience and not self.ended:
            self.ended = f"{SETTLED} {stale} epochs"
        self._fit_minutes()

    def _worth(self, place: int) -> tuple[float, float]:
        """The state at a place in the history; larger is better."""
        look = self.history[place]
        f1 = look.val_macro_f1 if self.plan.stop == "macro-f1" else 0.0
        return f1, -look.val_loss

    def _fit_minutes(self) -> None:
        """Plan fewer epochs where the minutes allow no more, so that the rate falls in time."""
        if self.steps >= self.epoch_steps:
            pace = self.bounds.taken_ns / self.steps * self.epoch_steps
            self.epochs = min(self.plan.epochs, max(int(self.plan.minutes * 60e9 / pace), 1))

    def _reached(self) -> str:
        """The bound that was reached, in words; empty where none was."""
        if self.steps >= self.epochs * self.epoch_steps and self.epochs < self.plan.epochs:
            return f"the {self.plan.minutes:g} minutes allowed {self.epochs} epochs"
        return self.bounds.reached(self.steps)


def macro_f1(predicted: Tensor, labels: Tensor) -> float:
    """Mean of the F1 of the classes that `labels` has."""
    found: list[float] = []
    for label in torch.unique(labels):
        said, true = predicted == label, labels == label
        found.append(2 * (said & true).sum().item() / (said.sum() + true.sum()).item())
    return sum(found) / len(found)
