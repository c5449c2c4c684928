"""Every family of exported graphs, hardly trained: what is asked of graphs, not of their scores."""

import functools
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from edge_inspector.manifest import Input
from edge_inspector.models.classifier import build
from edge_inspector.models.classifier_graph import ClassifierGraph
from edge_inspector.models.efficientnet_lite import EfficientNetLite0, prepare
from edge_inspector.models.novelty import Novelty
from edge_inspector.models.sensitive import Sensitive, SensitiveGraph
from edge_inspector.scorers.classifier import OUTPUTS
from edge_inspector.training import anomaly, onnx_export, peers, sure
from edge_inspector.training.data import GoodCrops
from edge_inspector.training.plan import Plan

AUTOENCODERS = ("vae", "solder-vae", "cae", "lean")
FEATURES = {"sure": sure.train, "padim": peers.train_padim, "patchcore": peers.train_patchcore}
CLASSIFIERS = ("scnn02", "fusion+cbam", "efficientnet-lite0")
FAMILIES = (*AUTOENCODERS, "sensitive", *FEATURES, *CLASSIFIERS)
SHAPE = Input(height=64, width=64)


@functools.cache
def exported(family: str) -> bytes:
    """The family's ONNX for grey crops of 64 px, made once in a process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if family in CLASSIFIERS:
            return onnx_export.to_onnx(_classifier(family), SHAPE, OUTPUTS)
        return onnx_export.to_onnx(_anomaly(family), SHAPE)
    finally:
        torch.set_num_threads(threads)


def crops() -> GoodCrops:
    """Noise about a dark body with a bright middle."""
    some = torch.randn((20, 64, 64, 1), generator=torch.Generator().manual_seed(5)) * 4 + 60
    some[:, 24:40, 24:40] += 120
    pixels = some.clamp(0, 255).to(torch.uint8)
    return GoodCrops(SHAPE, pixels[:16], pixels[16:], (), "0" * 64)


def _anomaly(family: str) -> torch.nn.Module:
    good = crops()
    if family in AUTOENCODERS:
        return anomaly.train(Plan(family, steps=2, threads=1), good).graph
    if family == "sensitive":
        torch.manual_seed(0)
        graph = SensitiveGraph(Sensitive(SHAPE.height, SHAPE.width, SHAPE.channels)).eval()
        with torch.no_grad():
            graph.network.start(good.train)
            graph.fit(good.train)
        return graph
    with TemporaryDirectory() as folder:
        weights = Path(folder) / "random.pth"
        torch.save(_backbone(good.train).state_dict(), weights)
        return FEATURES[family](Plan(family, weights=weights, threads=1), good).graph


def _backbone(pixels: torch.Tensor) -> EfficientNetLite0:
    """Random filters with the statistics of these crops, so that features keep their spread."""
    torch.manual_seed(0)
    network = EfficientNetLite0((13,)).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network(prepare(pixels))
    return network


def _classifier(family: str) -> torch.nn.Module:
    network = build(family, 4, SHAPE, weights=None, seed=1).eval()
    pixels = crops().train
    with torch.no_grad():
        embedding = network.embed(network.feature_maps(network.prepare(pixels)))
        novelty = Novelty()
        novelty.fit(embedding, torch.arange(len(pixels)) % 4, network.logits(embedding))
    return ClassifierGraph(network, novelty, 0)
