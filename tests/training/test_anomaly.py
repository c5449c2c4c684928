import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from edge_inspector.errors import DataError, Misuse
from edge_inspector.manifest import Input
from edge_inspector.models.lean import Lean
from edge_inspector.training import anomaly
from edge_inspector.training.anomaly import train
from edge_inspector.training.data import GoodCrops, read_good
from edge_inspector.training.plan import Plan


@pytest.fixture(autouse=True)
def one_thread():
    yield
    torch.set_num_threads(1)


def plan(model="lean", **more):
    return Plan(model, threads=1, **more)


def hurry(monkeypatch, **more):
    monkeypatch.setattr(Lean, "schedule", replace(Lean.schedule, **more))


@pytest.fixture
def brief(monkeypatch):
    """A schedule that is over in 60 steps."""
    hurry(monkeypatch, round_steps=10, patience=1, warm_steps=10)


@pytest.mark.parametrize("model", ["lean", "vae"])
def test_the_held_out_loss_falls(units, model):
    losses = []
    trained = train(
        plan(model, steps=40), read_good(units, 0), lambda step, loss, best: losses.append(loss)
    )
    assert trained.steps == len(losses) == 40
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.01
    assert trained.ended == "the 40 steps were taken"


def test_training_ends_with_its_minutes(units):
    trained = train(plan(minutes=1e-4), read_good(units, 0))
    assert trained.steps == 1
    assert trained.ended == "the 0.0001 minutes were over"


def test_training_stops_by_itself(units, brief, monkeypatch):
    hurry(monkeypatch, rates=(1e-9, 1e-9))
    trained = train(plan(), read_good(units, 0))
    assert trained.ended == "the held-out loss no longer fell"
    assert trained.steps <= 60


def test_a_seed_reproduces_the_engine(units, brief, monkeypatch):
    hurry(monkeypatch, rates=(1e-9,))
    crops = read_good(units, 0)
    first, again, other = (train(plan(seed=seed), crops) for seed in (3, 3, 4))
    assert first.losses == again.losses
    assert first.losses != other.losses


def poisoned(crops, at):
    """A loss that is no number from step `at` on."""
    step = anomaly._step
    taken = []

    def bad_step(*arguments):
        taken.append(step(*arguments))
        return math.nan if len(taken) >= at else taken[-1]

    return bad_step


def test_a_loss_that_is_no_number_ends_training_and_keeps_the_last_good_state(
    units, brief, monkeypatch
):
    crops = read_good(units, 0)
    monkeypatch.setattr(anomaly, "_step", poisoned(crops, 25))
    trained = train(plan(), crops)
    assert not trained.sound
    assert "nan at step 25" in trained.ended
    assert all(p.isfinite().all() for p in trained.graph.parameters())


def test_a_loss_that_never_was_a_number_is_an_error(units, monkeypatch):
    crops = read_good(units, 0)
    monkeypatch.setattr(anomaly, "_step", poisoned(crops, 1))
    with pytest.raises(DataError, match="nan at step 1"):
        train(plan(), crops)


def test_crops_that_are_all_the_same_still_train(brief):
    same = torch.full((4, 64, 64, 1), 80, dtype=torch.uint8)
    shape = Input(height=64, width=64)
    trained = train(plan(), GoodCrops(shape, same, same[:1], (), "0" * 64))
    assert all(math.isfinite(loss) for loss in trained.losses)


def test_unknown_models_and_scores_are_named(units):
    crops = read_good(units, 0)
    with pytest.raises(Misuse, match=r"unknown model 'gan'; known: .*lean.*vae"):
        train(plan("gan"), crops)
    with pytest.raises(Misuse, match="'lean' gives no score 'ssim'; it gives cosine, rec"):
        train(plan(score="ssim"), crops)
