"""
The networks of "Anomaly Detection for Solder Joints Using beta-VAE", as printed.

Encoder: five 3 x 3 convolutions of stride 1 up to 256 channels, batch norm, leaky ReLU, three max
pools, and convolutions of 10 channels as heads: a latent of 10 x 8 x 8 at 64 px. Decoder: the
encoder in reverse, six transposed convolutions, three bicubic upsamplings, tanh; pixels in -1..1.
The paper leaves the widths between 3 and 256 open; these train in 4 ms per crop on one core.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_inspector.models.autoencoder import Autoencoder, Schedule
from edge_inspector.models.gradcon import kernel_gradient, turned
from edge_inspector.models.standard import standardised

WIDTHS = (8, 16, 32, 64, 256)
"""Channels after each convolution of the encoder."""
LATENT = 10
SLOPE = 0.01
"""Of leaky ReLU below 0."""
POOLS = 3
"""The first three convolutions are pooled; the decoder grows after its mirrored three."""
CLIP = 3.0
"""Deviations of a standardised crop that stand for the ends of -1..1."""


class SolderVae(Autoencoder):
    """Crops as pixels in -1..1, (n, c, h, w), and their reconstruction; beta is 1."""

    default_score = "reconstruction"
    scores: tuple[str, ...] = ("cosine", "elbo", "gradcon", "reconstruction", "residual")
    cell = 4
    # The paper's, but for the warm-up: without it beta 3 never hears its latent (all crops decode to
    # their mean).
    schedule = Schedule(
        batch=64,
        rates=(1e-2, 1e-3, 1e-4),
        weight_decay=1e-4,
        flip=True,
        round_steps=None,
        first_steps=1,
        warm_steps=60,
        epochs=100,
    )

    def __init__(self, height: int, width: int, channels: int, *, standardise: bool) -> None:
        super().__init__()
        self.standardise = standardise
        self.encoder = _encoder(channels)
        self.mean = nn.Conv2d(WIDTHS[-1], LATENT, 3, padding=1)
        self.log_variance: nn.Conv2d | None = nn.Conv2d(WIDTHS[-1], LATENT, 3, padding=1)
        self.decoder = Decoder(height, width, channels)
        # Convolutions of interleaved channels take two thirds of the time on a CPU.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def start(self, mean: Tensor) -> None:
        """Nothing is known before the first step."""

    def prepare(self, crops: Tensor) -> Tensor:
        """uint8 (n, h, w, c) to -1..1, (n, c, h, w); standardised ones are cut at 3 deviations."""
        x = crops.to(torch.float32).permute(0, 3, 1, 2)
        if not self.standardise:
            return x * (2 / 255) - 1
        return (standardised(x, 1.0) * (1 / CLIP)).clamp(-1, 1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and log variance, each (n, 10, h/8, w/8)."""
        hidden = self.encoder(x)
        spread = None if self.log_variance is None else self.log_variance(hidden)
        return self.mean(hidden), spread

    def decode(self, latent: Tensor) -> Tensor:
        """A latent to pixels in -1..1."""
        pixels: Tensor = self.decoder(latent)
        return pixels

    def loss(self, x: Tensor, decoded: Tensor, divergence: Tensor) -> Tensor:
        """Squared error of the whole crop + beta KL, per pixel; mean over the batch."""
        squared = (x - decoded).square().flatten(1).sum(dim=1)
        return (squared + divergence).mean() / x[0].numel()

    def kernels(self) -> list[Tensor]:
        """The weights of the decoder's convolutions: what the gradient constraint is about."""
        return self.decoder.kernels()

    def gradient_term(self, x: Tensor, latent: Tensor) -> Tensor | None:
        """Of each crop, (n,), over all layers of the decoder."""
        if self.constraint is None:
            return None
        return self.constraint.of_each(self.decoder.gradients(latent, x))


class BetaVae(SolderVae):
    """The same network; its divergence counts three times, or as `beta` says."""

    beta = 3.0


class Cae(SolderVae):
    """The same network with one convolution as its bottleneck: nothing is drawn, no divergence."""

    scores = ("cosine", "gradcon", "reconstruction", "residual")

    def __init__(self, height: int, width: int, channels: int, *, standardise: bool) -> None:
        super().__init__(height, width, channels, standardise=standardise)
        self.log_variance = None


class Decoder(nn.Module):
    """
    A latent (n, 10, h/8, w/8) to pixels in -1..1, (n, c, h, w).

    A transposed convolution of stride 1 is a convolution whose kernel is turned, and written so:
    every runtime is faster at it.
    """

    def __init__(self, height: int, width: int, channels: int) -> None:
        super().__init__()
        widths = (LATENT, *reversed(WIDTHS))
        growths = [None, None, *(Bicubic(height >> left, width >> left) for left in (3, 2, 1))]
        self.blocks = nn.ModuleList(
            Block(before, after, grow)
            for before, after, grow in zip(widths, widths[1:], growths, strict=False)
        )
        self.last = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        """Through all layers."""
        return self._trace(latent)[2]

    def kernels(self) -> list[Tensor]:
        """The weights of all layers."""
        return [*(block.layer.weight for block in self._blocks()), self.last.weight]

    def gradients(self, latent: Tensor, x: Tensor) -> list[Tensor]:
        """
        Of each crop's squared error by each layer's kernel, as `kernel_gradient` lays it out.

        Backpropagation written as plain operations, so that every runtime can do it: each crop for
        itself, which a gradient of a batch is not. Up to a factor, which a cosine does not see.
        """
        inputs, active, decoded = self._trace(latent)
        error = (decoded - x) * (1 - decoded * decoded)
        found = [kernel_gradient(inputs[-1], error)]
        kernel: Tensor = self.last.weight
        steps = zip(self._blocks(), inputs[:-1], active, strict=True)
        for block, taken, level in reversed(list(steps)):
            error = block.back(functional.conv2d(error, turned(kernel), padding=1), level)
            found.append(kernel_gradient(taken, error))
            kernel = block.layer.weight
        return found[::-1]

    def _trace(self, latent: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Each layer's input, each activation before it grows, and the pixels."""
        inputs, active = [latent], []
        for block in self._blocks():
            active.append(block.activate(inputs[-1]))
            inputs.append(block.grow(active[-1]) if block.grow is not None else active[-1])
        return inputs, active, torch.tanh(self.last(inputs[-1]))

    def _blocks(self) -> list[Block]:
        return cast("list[Block]", list(self.blocks))


class Block(nn.Module):
    """One layer of the decoder: convolution, batch norm, leaky ReLU, perhaps growth."""

    def __init__(self, before: int, after: int, grow: Bicubic | None) -> None:
        super().__init__()
        self.layer = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(after)
        self.grow = grow

    def activate(self, taken: Tensor) -> Tensor:
        """All but the growth."""
        return functional.leaky_relu(self.norm(self.layer(taken)), SLOPE)

    def back(self, error: Tensor, level: Tensor) -> Tensor:
        """The gradient by the convolution's output, from that by the block's; `level` was active."""
        variance, weight = self.norm.running_var, self.norm.weight
        assert variance is not None
        gain = weight * torch.rsqrt(variance + self.norm.eps)
        narrow = error if self.grow is None else self.grow.back(error)
        return narrow * torch.where(level > 0, 1.0, SLOPE) * gain[:, None, None]


class Bicubic(nn.Module):
    """
    Twice the size by bicubic interpolation, (n, c, h, w) to (n, c, 2h, 2w), as torch does it.

    The interpolation is linear, so it is two products with constant matrices. ONNX Runtime's own
    bicubic takes 20 ms where these take a tenth of one.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", _bicubic(height))
        self.register_buffer("columns", _bicubic(width).T.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Larger."""
        return torch.matmul(self.get_buffer("rows"), torch.matmul(x, self.get_buffer("columns")))

    def back(self, error: Tensor) -> Tensor:
        """The gradient by the smaller, from that by the larger."""
        narrow = torch.matmul(self.get_buffer("rows").T, error)
        return torch.matmul(narrow, self.get_buffer("columns").T)


def _bicubic(length: int) -> Tensor:
    """The matrix, (2 length, length), that interpolates one axis."""
    unit = torch.eye(length)[None, None]
    return functional.interpolate(unit, size=(2 * length, length), mode="bicubic")[0, 0]


def _encoder(channels: int) -> nn.Sequential:
    """Pooled before the activation, which is the same as after it, at a quarter of the cost."""
    blocks: list[nn.Module] = []
    for index, (before, after) in enumerate(zip((channels, *WIDTHS), WIDTHS, strict=False)):
        blocks += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)]
        blocks += [nn.MaxPool2d(2)] if index < POOLS else []
        blocks += [nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*blocks)
