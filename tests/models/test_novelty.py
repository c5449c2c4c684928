import logging
import warnings

import numpy as np
import onnxruntime
import pytest
import torch

from edge_inspector.models.novelty import Novelty


@pytest.fixture
def fitted() -> tuple[Novelty, torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    labels = torch.arange(300) % 3
    centres = 4 * torch.eye(3, 16)
    embeddings = centres[labels] + 0.3 * torch.randn(300, 16)
    logits = embeddings[:, :3]
    novelty = Novelty()
    novelty.fit(embeddings, labels, logits)
    return novelty.eval(), embeddings, logits


def test_what_training_showed_is_nearer_than_what_lies_between_the_classes(fitted):
    novelty, embeddings, logits = fitted
    between = embeddings[:3].mean(dim=0, keepdim=True)

    known = novelty(embeddings, logits)

    assert float(novelty(between, between[:, :3])) > float(known.max())


def test_distance_grows_with_the_way_from_a_class(fitted):
    novelty, embeddings, logits = fitted
    away = torch.zeros(1, 16)
    away[0, 9] = 1.0
    steps = [novelty(embeddings[:1] + far * away, logits[:1]).item() for far in (1, 3, 9)]

    assert steps == sorted(steps)


def test_a_class_of_one_crop_is_known_too():
    torch.manual_seed(3)
    embeddings = torch.randn(41, 8).abs()
    labels = (torch.arange(41) == 40).long()
    embeddings[40] = 9 * torch.eye(8)[0]
    novelty = Novelty()
    novelty.fit(embeddings, labels, embeddings[:, :2])
    elsewhere = 9 * torch.eye(8)[1:2]

    alone, other = (novelty(at, at[:, :2]).item() for at in (embeddings[40:], elsewhere))

    assert alone < other


def test_a_dimension_that_never_moves_makes_no_number_break():
    embeddings = torch.zeros(40, 8)
    embeddings[:, 0] = torch.arange(40) % 2
    labels = torch.arange(40) % 2
    novelty = Novelty()
    novelty.fit(embeddings, labels, embeddings[:, :2])

    assert torch.isfinite(novelty(embeddings, embeddings[:, :2])).all()


def test_runs_in_a_graph_as_in_torch(fitted):
    novelty, embeddings, logits = fitted
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    free = {0: torch.export.Dim("n")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            novelty,
            (embeddings[:2], logits[:2]),
            dynamo=True,
            verbose=False,
            opset_version=18,
            dynamic_shapes=(free, free),
        )
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    values = (embeddings.numpy(), logits.numpy())
    given = {put.name: value for put, value in zip(session.get_inputs(), values, strict=False)}
    (found,) = session.run(None, given)

    assert np.abs(found - novelty(embeddings, logits).numpy()).max() < 1e-3
