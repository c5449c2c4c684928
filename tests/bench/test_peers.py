"""What compares our engines with others, on a network that takes no time."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the other networks are torch's")

import torch
from torch import nn

from bench import bench_peers
from bench.bench_peers import TURN, Entry, ratio
from bench.peers import Graph, Peer, scaled, to_onnx
from edge_inspector.backends import open_first

CROPS = np.random.default_rng(3).integers(0, 256, (2, 256, 256, 1), np.uint8)


class Brightest(nn.Module):
    """Answers as anomalib's models do."""

    def forward(self, pixels):
        found = torch.amax(pixels, dim=1, keepdim=True)
        return SimpleNamespace(pred_score=torch.amax(found, dim=(-2, -1)), anomaly_map=found)


def row(kind, **p50):
    return {"kind": kind, "ms": {runner: {"p50": ms} for runner, ms in p50.items()}}


def test_a_crop_is_scaled_as_the_networks_expect_it():
    found = scaled(torch.from_numpy(CROPS))
    assert found.shape == (2, 3, 256, 256)
    np.testing.assert_allclose(found[1, 2], (CROPS[1, ..., 0] / 255 - 0.449) / 0.226, atol=1e-5)


def test_an_exported_network_answers_as_in_torch_and_is_timed_turn_by_turn():
    peer = Peer(lambda _: Brightest())
    model = to_onnx(peer, Brightest())
    _, session = open_first(("onnxruntime",), model, 1)
    entry = Entry("anomalib", {"onnxruntime": session}, {})
    bench_peers.measure({"brightest": entry}, rounds=2)
    found = session.run(CROPS[:1])
    session.close()
    score, anomaly_map = Graph(Brightest(), peer.outputs)(torch.from_numpy(CROPS[:1]))
    np.testing.assert_allclose(found["score"], score, atol=1e-5)
    np.testing.assert_allclose(found["anomaly_map"], anomaly_map, atol=1e-5)
    assert len(entry.ms["onnxruntime"]) == 2 * TURN


def test_the_ratio_is_of_the_float32_runners_of_the_fastest_anomaly_model():
    rows = {
        "bga/3": row("ours", **{"openvino": 0.5, "openvino:int8": 0.1}),
        "PaDiM": row("anomalib", openvino=80.0, onnxruntime=50.0),
        "STFPM": row("anomalib", openvino=60.0),
        "ResNet": row("classifier", openvino=9.0),
    }
    assert ratio(rows) == {"ratio": 0.01, "fastest": ["bga/3 openvino", "PaDiM onnxruntime"]}


def test_without_others_there_is_no_ratio():
    assert ratio({"bga/3": row("ours", openvino=0.5)}) == {"ratio": None, "fastest": None}
