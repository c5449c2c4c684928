import math

import numpy as np
import pytest
import torch

from edge_inspector.bundle import open_engine
from edge_inspector.errors import DataError, Misuse
from edge_inspector.manifest import Input
from edge_inspector.models.sensitive import Sensitive, SensitiveGraph
from edge_inspector.studies.dataset import load_crop, read_items
from edge_inspector.training import sensitive
from edge_inspector.training.data import GoodCrops, read_good
from edge_inspector.training.export import write_engine
from edge_inspector.training.plan import Plan


@pytest.fixture(autouse=True)
def one_thread():
    yield
    torch.set_num_threads(1)


def plan(**more):
    return Plan("sensitive", threads=1, **more)


@pytest.fixture(scope="module")
def taught(units):
    crops = read_good(units, 0)
    losses = []
    trained = sensitive.train(plan(steps=150), crops, lambda step, loss, best: losses.append(loss))
    return crops, trained, losses


def test_the_loss_falls_to_the_steps_that_were_asked_for(taught):
    _, trained, losses = taught
    assert trained.steps == len(losses) == 150
    assert np.mean(losses[-20:]) < 0.7 * np.mean(losses[10:30])
    assert trained.ended == "the 150 steps were taken"
    assert trained.sound


def test_a_missing_ball_scores_higher_than_good_units(taught, units):
    crops, trained, _ = taught
    bad = [load_crop(item.path, crops.shape) for item in read_items(units) if item.split == "test"]
    with torch.no_grad():
        good_scores, _ = trained.graph(crops.held_out)
        bad_scores, maps = trained.graph(torch.from_numpy(np.stack(bad)))
    assert bad_scores.median() > good_scores.max()
    # The ball that is missing is the fourth, at (46, 46) of 64 px.
    rows, columns = np.unravel_index(maps.flatten(1).argmax(dim=1).numpy(), maps.shape[1:])
    assert np.median(np.hypot(4 * rows + 2 - 46, 4 * columns + 2 - 46)) < 8


def test_the_engine_agrees_in_every_runtime(taught, tmp_path):
    crops, trained, _ = taught
    write_engine(tmp_path / "e", trained, crops, model_name="sensitive", seed=0)
    manifest = open_engine(tmp_path / "e").manifest
    assert (manifest.architecture, manifest.score) == ("sensitive", "odds")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [64, 128])
def test_cells_keep_their_place(side, channels):
    torch.manual_seed(0)
    network = Sensitive(side, side, channels).eval()
    crops = torch.randint(0, 255, (2, side, side, channels), dtype=torch.uint8)
    network.start(crops)
    cell = 2 * network.step
    with torch.no_grad():
        odds = network(crops)
    assert odds.shape == (2, 1, side // cell, side // cell)


def test_a_batch_scores_as_its_crops_alone():
    torch.manual_seed(0)
    graph = SensitiveGraph(Sensitive(64, 64, 1)).eval()
    crops = torch.randint(0, 255, (3, 64, 64, 1), dtype=torch.uint8)
    with torch.no_grad():
        graph.fit(crops)
        together = graph(crops)[0]
        alone = torch.cat([graph(crop[None])[0] for crop in crops])
    assert torch.allclose(together, alone, atol=1e-5)


def test_colours_are_read_as_a_network_without_interleaving_would():
    torch.manual_seed(0)
    network = Sensitive(64, 64, 3)
    crops = torch.randint(0, 255, (1, 64, 64, 3), dtype=torch.uint8)
    rows = crops.reshape(1, 1, 64, 192).float()
    conv = network.deviating
    kernel = conv.weight.reshape(16, 2, 2, 3).permute(0, 3, 1, 2)
    plain = torch.nn.functional.conv2d(
        crops.permute(0, 3, 1, 2).float(), kernel, conv.bias, stride=2
    )
    assert torch.allclose(conv(rows), plain, atol=1e-2)


def bright_square(x, side=64):
    crop = np.full((side, side), 40, np.float32)
    left = np.clip(np.arange(side) + 0.5 - (x - 10), 0, 1) * np.clip(
        x + 10 - np.arange(side) + 0.5, 0, 1
    )
    crop[22:42] += 150 * left
    return np.rint(crop).astype(np.uint8)


def test_the_edges_tell_px_to_the_right():
    """Lucas and Kanade: deviations weighed by the mean crop's edges add up to the motion."""
    network = Sensitive(64, 64, 1)
    rng = np.random.default_rng(0)
    good = np.stack([bright_square(32 + rng.normal(0, 0.5)) for _ in range(200)])
    network.start(torch.from_numpy(good[..., None]))

    def told(by):
        """Around the left edge of the square, at (11, 16) in half px: right and down."""
        half = network.halved(
            network._rows(torch.from_numpy(bright_square(32 + by)[None, ..., None]))
        )
        planes = network._deviation(half, "half_") * network.get_buffer("edges")
        return planes[0, :2, 14:19, 9:14].mean(dim=(1, 2)).tolist()

    none, some, twice, back = (told(by) for by in (0, 0.4, 0.8, -0.8))
    assert 0.2 < twice[0] < 0.9
    assert twice[0] == pytest.approx(2 * some[0], rel=0.25)
    assert back[0] == pytest.approx(-twice[0], rel=0.4)
    assert abs(none[0]) < 0.1 * twice[0]
    assert abs(twice[1]) < 0.1 * twice[0]


def test_brightness_and_contrast_say_nothing_where_they_are_taken_out():
    torch.manual_seed(0)
    network = Sensitive(64, 64, 1, standardise=True).eval()
    dim = torch.randint(0, 100, (4, 64, 64, 1), dtype=torch.uint8)
    network.start(dim)
    with torch.no_grad():
        assert torch.allclose(network(dim), network(2 * dim + 20), atol=1e-2)


def test_a_seed_reproduces_the_losses(units, monkeypatch):
    monkeypatch.setattr(sensitive, "ROUND", 3)
    crops = read_good(units, 0)
    first, again, other = (sensitive.train(plan(steps=6, seed=seed), crops) for seed in (1, 1, 2))
    assert first.losses == again.losses
    assert first.losses != other.losses


def test_the_losses_reported_are_of_crops_held_out(units, monkeypatch):
    monkeypatch.setattr(sensitive, "ROUND", 4)
    crops = read_good(units, 0)
    noise = torch.randint(0, 255, crops.held_out.shape, dtype=torch.uint8)
    strange = GoodCrops(crops.shape, crops.train, noise, (), crops.digest)
    told, others = [], []
    sensitive.train(plan(steps=9), crops, lambda *one: told.append(one))
    sensitive.train(plan(steps=9), strange, lambda *one: others.append(one))
    assert [one[1] for one in told] == [one[1] for one in others]
    assert [one[2] for one in told[3:]] != [one[2] for one in others[3:]]
    assert all(best == math.inf for _, _, best in told[:3])


def test_a_training_that_was_at_its_end_takes_no_further_step(units, tmp_path):
    crops = read_good(units, 0)
    first = sensitive.train(plan(steps=4, part=tmp_path), crops)
    again = sensitive.train(plan(steps=4, part=tmp_path, resume=True), crops)
    assert (again.steps, again.losses) == (4, first.losses)


@pytest.mark.parametrize("name", ["epochs", "beta", "alpha", "gamma"])
def test_options_that_it_has_no_use_for_are_refused(units, name):
    with pytest.raises(Misuse, match=f"--{name} 2: the model 'sensitive' has no use for it"):
        sensitive.train(plan(**{name: 2}), read_good(units, 0))


def test_a_training_that_was_cut_off_comes_to_the_same_end(units, tmp_path, monkeypatch):
    monkeypatch.setattr(sensitive, "ROUND", 1)
    crops = read_good(units, 0)
    whole = sensitive.train(plan(steps=8), crops)

    def cut(step, loss, best):
        if step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("edge_inspector.training.checkpoint.EVERY_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        sensitive.train(plan(steps=8, part=tmp_path), crops, cut)
    rest = sensitive.train(plan(steps=8, part=tmp_path, resume=True), crops)
    assert rest.losses == pytest.approx(whole.losses, rel=1e-6)


def test_a_loss_that_is_no_number_keeps_the_state_before(units, monkeypatch):
    whole = sensitive.faults_loss
    taken = []

    def broken(network, batch):
        taken.append(whole(network, batch))
        return taken[-1] * (math.nan if len(taken) == 5 else 1)

    monkeypatch.setattr(sensitive, "faults_loss", broken)
    trained = sensitive.train(plan(steps=9), read_good(units, 0))
    assert not trained.sound
    assert trained.ended == "the loss was nan at step 5, the state before is kept"
    assert all(p.isfinite().all() for p in trained.graph.parameters())


def test_a_loss_that_never_was_a_number_is_refused(units, monkeypatch):
    whole = sensitive.faults_loss
    monkeypatch.setattr(sensitive, "faults_loss", lambda *all: whole(*all) * math.nan)
    with pytest.raises(DataError, match="before anything was learned"):
        sensitive.train(plan(steps=9), read_good(units, 0))


def test_another_score_is_refused():
    crops = torch.zeros((2, 64, 64, 1), dtype=torch.uint8)
    shape = Input(height=64, width=64)
    with pytest.raises(Misuse, match="gives no score 'cosine'"):
        sensitive.train(plan(score="cosine"), GoodCrops(shape, crops, crops, (), "0" * 64))
