from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from edge_inspector.errors import Misuse
from edge_inspector.models.graph import EngineGraph
from edge_inspector.models.solder import SolderVae
from edge_inspector.studies.dataset import load_crops, read_items
from edge_inspector.training import anomaly
from edge_inspector.training.anomaly import train
from edge_inspector.training.data import read_good
from edge_inspector.training.export import prove
from edge_inspector.training.onnx_export import to_onnx
from edge_inspector.training.plan import Plan

SCORES = ("cosine", "elbo", "gradcon", "reconstruction", "residual")


@pytest.fixture(scope="module")
def crops(units):
    whole = read_good(units, 0, size=32)
    return replace(whole, train=whole.train[:24], held_out=whole.held_out[:6])


@pytest.fixture(scope="module")
def trained(crops):
    """One training; under the constraint, its network carries every score."""
    losses = []
    done = train(
        Plan("beta-vae", score="gradcon", steps=40, threads=1),
        crops,
        lambda step, loss, best: losses.append(loss),
    )
    torch.set_num_threads(1)
    return done, losses


@pytest.fixture(scope="module")
def defects(units, crops):
    missing = [item for item in read_items(units) if item.label == "missing"]
    return torch.from_numpy(np.stack([crop for _, crop in load_crops(missing, crops.shape, [])]))


def graph_of(trained, score, crops):
    network = trained.graph.network
    head = anomaly._head(score, network, Plan("beta-vae"))
    with torch.no_grad():
        head.fit([network.look(network.prepare(crops.train))])
    return EngineGraph(network, head).eval()


def test_the_loss_falls_under_the_constraint(trained):
    done, losses = trained
    assert done.steps == 40
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert done.graph.network.constraint.count > 0


@pytest.mark.parametrize("score", SCORES)
def test_each_score_tells_a_missing_ball_and_its_map_shows_it(trained, crops, defects, score):
    graph = graph_of(trained[0], score, crops)
    with torch.no_grad():
        good, _ = graph(crops.held_out)
        bad, where = graph(defects)
    assert (bad.min() > good.max()).item()
    rows, columns = np.unravel_index(where.flatten(1).argmax(dim=1).numpy(), where.shape[1:])
    assert (rows >= where.shape[1] // 2).all()
    assert (columns >= where.shape[2] // 2).all()


@pytest.mark.parametrize("score", ["elbo", "gradcon"])
def test_every_runtime_gives_the_scores_of_torch(trained, crops, score):
    graph = graph_of(trained[0], score, crops)
    model = to_onnx(graph, crops.shape)
    # Bicubic growth as a product, transposed convolutions as plain ones: nothing that is slow.
    nodes = onnx.load_from_string(model).graph.node
    assert {node.op_type for node in nodes if "Transpose" in node.op_type} <= {"Transpose"}
    modes = {a.s for node in nodes for a in node.attribute if a.name == "mode"}
    assert b"cubic" not in modes
    found = prove(graph, model, crops.held_out.numpy())
    assert set(found.differences) == {"onnxruntime", "openvino"}


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan("cae", score="elbo"), "'cae' gives no score 'elbo'; it gives cosine, gradcon"),
        (Plan("cae", beta=3.0), "--beta 3; the model 'cae' weighs no divergence"),
        (Plan("lean", score="gradcon"), "'lean' gives no score 'gradcon'"),
        (Plan("lean", beta=2.0), "--beta 2; the model 'lean' weighs no divergence"),
    ],
)
def test_what_a_model_cannot_do_is_refused(crops, plan, message):
    with pytest.raises(Misuse, match=message):
        train(plan, crops)


def test_the_autoencoder_without_distribution_trains(crops):
    done = train(Plan("cae", epochs=2, threads=1), crops)
    assert done.ended == "the 2 epochs were over"
    assert done.steps == 2
    assert len(done.losses) == 2


def test_a_plateau_divides_the_rate_by_ten_until_the_last(crops, monkeypatch):
    brief = replace(SolderVae.schedule, rates=(1e-9, 1e-10), patience=1, warm_steps=1)
    monkeypatch.setattr(SolderVae, "schedule", brief)
    done = train(Plan("solder-vae", threads=1), crops)
    assert done.ended == "the held-out loss no longer fell"


def test_half_of_the_crops_are_mirrored():
    batch = torch.arange(400 * 4, dtype=torch.int64).reshape(400, 2, 2, 1).to(torch.uint8)
    mirrored = anomaly._flipped(batch, torch.Generator().manual_seed(0))
    turned = (mirrored == batch.flip(2)).flatten(1).all(dim=1)
    kept = (mirrored == batch).flatten(1).all(dim=1)
    assert (turned ^ kept).all()
    assert 150 < turned.sum().item() < 250
