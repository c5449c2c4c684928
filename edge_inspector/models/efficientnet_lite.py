"""
EfficientNet-Lite0 (Tan and Le, "EfficientNet", 2019; Lite: no squeeze and excitation, ReLU6).

Modules are named as in the published state dict; convolutions pad as TensorFlow's "same" does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Repeats, kernel, stride of the first block, expansion, channels."""
BLOCKS = sum(stage[0] for stage in STAGES)
STEM = 32
LEVEL, RANGE = 127.0, 128.0
"""Grey levels are seen as (level - 127) / 128, channels as RGB."""
EPSILON = 1e-3


class EfficientNetLite0(nn.Module):
    """
    Prepared crops (n, 3, h, w), to the outputs of the chosen blocks, in their order.

    Blocks after the last chosen one are not built. Sides must be multiples of the largest stride.
    """

    def __init__(self, chosen: tuple[int, ...]) -> None:
        super().__init__()
        self.chosen = chosen
        self._conv_stem = nn.Conv2d(3, STEM, 3, stride=2, bias=False)
        self._bn0 = nn.BatchNorm2d(STEM, EPSILON)
        blocks: list[Block] = []
        planes = STEM
        for repeats, kernel, stride, expansion, grown in STAGES:
            for repeat in range(repeats):
                blocks.append(Block(planes, grown, kernel, 1 if repeat else stride, expansion))
                planes = grown
        self._blocks = nn.ModuleList(blocks[: max(chosen) + 1])
        self.planes = tuple(blocks[index].grown for index in chosen)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of each chosen block."""
        x = functional.relu6(self._bn0(_same(self._conv_stem, x)))
        found = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in self.chosen:
                found.append(x)
        return found


class Block(nn.Module):
    """Widen, filter each plane, narrow; added to its input where the shapes are the same."""

    def __init__(self, planes: int, grown: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = planes * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(planes, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, EPSILON)
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = nn.BatchNorm2d(wide, EPSILON)
        self._project_conv = nn.Conv2d(wide, grown, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(grown, EPSILON)
        self.grown = grown
        self.widens = expansion > 1
        self.adds = stride == 1 and planes == grown

    def forward(self, x: Tensor) -> Tensor:
        """(n, planes, h, w) to (n, grown, h / stride, w / stride)."""
        wide = functional.relu6(self._bn0(self._expand_conv(x))) if self.widens else x
        wide = functional.relu6(self._bn1(_same(self._depthwise_conv, wide)))
        y: Tensor = self._bn2(self._project_conv(wide))
        return x + y if self.adds else y


def prepare(crops: Tensor) -> Tensor:
    """uint8 (n, h, w, c), grey or BGR, to what the network takes."""
    height, width, channels = crops.shape[1:]
    x = (crops.to(torch.float32) - LEVEL) * (1 / RANGE)
    if channels == 1:
        return x.reshape(-1, 1, height, width).expand(-1, 3, -1, -1)
    return x.permute(0, 3, 1, 2).flip(1)


def _same(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """TensorFlow's padding for even sides: what does not halve goes to the right and below."""
    total = conv.kernel_size[0] - conv.stride[0]
    before, after = total // 2, total - total // 2
    padded: Tensor = conv(functional.pad(x, (before, after, before, after)))
    return padded
