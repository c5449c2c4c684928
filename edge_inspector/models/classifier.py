"""Crops to classes: one wrapper for all networks, and the table of those there are."""

from __future__ import annotations

from math import prod
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_inspector.errors import Misuse
from edge_inspector.manifest import Input
from edge_inspector.models.backbones import BACKBONES, SCRATCH, Maps, weigh
from edge_inspector.models.cbam import Cbam
from edge_inspector.models.class_heads import DenseHead, PooledHead
from edge_inspector.models.fusion import Fusion
from edge_inspector.models.scnn import PLANS, Scnn

CBAM = "+cbam"
CLASSIFIERS = (*PLANS, "fusion", *BACKBONES)
"""Each may be followed by `+cbam`: attention on the last feature maps."""
LEAST = 32
"""Shortest side of a crop, in px, that any network takes."""
MOST = 500_000_000
"""Weights of four bytes: a graph file ends at 2 GiB."""
SEEN = 128
"""Crops with a shorter side, in px, are enlarged for weights that learned from photographs."""
DROPOUT = 0.2
PHASES = (30, 100)
"""Layers from the end that learn with the head in the second and third phase, as the paper has it."""
KERAS_LAYERS = 3
"""A convolution, its norm and its activation: the layers that the paper counts."""


class Prepare(nn.Module):
    """Crops as a network sees them: planes, levels, size."""

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        channels: int,
        levels: tuple[tuple[float, ...], tuple[float, ...]],
        size: tuple[int, int] | None,
    ) -> None:
        super().__init__()
        # Crops have blue first; turned last, planes are turned in the engine's first weights.
        step = -1 if channels == 3 else 1
        mean, deviation = (torch.tensor(level[::step]).reshape(1, -1, 1, 1) for level in levels)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)
        self.channels = channels
        self.size = size

    def forward(self, crops: Tensor) -> Tensor:
        """uint8 (n, h, w, c), grey or BGR, to float32 (n, planes, h', w'), planes as RGB."""
        x = crops.to(torch.float32).permute(0, 3, 1, 2)
        x = (x - self.mean) / self.deviation
        if self.channels == 3:
            x = x.flip(1)
        if self.size is not None:
            x = functional.interpolate(x, size=self.size, mode="bilinear")
        return x


class ClassifierNet(nn.Module):
    """One network that names the class of a crop, and where in the crop it shows."""

    origin: str = SCRATCH
    """Where the weights come from that training starts with."""

    def __init__(
        self,
        name: str,
        classes: int,
        prepared: Prepare,
        backbone: Scnn | Fusion | Maps,
        head: DenseHead | PooledHead,
    ) -> None:
        super().__init__()
        self.name = name
        self.classes = classes
        self.prepared = prepared
        self.backbone = backbone
        planes = backbone.planes if name.endswith(CBAM) else ()
        self.attention = nn.ModuleList(Cbam(width) for width in planes)
        self.head = head

    def prepare(self, crops: Tensor) -> Tensor:
        """uint8 (n, h, w, c), grey or BGR, to float32 (n, planes, h', w')."""
        x: Tensor = self.prepared(crops)
        return x

    def feature_maps(self, x: Tensor) -> list[Tensor]:
        """The last maps (n, planes, h'', w''), the finest first, refined where there is attention."""
        maps: list[Tensor] = self.backbone(x)
        if not self.attention:
            return maps
        return [refine(level) for refine, level in zip(self.attention, maps, strict=True)]

    def embed(self, maps: list[Tensor]) -> Tensor:
        """What the last layer sees, (n, d), before dropout."""
        return self.head.embed(maps)

    def logits(self, embedding: Tensor) -> Tensor:
        """(n, classes)."""
        return self.head.logits(embedding)

    def class_maps(
        self, maps: list[Tensor], embedding: Tensor, chosen: Tensor | None = None
    ) -> Tensor:
        """
        What in the maps speaks for each class, (n, classes, h'', w'').

        With `chosen`, int64 (n,), for that class of each crop alone, (n, 1, h'', w'').
        """
        weights = self.head.last.weight
        rows = weights[None] if chosen is None else weights[chosen][:, None]
        return self.head.class_maps(maps, embedding, rows)

    def forward(self, crops: Tensor) -> Tensor:
        """Logits (n, classes) of crops, uint8 (n, h, w, c)."""
        return self.logits(self.embed(self.feature_maps(self.prepare(crops))))

    def phases(self) -> list[list[nn.Parameter]]:
        """
        What learns in each phase: all at once from scratch, else ever more of the backbone.

        The schedule of the failure-mode paper: head; last 30 layers; last 100 layers.
        """
        if self.origin == SCRATCH:
            return [list(self.parameters())]
        head = [*self.attention.parameters(), *self.head.parameters()]
        layers = [m for m in self.backbone.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
        opened = (layers[-(count * 2 // KERAS_LAYERS) :] for count in PHASES)
        return [head, *([*head, *(p for m in last for p in m.parameters())] for last in opened)]

    def train(self, mode: bool = True) -> ClassifierNet:
        """
        As every module, but norms that came with weights keep their statistics.

        A batch's own statistics are others than those that the backbone's weights were made for.
        """
        super().train(mode)
        for module in self.backbone.modules() if self.origin != SCRATCH else ():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def build(
    name: str,
    classes: int,
    shape: Input,
    *,
    weights: Path | None,
    pretrained: bool = True,
    seed: int,
) -> ClassifierNet:
    """
    A network for crops of `shape`; `pretrained` asks for the backbone's weights, see `weigh`.

    Raises `Misuse` for a name, size or weights that cannot be, `Breakage` for a failed download.
    """
    plain = name.removesuffix(CBAM)
    _check(plain, name, shape, weights, pretrained)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if plain in BACKBONES:
            return _pretrained(name, classes, shape, weights, pretrained)
        return _small(name, classes, shape)


def _check(plain: str, name: str, shape: Input, weights: Path | None, pretrained: bool) -> None:
    if plain not in CLASSIFIERS:
        raise Misuse(
            f"--model {name}: there is no such classifier; take one of "
            f"{', '.join(CLASSIFIERS)}, each may be followed by {CBAM}"
        )
    if min(shape.height, shape.width) < LEAST:
        raise Misuse(
            f"crops of {shape.width} x {shape.height} px: {name} takes sides from {LEAST} px on; "
            "give a larger --size"
        )
    if weights is not None and plain not in BACKBONES:
        raise Misuse(
            f"--weights {weights}: {name} has no published weights and learns from scratch; leave "
            f"it away, or take one of {', '.join(BACKBONES)}"
        )
    if weights is not None and not pretrained:
        raise Misuse(f"--weights {weights}: not from scratch as well; give one of the two")


def _small(name: str, classes: int, shape: Input) -> ClassifierNet:
    plain = name.removesuffix(CBAM)
    levels = ((0.0,) * shape.channels, (255.0,) * shape.channels)
    prepared = Prepare(shape.channels, levels, None)
    if plain == "fusion":
        fusion = Fusion(shape.channels)
        return ClassifierNet(
            name, classes, prepared, fusion, PooledHead(fusion.planes, classes, 0.0)
        )
    widths, dense = PLANS[plain]
    scnn = Scnn(shape.channels, widths)
    last = (widths[-1], scnn.side(shape.height), scnn.side(shape.width))
    if prod(last) * dense[0] > MOST:
        raise Misuse(
            f"crops of {shape.width} x {shape.height} px: the dense layer of {name} would have "
            f"{prod(last) * dense[0]:,} weights, {MOST:,} is what a graph file holds; "
            "give a smaller --size, or take a network that pools"
        )
    return ClassifierNet(name, classes, prepared, scnn, DenseHead(last, dense, classes))


def _pretrained(
    name: str, classes: int, shape: Input, weights: Path | None, pretrained: bool
) -> ClassifierNet:
    plain = name.removesuffix(CBAM)
    row = BACKBONES[plain]
    body = row.build()
    origin = weigh(body, plain, weights) if pretrained else SCRATCH
    least = row.least if origin == SCRATCH else max(row.least, SEEN)
    prepared = Prepare(shape.channels, row.levels, _size(shape, least, row.multiple))
    head = PooledHead((row.planes,), classes, DROPOUT)
    network = ClassifierNet(name, classes, prepared, Maps(body, row.planes), head)
    network.origin = origin
    return network


def _size(shape: Input, least: int, multiple: int) -> tuple[int, int] | None:
    """Sides, in px, that the backbone sees; None where they are the crop's own."""
    larger = max(1.0, least / min(shape.height, shape.width))
    height, width = (
        -(-round(side * larger) // multiple) * multiple for side in (shape.height, shape.width)
    )
    return None if (height, width) == (shape.height, shape.width) else (height, width)
