import pytest
import torch

from edge_inspector.manifest import Input
from edge_inspector.models.classifier import build
from edge_inspector.models.classifier_graph import ClassifierGraph
from edge_inspector.models.novelty import Novelty

SHAPE = Input(height=32, width=32)
CROPS = torch.randint(
    0, 256, (12, 32, 32, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
)


def graph(name, good=0, classes=4):
    torch.set_num_threads(1)
    network = build(name, classes, SHAPE, weights=None, seed=1).eval()
    with torch.no_grad():
        embedding = network.embed(network.feature_maps(network.prepare(CROPS)))
        novelty = Novelty()
        novelty.fit(embedding, torch.arange(12) % classes, network.logits(embedding))
    return ClassifierGraph(network, novelty, good)


def answers(built, crops=CROPS):
    with torch.no_grad():
        return built(crops)


@pytest.mark.parametrize("name", ["scnn02", "fusion+cbam"])
def test_the_score_is_what_is_left_by_the_good_class(name):
    score, _, probabilities, novelty = answers(graph(name, good=1))
    assert torch.allclose(score, 1 - probabilities[:, 1], atol=1e-6)
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(12))
    assert novelty.shape == (12,)


@pytest.mark.parametrize("name", ["scnn02", "fusion"])
def test_the_map_shows_the_most_probable_defect_and_never_the_good_class(name):
    built = graph(name, good=0)
    network = built.network
    with torch.no_grad():
        maps = network.feature_maps(network.prepare(CROPS))
        every = network.class_maps(maps, network.embed(maps))
    _, found, probabilities, _ = answers(built)
    chosen = probabilities[:, 1:].argmax(dim=1) + 1
    for crop, place in enumerate(chosen.tolist()):
        wanted = every[crop, place].clamp(min=0)
        level = 255 * wanted / wanted.max().clamp(min=1e-3)
        assert (found[crop].float() - level).abs().max() <= 1


def test_without_a_good_class_what_is_strange_scores_higher():
    built = graph("scnn01", good=None)
    score, _, _, novelty = answers(built)
    assert torch.equal(score.argsort(), novelty.argsort())
    assert 0 <= score.min() <= score.max() < 1


def test_scores_of_good_crops_keep_their_order_far_below_one():
    built = graph("scnn01")
    last = built.network.head.last
    with torch.no_grad():
        last.bias[0] += 25  # 1 - P(good) is 1e-11, which a float32 cannot tell from 0
    score, *_ = answers(built)
    assert 0 < score.min() < score.max() < 1e-8
