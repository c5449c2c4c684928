import numpy as np
import onnx
import pytest
import torch

from edge_inspector.backends import open_first
from edge_inspector.bundle import open_engine
from edge_inspector.errors import DataError, Misuse
from edge_inspector.models.efficientnet_lite import EfficientNetLite0, prepare
from edge_inspector.models.features import Places, covariances, joined
from edge_inspector.models.peers import Padim, PatchCore
from edge_inspector.training import export
from edge_inspector.training.data import read_good
from edge_inspector.training.peers import coreset, train_padim, train_patchcore
from edge_inspector.training.plan import Plan
from edge_inspector.training.sure import train

LOOPS = {"sure": train, "padim": train_padim, "patchcore": train_patchcore}


@pytest.fixture(scope="module")
def crops(units):
    return read_good(units, 0)


@pytest.fixture(scope="module")
def weights(crops, tmp_path_factory):
    """A backbone that was never taught: random filters tell balls apart too."""
    torch.manual_seed(3)
    file = tmp_path_factory.mktemp("weights") / "random.pth"
    network = EfficientNetLite0((13,)).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():  # statistics of real crops, so that features keep their spread
        network(prepare(crops.train[:16]))
    torch.save(network.state_dict(), file)
    return file


@pytest.fixture(scope="module", params=list(LOOPS))
def built(request, crops, weights, tmp_path_factory):
    name = request.param
    trained = LOOPS[name](Plan(name, weights=weights, threads=1), crops)
    folder = tmp_path_factory.mktemp("engines") / name
    export.write_engine(folder, trained, crops, model_name=name, seed=0)
    return folder, trained


def test_an_engine_of_features_is_plain_onnx_that_both_runtimes_agree_on(built, crops):
    model = onnx.load(str(built[0] / "model.onnx"))
    assert {opset.domain for opset in model.opset_import} == {""}
    engine = open_engine(built[0])
    for name in export.RUNTIMES:
        _, session = open_first([name], engine.model, 1)
        one = session.run(engine.bad[None])
        many = session.run(np.stack([engine.good, engine.bad, engine.good]))
        session.close()
        assert many["score"][1] == pytest.approx(one["score"][0], rel=1e-4)
        assert many["anomaly_map"].shape[0] == 3


def test_a_unit_half_of_which_is_inverted_scores_above_good_ones(built, crops):
    graph = export.TorchSession(built[1].graph)
    good = crops.held_out.numpy()
    bad = good.copy()
    bad[:, :, 32:] = 255 - bad[:, :, 32:]
    assert graph.run(bad)["score"].min() > graph.run(good)["score"].max()


@pytest.mark.parametrize("name", list(LOOPS))
def test_seeds_reproduce(name, crops, weights):
    held_out = crops.held_out.numpy()
    first, second = (
        export.TorchSession(LOOPS[name](Plan(name, weights=weights, threads=1), crops).graph)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.run(held_out)["score"], second.run(held_out)["score"])


def test_sides_that_the_backbone_cannot_halve_are_refused(units, weights):
    crops = read_good(units, 0, size=48)
    with pytest.raises(Misuse, match=r"--size 48: sure needs a multiple of 32 px"):
        train(Plan("sure", weights=weights), crops)


def test_weights_that_do_not_fit_and_scores_of_other_models_are_refused(crops, tmp_path):
    file = tmp_path / "small.pth"
    torch.save(EfficientNetLite0((2,)).state_dict(), file)
    with pytest.raises(DataError, match=r"no '_blocks\.3\._expand_conv\.weight'"):
        train(Plan("sure", weights=file), crops)
    with pytest.raises(Misuse, match="--score cosine: sure has the score 'residual' alone"):
        train(Plan("sure", weights=file, score="cosine"), crops)


def some_levels(n=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(n, 5, 4, 4, generator=generator),
        torch.randn(n, 3, 2, 2, generator=generator),
    ]


def test_the_bank_is_a_plain_nearest_neighbour():
    levels = some_levels()
    bank = torch.randn(40, 8, generator=torch.Generator().manual_seed(1))
    found = PatchCore(bank.mean(dim=0), bank)(levels).numpy()
    at = joined(levels).permute(0, 2, 3, 1).reshape(-1, 8).numpy()
    nearest = np.linalg.norm(at[:, None] - bank.numpy()[None], axis=2).min(axis=1)
    np.testing.assert_allclose(found.ravel(), nearest, rtol=1e-4)


def test_places_are_plain_mahalanobis_distances():
    levels, good = some_levels(), some_levels(60, seed=2)
    judge = Padim(torch.tensor([0, 2, 6]))
    features = judge.reduced(good)
    mean = features.mean(dim=0)
    judge.places.fit(mean, covariances(features - mean, 0.0, 0.01))
    found = judge(levels).numpy()
    rows, sample = judge.reduced(levels).numpy(), features.numpy()
    ridge = 0.01 * np.mean([np.cov(sample[:, :, y, x].T, bias=True).diagonal().mean()
                            for y in range(4) for x in range(4)])  # fmt: skip
    for y, x in [(0, 0), (1, 3), (3, 2)]:
        cov = np.cov(sample[:, :, y, x].T, bias=True) + ridge * np.eye(3)
        away = rows[:, :, y, x] - sample[:, :, y, x].mean(axis=0)
        plain = np.sqrt((away @ np.linalg.inv(cov) * away).sum(axis=1) / 3)
        np.testing.assert_allclose(found[:, 0, y, x], plain, rtol=1e-3)


def test_shared_covariance_is_the_same_at_all_places():
    deviations = some_levels(20)[0]
    shared = covariances(deviations, 1.0, 0.0)
    torch.testing.assert_close(shared, shared[:1].expand_as(shared))
    place = Places()
    place.fit(torch.zeros(5, 4, 4), shared)
    assert place(deviations).mean().item() == pytest.approx(1.0, rel=1e-4)


def test_a_coreset_takes_what_is_far_from_all_it_has():
    rows = torch.cat([torch.zeros(50, 6), torch.eye(6) * 10])
    rows += 0.01 * torch.randn(rows.shape, generator=torch.Generator().manual_seed(0))
    chosen = coreset(rows, 7, torch.Generator().manual_seed(0))
    assert set(range(50, 56)) <= set(chosen.tolist())
    assert len(coreset(rows, 100, torch.Generator())) == 56
