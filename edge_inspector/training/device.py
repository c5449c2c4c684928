"""Where a training multiplies."""

from __future__ import annotations

import torch

from edge_inspector.errors import Misuse


def check_device(device: str) -> None:
    """Raise `Misuse` for a device that torch does not find on this box."""
    if device != "cpu" and not (device == "cuda" and torch.cuda.is_available()):
        raise Misuse(f"--device {device}: torch finds none such on this box; use cpu")


def knows_half(device: str) -> bool:
    """Whether the device has instructions of its own for bfloat16."""
    return device == "cuda" or torch.cpu._is_avx512_bf16_supported()
