import json
from dataclasses import replace

import cv2
import numpy as np
import onnx
import pytest
import torch

from edge_inspector import parity
from edge_inspector.backends import open_first
from edge_inspector.bundle import open_engine
from edge_inspector.engines import whole
from edge_inspector.errors import Misuse, ParityError
from edge_inspector.manifest import Input
from edge_inspector.models.classifier import build
from edge_inspector.scorers.classifier import OUTPUTS, ClassifierScorer
from edge_inspector.studies.dataset import is_good
from edge_inspector.training import classifier_export, export, onnx_export
from edge_inspector.training.classifier import train
from edge_inspector.training.classifier_plan import ClassifierPlan
from edge_inspector.training.labelled import LabelledCrops, with_digest

CLASSES = ("good", "bright", "dark")
PLAN = ClassifierPlan("fusion", epochs=14, threads=1, vary=False, batch=8, half=False)


def shown(count, seed):
    """Noise, with a bright or a dark spot somewhere for the second and third class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    crops = rng.normal(120, 6, (count, 32, 32, 1))
    for crop, label in zip(crops, labels, strict=True):
        y, x = rng.integers(6, 20, 2)
        if label:
            crop[y : y + 7, x : x + 7] = 230 if label == 1 else 15
    return torch.from_numpy(crops.clip(0, 255).astype(np.uint8)), torch.from_numpy(labels)


@pytest.fixture(scope="module")
def crops():
    (train_crops, train_labels), (val, val_labels) = shown(120, 1), shown(72, 2)
    shape = Input(height=32, width=32)
    return with_digest(
        LabelledCrops(shape, CLASSES, train_crops, train_labels, val, val_labels, "")
    )


@pytest.fixture(scope="module")
def trained(crops):
    torch.set_num_threads(1)
    return train(PLAN, crops, lambda *told: None)


@pytest.fixture(scope="module")
def folder(trained, crops, tmp_path_factory):
    path = tmp_path_factory.mktemp("engines") / "spots" / "2"
    classifier_export.write_classifier(path, trained, crops, plan=PLAN)
    return path


def test_an_engine_opens_and_both_runtimes_pass_its_challenge(folder, crops):
    engine = open_engine(folder)
    assert (engine.title, engine.manifest.kind) == ("spots/2", "classifier")
    assert engine.manifest.classes == CLASSES
    assert engine.manifest.outputs == OUTPUTS
    assert engine.manifest.training_data_sha256 == crops.digest
    for name in export.RUNTIMES:
        _, session = open_first([name], engine.model, 1)
        parity.challenge(session, engine)
        session.close()


def test_runtimes_agree_on_probabilities_and_maps(folder, crops):
    engine = open_engine(folder)
    a, b = (open_first([name], engine.model, 1)[1] for name in export.RUNTIMES)
    found = parity.compare(a, b, crops.val.numpy())
    assert found.max_probability_difference < 1e-4
    assert found.max_map_difference <= export.MAP_AGREEMENT


def test_the_engine_names_the_crops_that_it_was_held_out_of(folder, crops):
    engine = open_engine(folder)
    _, session = open_first(["openvino"], engine.model, 1)
    found = session.run(crops.val.numpy())
    session.close()
    right = found["probabilities"].argmax(axis=1) == crops.val_labels.numpy()
    assert right.mean() > 0.9
    bad = crops.val_labels.numpy() > 0
    assert np.median(found["score"][bad]) > 0.9 > 0.1 > np.median(found["score"][~bad])


def test_the_class_map_shows_where_the_defect_is(folder, crops):
    engine = open_engine(folder)
    _, session = open_first(["openvino"], engine.model, 1)
    found = session.run(crops.val.numpy())
    session.close()
    side = 32 // found["anomaly_map"].shape[1]
    hits = []
    for crop, label, shown_at in zip(
        crops.val.numpy(), crops.val_labels.tolist(), found["anomaly_map"], strict=True
    ):
        if label:
            spots = np.argwhere(np.abs(crop[..., 0].astype(int) - 120) > 60)
            y, x = np.unravel_index(shown_at.argmax(), shown_at.shape)
            centre = spots.mean(axis=0)
            hits.append(np.abs(centre - [(y + 0.5) * side, (x + 0.5) * side]).max() < 8)
    assert np.mean(hits) > 0.8


def test_a_dense_head_learns_what_is_usual_from_the_good_crops_alone(trained, crops):
    network = build("scnn01", len(CLASSES), crops.shape, weights=None, seed=0)
    graph = classifier_export.graph_of(replace(trained, network=network), crops)
    good = crops.train[crops.train_labels == 0]
    with torch.no_grad():
        (maps,) = network.feature_maps(network.prepare(good))
    assert float(maps.mean(dim=0).abs().max()) > 1e-3
    torch.testing.assert_close(graph.network.head.usual, maps.mean(dim=0), rtol=1e-4, atol=1e-6)


def test_the_challenge_is_a_good_crop_and_a_defect_told_right(folder):
    engine = open_engine(folder)
    scorer = ClassifierScorer(open_first(["openvino"], engine.model, 1)[1], engine.manifest)
    good, bad = scorer.name_defects([whole(engine.good), whole(engine.bad)], [None] * 2)
    assert CLASSES[int(np.argmax(good.probabilities))] == "good"
    assert bad.defect_class in ("bright", "dark", "unknown")
    assert engine.manifest.challenge.bad_score > engine.manifest.challenge.good_score + 0.5


def test_figures_say_how_the_engine_was_made(folder, trained):
    figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    assert figures["images"] == {"train": 120, "generated": 0, "val": 72, "corrupt": 0}
    assert figures["classes"] == dict.fromkeys(CLASSES, 40)
    assert figures["weights"] == "from scratch"
    assert figures["epochs"] == len(figures["history"]) == trained.epochs
    assert set(figures["parity"]) == set(export.RUNTIMES)


def test_the_limit_of_unknown_comes_with_the_engine(folder):
    limits = open_engine(folder).manifest.unknown
    assert limits is not None
    assert limits.good is not None
    assert limits.good.crops >= 20
    assert limits.good.anomaly is None


def limits(trained, crops, anomaly=None):
    remarks: list[str] = []
    graph = classifier_export.graph_of(trained, crops)
    seen = classifier_export.look(export.TorchSession(graph, OUTPUTS), crops)
    return classifier_export.limits_of(seen, crops, anomaly, remarks), remarks


def test_too_few_validation_crops_leave_the_limit_out_and_say_so(trained, crops):
    few = replace(crops, val=crops.val[:9], val_labels=crops.val_labels[:9])
    found, remarks = limits(trained, few)
    assert found is None
    assert "no defect will be called unknown" in remarks[0]


def test_the_anomaly_engine_beside_takes_part(trained, crops, folder, tmp_path, tiny_engine):
    names = []
    for index, crop in enumerate(crops.val.numpy()):
        names.append(str(tmp_path / f"{index}.png"))
        cv2.imwrite(names[-1], crop)
    named = replace(crops, val_names=tuple(names))
    found, remarks = limits(trained, named, tiny_engine)
    assert found is not None
    assert found.good is not None
    assert found.good.anomaly is not None
    assert remarks == []
    with pytest.raises(Misuse, match="is a classifier engine; give an anomaly engine"):
        classifier_export.deviations(folder, named)


def test_novelty_learns_from_each_class_alike_and_from_no_generated_crop(
    trained, crops, monkeypatch
):
    monkeypatch.setattr(classifier_export, "SHOWN", 30)
    drawn = torch.full((50, 32, 32, 1), 255, dtype=torch.uint8)
    mixed = replace(
        crops,
        train=torch.cat([crops.train, drawn]),
        train_labels=torch.cat([crops.train_labels, torch.ones(50, dtype=torch.int64)]),
        generated=50,
    )
    plain = classifier_export.graph_of(trained, crops).novelty.state_dict()
    beside = classifier_export.graph_of(trained, mixed).novelty.state_dict()
    assert all(torch.equal(plain[name], beside[name]) for name in plain)


def test_runtimes_that_disagree_stop_the_export(trained, crops, tmp_path, monkeypatch):
    honest = onnx_export.to_onnx

    def other_weights(graph, shape, outputs):
        model = onnx.load_from_string(honest(graph, shape, outputs))
        bias = next(i for i in model.graph.initializer if i.name.endswith("last.bias"))
        values = onnx.numpy_helper.to_array(bias) + np.array([30, 0, 0], np.float32)
        bias.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), bias.name))
        return model.SerializeToString()

    monkeypatch.setattr(classifier_export, "to_onnx", other_weights)
    with pytest.raises(ParityError, match="and torch differ by"):
        classifier_export.write_classifier(tmp_path / "e", trained, crops, plan=PLAN)
    assert not (tmp_path / "e").exists()


def test_a_network_that_tells_nothing_apart_is_refused(trained, crops, tmp_path):
    dull = replace(crops, val=torch.full_like(crops.val, 120))
    with pytest.raises(ParityError, match="tells nothing apart"):
        classifier_export.write_classifier(tmp_path / "e", trained, dull, plan=PLAN)


def test_a_class_that_val_lacks_is_lent_by_train(trained, crops):
    kept = crops.val_labels != 0
    without = replace(crops, val=crops.val[kept], val_labels=crops.val_labels[kept])
    graph = classifier_export.graph_of(trained, without)
    seen = classifier_export.look(export.TorchSession(graph, OUTPUTS), without)
    good, bad = classifier_export.challenge_pair(seen, without)
    assert seen.labels[good] == 0
    assert not is_good(CLASSES[seen.labels[bad]])
