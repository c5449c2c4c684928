"""Defective units among the good ones: 3 % of the training images lack a ball, at one place."""

import json

import pytest
import torch

from edge_inspector.cli.main import main
from edge_inspector.models.autoencoder import Look
from edge_inspector.models.heads import ResidualHead
from edge_inspector.studies.dataset import read_items
from edge_inspector.studies.evaluate import evaluate, open_target
from edge_inspector.training.data import read_good
from edge_inspector.training.robust import usual_ones


@pytest.fixture(autouse=True)
def one_thread():
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def engine(spoiled, tmp_path_factory):
    out = tmp_path_factory.mktemp("engine") / "e"
    words = ["--model", "lean", "--steps", "40", "--threads", "1", "--out", str(out)]
    assert main(["train", "anomaly", "--data", str(spoiled), *words]) == 0
    return out


def test_the_others_like_them_are_found_still(spoiled, engine):
    with open_target(engine, ["onnxruntime"]) as target:
        report = evaluate(read_items(spoiled), target, "test", overkill=0.025)
    assert report["auroc"] > 0.99
    assert report["recall"] > 0.95


def test_they_are_named_for_a_person_to_look_at(engine):
    suspects = json.loads((engine / "figures.json").read_text(encoding="utf-8"))["suspects"]
    names = [name.rsplit("/", 1)[-1] for name in suspects]
    assert set(names[:6]) == {f"good-train{number}.png" for number in range(6)}
    assert list(suspects.values()) == sorted(suspects.values(), reverse=True)


def looked_at(data):
    """Training crops beside the mean of those that are good."""
    x = read_good(data, 0).train.permute(0, 3, 1, 2) / 64.0
    return [Look(part, x[6:].mean(dim=0).expand_as(part)) for part in torch.split(x, 32)]


def test_the_head_does_not_learn_from_them(spoiled):
    looks = looked_at(spoiled)
    plain, wary = ResidualHead(1), ResidualHead(1)
    plain.fit(looks)
    wary.fit(usual_ones(looks, 1))

    def margin(head):
        score = torch.cat([head(look)[0] for look in looks])
        return score[:6].min() / score[6:].max()

    assert margin(plain) < 1 < 3 < margin(wary)


def test_a_clean_set_keeps_all_its_crops(units):
    looks = looked_at(units)
    assert sum(len(look.x) for look in usual_ones(looks, 1)) == 48
