"""
Published networks as feature extractors, and where their ImageNet weights come from.

EfficientNet-Lite0 is ours and finds its installed weights; the others are torchvision's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_inspector.errors import Breakage, Misuse
from edge_inspector.models.efficientnet_lite import BLOCKS, EPSILON, LEVEL, RANGE, EfficientNetLite0
from edge_inspector.models.weights import PACKAGE, fit, installed, read_state

TORCHVISION = Path("torchvision")
"""Given as the weights, the word for torchvision's own loader, which may download them."""
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""Mean and deviation of a photograph's red, green and blue, in grey levels."""
HALF = ((127.5,) * 3, (127.5,) * 3)
LITE_PLANES = 1280
SCRATCH = "from scratch"

Rgb = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Backbone:
    """A published network without its classifier."""

    build: Callable[[], nn.Module]
    planes: int
    published: str = ""
    """The name of torchvision's table of weights."""
    levels: tuple[Rgb, Rgb] = IMAGENET
    least: int = 32
    """Sides, in px, below which the strides leave nothing of a crop."""
    multiple: int = 1
    """What the sides must be a multiple of."""


class Maps(nn.Module):
    """The last feature map of a backbone alone, as the list that heads take."""

    def __init__(self, body: nn.Module, planes: int) -> None:
        super().__init__()
        self.body = body
        self.planes = (planes,)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(n, 3, h, w) to one map (n, planes, h / 32, w / 32)."""
        return [self.body(x)]


class Lite0(EfficientNetLite0):
    """EfficientNet-Lite0 up to what its pooling sees."""

    def __init__(self) -> None:
        super().__init__((BLOCKS - 1,))
        self._conv_head = nn.Conv2d(self.planes[0], LITE_PLANES, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(LITE_PLANES, EPSILON)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(n, 3, h, w), sides multiples of 32, to (n, 1280, h / 32, w / 32)."""
        (last,) = super().forward(x)
        return functional.relu6(self._bn1(self._conv_head(last)))


def weigh(body: nn.Module, name: str, weights: Path | None) -> str:
    """
    Fill a backbone and say from where; `SCRATCH` where no weights are at hand.

    `weights` is a file, `TORCHVISION`, or None: what is installed or was downloaded before. Raises
    `Misuse` for a wrong file, `Breakage` for a download that fails.
    """
    row = BACKBONES[name]
    if weights is not None and weights != TORCHVISION:
        fit(body, read_state(weights), str(weights), name)
        return weights.name
    if not row.published:
        file = installed()
        fit(body, read_state(file), str(file), name)
        return f"ImageNet, {PACKAGE}"
    published = getattr(torchvision_models(), row.published).DEFAULT
    cached = Path(torch.hub.get_dir()) / "checkpoints" / published.url.rpartition("/")[2]
    if weights is None and not cached.is_file():
        return SCRATCH
    fit(body, _state_of(published, name), str(published), name)
    return f"ImageNet, torchvision {published}"


def _state_of(published: Any, name: str) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = published.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise Breakage(
            f"weights of {name}: {published.url} cannot be had: {error}; without a network give "
            "--weights FILE, a state dict saved where there is one"
        ) from error
    return state


def torchvision_models() -> ModuleType:
    """
    `torchvision.models`; raises `Misuse` where torchvision is not installed.

    A wheel for another device than torch's cannot load its operators, and then does not import.
    None of the networks here needs them, so that it is enough to declare them.
    """
    try:
        return import_module("torchvision.models")
    except ImportError as error:
        raise Misuse(
            "this network needs torchvision: install the 'train' extra, or take "
            "--model efficientnet-lite0, fusion or one of scnn01 to scnn03"
        ) from error
    except RuntimeError:
        _declare_operators()
        return import_module("torchvision.models")


@cache
def _declare_operators() -> torch.library.Library:
    """What is returned must live as long as the operators."""
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(schema)  # type: ignore[no-untyped-call]
    return library


def _mobilenet() -> nn.Module:
    return _only(torchvision_models().mobilenet_v2(), ("features",))


def _efficientnet() -> nn.Module:
    return _only(torchvision_models().efficientnet_v2_s(), ("features",))


def _resnet() -> nn.Module:
    return _without(torchvision_models().resnet50(), ("avgpool", "fc"))


def _inception() -> nn.Module:
    whole = torchvision_models().inception_v3(
        aux_logits=False, transform_input=False, init_weights=False
    )
    return _without(whole, ("avgpool", "dropout", "fc"))


def _only(whole: nn.Module, kept: tuple[str, ...]) -> nn.Module:
    """The children in their order, under the names that published weights have."""
    return nn.Sequential(OrderedDict((n, m) for n, m in whole.named_children() if n in kept))


def _without(whole: nn.Module, left: tuple[str, ...]) -> nn.Module:
    return _only(whole, tuple(n for n, _ in whole.named_children() if n not in left))


BACKBONES = {
    "efficientnet-lite0": Backbone(
        Lite0, LITE_PLANES, levels=((LEVEL,) * 3, (RANGE,) * 3), multiple=32
    ),
    "inception-v3": Backbone(_inception, 2048, "Inception_V3_Weights", HALF, least=80),
    "efficientnet-v2-s": Backbone(_efficientnet, 1280, "EfficientNet_V2_S_Weights"),
    "resnet50": Backbone(_resnet, 2048, "ResNet50_Weights"),
    "mobilenet-v2": Backbone(_mobilenet, 1280, "MobileNet_V2_Weights"),
}
