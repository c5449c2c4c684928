"""
Teaches a generator to draw defects: Wasserstein distance + lambda x feature matching.

Adam at 2e-4 and batches of 64 are the paper's. Its turns of 1000 iterations each are not: a
generator that follows one still critic for 1000 steps draws that critic's one favourite.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from edge_inspector.errors import DataError
from edge_inspector.models.dcgan import LATENT, Critic, Generator
from edge_inspector.training.bounds import Bounds
from edge_inspector.training.checkpoint import Keeper, State
from edge_inspector.training.labelled import LabelledCrops
from edge_inspector.training.plan import Tick

BETAS, BATCH = (0.5, 0.9), 64
KEPT = 0.995
"""Of the averaged generator at each step; the average draws what the last step alone may not."""
LOOK_STEPS = 25
"""Steps over which the monitored distance is averaged."""
BROKEN = "the loss was"

Shown = Callable[[int, Generator], None]
"""Step and the averaged generator, now and then: a sheet may be drawn."""


@dataclass(frozen=True, slots=True)
class GanPlan:
    """How to train a GAN; `minutes` and `steps` are bounds, the paper takes 100,000 steps."""

    seed: int = 0
    minutes: float = 60.0
    steps: int = 100_000
    rate: float = 2e-4
    matching: float = 0.1
    """Weight lambda of feature matching; the paper names none, this weighs both terms alike."""
    sheet_steps: int = 500
    """Steps from one sample sheet to the next."""
    threads: int = 2
    device: str = "cpu"
    half: bool = False
    """Multiply in bfloat16 while learning."""
    part: Path | None = None
    """Folder for the checkpoints; None keeps none."""
    resume: bool = False

    def identity(self, digest: str) -> str:
        """What a checkpoint must have been made of, to go on from it; bounds may differ."""
        return (
            f"gan, seed {self.seed}, rate {self.rate:g}, lambda {self.matching:g}, "
            f"images {digest[:16]}"
        )


@dataclass(frozen=True, slots=True)
class TrainedGan:
    """A generator that draws `classes`, with the distance at every `LOOK_STEPS` steps."""

    generator: Generator
    classes: tuple[str, ...]
    steps: int
    seconds: float
    ended: str
    distances: tuple[float, ...]
    sound: bool
    """False when the loss was no number at some step."""


def train(
    plan: GanPlan,
    crops: LabelledCrops,
    tick: Tick = lambda step, loss, distance: None,
    shown: Shown = lambda step, generator: None,
) -> TrainedGan:
    """Train to a bound on crops of defects; raises `DataError` when it never gets going."""
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    course = Course(plan, crops)

    def after() -> None:
        if course.steps % plan.sheet_steps == 0 or course.ended:
            shown(course.steps, course.average)

    with Keeper(plan.part, plan.identity(crops.digest), resume=plan.resume) as keeper:
        keeper.follow(course, lambda loss: tick(course.steps, loss, course.distance), after)
    if not course.distances:
        raise DataError(f"{course.ended}, before anything was learned; look at the images")
    return TrainedGan(
        course.average.cpu(),
        crops.classes,
        course.steps,
        course.bounds.taken_ns / 1e9,
        course.ended,
        tuple(course.distances),
        not course.ended.startswith(BROKEN),
    )


class Course:
    """A training under way: everything that its next step depends on."""

    def __init__(self, plan: GanPlan, crops: LabelledCrops) -> None:
        self.plan, self.crops = plan, crops
        count = len(crops.classes)
        self.generator = Generator(count, crops.shape).to(plan.device)
        self.critic = Critic(count, crops.shape).to(plan.device)
        for network in (self.generator, self.critic):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.optimisers = [
            torch.optim.Adam(network.parameters(), plan.rate, BETAS)
            for network in (self.generator, self.critic)
        ]
        self.places = [(crops.train_labels == k).nonzero()[:, 0] for k in range(count)]
        self.random = torch.Generator().manual_seed(plan.seed)
        self.bounds = Bounds(plan.minutes, plan.steps)
        self.steps, self.ended = 0, ""
        self.distances: list[float] = []
        self.recent: list[float] = []

    @property
    def distance(self) -> float:
        """The Wasserstein distance as the critic sees it, over the last steps."""
        return sum(self.recent) / len(self.recent) if self.recent else self.distances[-1]

    def state(self) -> State:
        """What `restore` takes."""
        return {
            "networks": [network.state_dict() for network in self._networks()],
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "random": self.random.get_state(),
            "distances": [self.distances, self.recent],
            "steps": self.steps,
            "ended": self.ended,
            "taken_ns": self.bounds.taken_ns,
        }

    def restore(self, state: State) -> None:
        """Go on from there; a bound that ended it may have been raised since."""
        for network, kept in zip(self._networks(), state["networks"], strict=True):
            network.load_state_dict(kept)
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        self.random.set_state(state["random"])
        self.distances, self.recent = state["distances"]
        self.steps = state["steps"]
        self.bounds.go_on(state["taken_ns"])
        broken = state["ended"].startswith(BROKEN)
        self.ended = state["ended"] if broken else self.bounds.reached(self.steps)

    def advance(self) -> float:
        """A step of the critic, then one of the generator; the generator's loss."""
        self.steps += 1
        loss = self._teach_critic()
        if math.isfinite(loss):
            self._average()  # of the generator that this critic just saw draw numbers
            self._note(-loss)
            loss = self._teach_generator()
        if math.isfinite(loss):
            self.ended = self.bounds.reached(self.steps)
        else:
            self.ended = f"{BROKEN} {loss} at step {self.steps}, the state before is kept"
        return loss

    def _teach_critic(self) -> float:
        """The loss of one step: the distance with its sign turned."""
        real, labels = self._batch()
        with torch.no_grad(), self._half():
            drawn = self.generator(self._noise(len(labels)), labels)
        with self._half():
            scores, _ = self.critic(torch.cat([real, drawn.float()]), labels.repeat(2))
        of_real, of_drawn = scores.float().chunk(2)
        return self._step(1, of_drawn.mean() - of_real.mean())

    def _teach_generator(self) -> float:
        """The loss of one step: the distance that is left, and how far mean features are apart."""
        real, labels = self._batch()
        with self._half():
            drawn = self.generator(self._noise(len(labels)), labels)
            scores, features = self.critic(drawn, labels)
            with torch.no_grad():
                of_real, aims = self.critic(real, labels)
        apart = (features.float().mean(dim=0) - aims.float().mean(dim=0)).square().sum()
        distance = of_real.float().mean() - scores.float().mean()
        return self._step(0, distance + self.plan.matching * apart)

    def _step(self, place: int, loss: Tensor) -> float:
        """One step of the generator, 0, or the critic, 1; none where the loss is no number."""
        optimiser = self.optimisers[place]
        optimiser.zero_grad()
        if loss.isfinite():
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        return loss.item()

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Crops in 0..1 (n, c, h, w) with labels, each class as often."""
        labels = torch.randint(len(self.places), (BATCH,), generator=self.random)
        shares = torch.rand(BATCH, generator=self.random).tolist()
        chosen = [
            self.places[label][int(share * len(self.places[label]))]
            for label, share in zip(labels.tolist(), shares, strict=True)
        ]
        crops = self.crops.train[torch.stack(chosen)].permute(0, 3, 1, 2)
        device = self.plan.device
        return crops.to(device, torch.float32) / 255, labels.to(device)

    def _noise(self, count: int) -> Tensor:
        return torch.randn(count, LATENT, generator=self.random).to(self.plan.device)

    def _half(self) -> AbstractContextManager[None]:
        return torch.autocast(self.plan.device, torch.bfloat16, enabled=self.plan.half)

    def _average(self) -> None:
        kept = min(KEPT, self.steps / (10 + self.steps))
        with torch.no_grad():
            mean, now = self.average.state_dict(), self.generator.state_dict()
            for name, value in mean.items():
                if value.is_floating_point():
                    value.lerp_(now[name], 1 - kept)

    def _note(self, distance: float) -> None:
        self.recent.append(distance)
        if len(self.recent) == LOOK_STEPS or not self.distances:
            self.distances.append(self.distance)
            self.recent = []

    def _networks(self) -> tuple[nn.Module, ...]:
        return self.generator, self.critic, self.average


def draw(generator: Generator, labels: Tensor, seed: int) -> Tensor:
    """A crop of each label (n,), uint8 (n, h, w, c)."""
    noise = torch.randn(len(labels), LATENT, generator=torch.Generator().manual_seed(seed))
    device = next(generator.parameters()).device
    generator.eval()
    with torch.no_grad():
        batches = zip(torch.split(noise, BATCH), torch.split(labels, BATCH), strict=True)
        drawn = [generator(z.to(device), k.to(device)).cpu() for z, k in batches]
    pixels = torch.cat(drawn).permute(0, 2, 3, 1)
    return (255 * pixels + 0.5).to(torch.uint8).contiguous()


def draw_each(generator: Generator, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """`count` crops of each class in turn, uint8 (n, h, w, c), and their labels (n,)."""
    labels = torch.arange(generator.classes).repeat_interleave(count)
    return draw(generator, labels, seed), labels
