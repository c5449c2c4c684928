"""
The networks that users pick today, as graphs of the same seam as our engines.

Each takes uint8 (n, 256, 256, 1), scales it, repeats it three times as its input wants, and answers
with what a station needs. No pretrained weights are fetched: features are of random weights, which
is fair for times and is what AUROCs here are of. Memory banks and Gaussians are fitted.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from edge_inspector.importer import load
from edge_inspector.models.backbones import torchvision_models
from edge_inspector.records import Pixels

SIDE = 256
BANK = 2048
"""Patches in PatchCore's memory, drawn at random from all."""
LAYERS = ("layer1", "layer2", "layer3")
SEED = 7
GREY, SPREAD = 0.449, 0.226
"""Mean of ImageNet's three channels' means and deviations."""
ANOMALY = ("score", "anomaly_map")


@dataclass(frozen=True, slots=True)
class Peer:
    """How a network is made from good crops, uint8 (n, 256, 256, 1), and what it answers."""

    build: Callable[[Pixels], nn.Module]
    outputs: tuple[str, ...] = ANOMALY
    fitted: bool = False
    """Whether it learned from the crops, so that its AUROC says something."""


class Graph(nn.Module):
    """A network with its preprocessing inside, as our engines have it."""

    def __init__(self, network: nn.Module, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.outputs = network, outputs

    def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Answers of crops, uint8 (n, h, w, 1)."""
        found = self.network(scaled(crops))
        if self.outputs == ANOMALY:
            return found.pred_score.reshape(-1), found.anomaly_map
        return (torch.softmax(found, dim=1),)


def scaled(crops: torch.Tensor) -> torch.Tensor:
    """Float32 (n, 3, h, w) of crops, uint8 (n, h, w, 1)."""
    grey = (crops.to(torch.float32).permute(0, 3, 1, 2) / 255 - GREY) / SPREAD
    return grey.repeat(1, 3, 1, 1)


def to_onnx(peer: Peer, network: nn.Module) -> bytes:
    """The graph for one crop at a time."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Graph(network, peer.outputs).eval(),
            (torch.zeros((1, SIDE, SIDE, 1), dtype=torch.uint8),),
            dynamo=True,
            verbose=False,
            input_names=["crops"],
            output_names=list(peer.outputs),
            external_data=False,
        )
    assert program is not None
    model: bytes = program.model_proto.SerializeToString()
    return model


def _padim(crops: Pixels) -> nn.Module:
    with _untrained():
        model: Any = load("anomalib.models.image.padim.torch_model:PadimModel")(layers=list(LAYERS))
    _show(model, crops)
    model.fit()
    return _still(model)


def _patchcore(crops: Pixels) -> nn.Module:
    with _untrained():
        model: Any = load("anomalib.models.image.patchcore.torch_model:PatchcoreModel")(
            layers=["layer2", "layer3"], backbone="resnet18"
        )
    _show(model, crops)
    patches = torch.vstack(model.embedding_store)
    model.embedding_store = []
    model.memory_bank = patches[torch.randperm(len(patches))[:BANK]].clone()
    return _still(model)


def _stfpm(_: Pixels) -> nn.Module:
    with _untrained():
        return _still(load("anomalib.models.image.stfpm.torch_model:STFPMModel")(list(LAYERS)))


def _efficient_ad(_: Pixels) -> nn.Module:
    with _untrained():
        return _still(load("anomalib.models.image.efficient_ad.torch_model:EfficientAdModel")())


def _classifier(name: str) -> Callable[[Pixels], nn.Module]:
    def build(_: Pixels) -> nn.Module:
        torch.manual_seed(SEED)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _still(getattr(torchvision_models(), name)(weights=None))

    return build


PEERS = {
    "PaDiM, ResNet-18": Peer(_padim, fitted=True),
    "PatchCore, ResNet-18": Peer(_patchcore, fitted=True),
    "STFPM, ResNet-18": Peer(_stfpm),
    "EfficientAD-S": Peer(_efficient_ad),
    "ResNet-50": Peer(_classifier("resnet50"), ("probabilities",)),
    "EfficientNet-B0": Peer(_classifier("efficientnet_b0"), ("probabilities",)),
    "EfficientNetV2-S": Peer(_classifier("efficientnet_v2_s"), ("probabilities",)),
    "Inception v3": Peer(_classifier("inception_v3"), ("probabilities",)),
}


def _show(model: Any, crops: Pixels) -> None:
    """Let a model that learns by looking see good crops."""
    model.train()
    model.feature_extractor.eval()
    with torch.no_grad():
        for part in np.array_split(crops, max(1, len(crops) // 8)):
            model(scaled(torch.from_numpy(part)))


def _still(model: Any) -> nn.Module:
    frozen: nn.Module = model.eval().requires_grad_(False)
    return frozen


@contextmanager
def _untrained() -> Iterator[None]:
    """Random weights where a model would fetch ImageNet's, the same ones each time."""
    torchvision_models()  # before timm, which asks for operators that a wheel may lack
    timm: Any = importlib.import_module("timm")
    create = timm.create_model
    timm.create_model = lambda *args, **kwargs: create(*args, **{**kwargs, "pretrained": False})
    torch.manual_seed(SEED)
    try:
        yield
    finally:
        timm.create_model = create
