"""Kernels of exact twins: what one plain convolution must weigh to do another operator's work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

CUBIC = -0.75
"""Coefficient of bicubic interpolation in torch, and ONNX's default."""


def cubic_kernel(times: int, planes: int) -> NDArray[np.float64]:
    """Weights (planes times times, 1, 5, 5) that make each pixel `times` by `times`."""
    weights = np.zeros((times, 5))
    for phase in range(times):
        offset = (phase + 0.5) / times - 0.5
        weights[phase] = [_cubic(abs(tap - offset)) for tap in range(-2, 3)]
    kernel = np.einsum("pk,ql->pqkl", weights, weights).reshape(-1, 1, 5, 5)
    return np.tile(kernel, (planes, 1, 1, 1))


def _cubic(away: float) -> float:
    """The weight of a value so many steps away (Keys, "Cubic convolution interpolation", 1981)."""
    if away >= 2:
        return 0.0
    if away >= 1:
        return ((away - 5) * away + 8) * away * CUBIC - 4 * CUBIC
    return ((CUBIC + 2) * away - (CUBIC + 3)) * away * away + 1


def reach_of(kernel: int, stride: int, pad: int) -> tuple[int, int]:
    """The first and the last input, from a block's own, that reach one of the block's pixels."""
    return -((kernel - 1 - pad) // stride), (stride - 1 + pad) // stride


def block_kernel(
    weights: NDArray[Any],
    stride: int,
    pads: Sequence[int],
    reach: Sequence[tuple[int, int]],
    groups: int,
) -> NDArray[Any]:
    """Weights (in, out, h, w) as those of a convolution to (out stride stride) planes."""
    planes, outer = weights.shape[:2]
    inner = planes // groups
    rows, columns = (high - low + 1 for low, high in reach)
    shape = (groups, outer, stride, stride, inner, rows, columns)
    kernel = np.zeros(shape, weights.dtype)
    grouped = weights.reshape(groups, inner, outer, *weights.shape[2:]).swapaxes(1, 2)
    for y, x, row, column in np.ndindex(stride, stride, rows, columns):
        down = y + pads[0] - stride * (row + reach[0][0])
        across = x + pads[1] - stride * (column + reach[1][0])
        if 0 <= down < weights.shape[2] and 0 <= across < weights.shape[3]:
            kernel[:, :, y, x, :, row, column] = grouped[..., down, across]
    return kernel.reshape(-1, inner, rows, columns)
