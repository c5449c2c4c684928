import pytest
import torch

from edge_inspector.models.autoencoder import Look
from edge_inspector.models.heads import USUAL, ResidualHead
from edge_inspector.models.lean import GREY, Lean
from edge_inspector.models.measures import cosine
from edge_inspector.models.vae import Vae

NETWORKS = pytest.mark.parametrize("network", [Vae, Lean])


def some_crops(n=3, side=64, channels=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (n, side, side, channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@NETWORKS
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [64, 128])
def test_a_reconstruction_has_the_shape_of_what_was_prepared(network, channels, side):
    model = network(side, side, channels, standardise=False)
    x = model.prepare(some_crops(2, side, channels))
    assert model.reconstruct(x).shape == x.shape
    assert x.shape[2] // model.cell in (side // 2, side // 4)


@NETWORKS
def test_only_training_draws_the_latent(network):
    torch.manual_seed(0)
    model = network(64, 64, 1, standardise=False)
    x = model.prepare(some_crops())
    torch.testing.assert_close(model.reconstruct(x), model.reconstruct(x), rtol=0, atol=0)
    first, second = (model.elbo(x, torch.Generator().manual_seed(s)).item() for s in (1, 2))
    assert first != second


@NETWORKS
def test_standardised_crops_forget_brightness_and_contrast(network):
    model = network(64, 64, 1, standardise=True)
    crops = some_crops() // 4 + 40
    other = crops * 2 + 20
    torch.testing.assert_close(model.prepare(crops), model.prepare(other), rtol=0, atol=2e-3)


def test_unshuffling_keeps_every_pixel_of_its_place():
    model = Lean(128, 128, 3, standardise=False)
    crops = some_crops(1, 128, 3)
    x = model.prepare(crops)
    assert x.shape == (1, 48, 32, 32)
    block = crops[0, 8:12, 20:24].reshape(-1).float()
    torch.testing.assert_close(x[0, :, 2, 5] * GREY, block)


def test_a_lean_network_starts_at_the_mean_of_the_good_crops():
    model = Lean(64, 64, 1, standardise=False)
    mean = model.prepare(some_crops(8)).mean(dim=0)
    model.start(mean)
    torch.testing.assert_close(model.picture[0], mean)


def test_the_vae_has_the_sizes_that_the_paper_prints():
    model = Vae(256, 256, 1, standardise=False)
    mean, log_variance = model.encode(torch.zeros(1, 1, 256, 256))
    assert mean.shape == log_variance.shape == (1, 2)
    convolutions = [tuple(p.shape[:2]) for p in model.encoder.parameters() if p.dim() == 4]
    assert convolutions == [(16, 1), (32, 16), (16, 32)]
    assert model.decoder[0].out_features == 64 * 64 * 32


def test_cosine_score_is_one_minus_the_cosine():
    x, decoded = (
        torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(s)) for s in (0, 1)
    )
    score, _ = cosine(Look(x, decoded), 4)
    similarity = torch.nn.functional.cosine_similarity(x.flatten(1), decoded.flatten(1))
    torch.testing.assert_close(score, 1 - similarity, rtol=1e-4, atol=1e-6)


def usual_pairs(n=64):
    generator = torch.Generator().manual_seed(0)
    decoded = torch.zeros(n, 4, 16, 16)
    noise = torch.randn(n, 4, 16, 16, generator=generator)
    noise[:, :, 8:] *= 5
    return noise, decoded


def test_residual_is_measured_against_what_is_usual_at_its_place():
    x, decoded = usual_pairs()
    head = ResidualHead(cell=1)
    head.fit([Look(x, decoded)])
    quiet, restless = torch.zeros(1, 4, 16, 16), torch.zeros(1, 4, 16, 16)
    quiet[0, :, 3, 3] = 6.0
    restless[0, :, 12, 3] = 6.0
    quiet_score, restless_score = (
        head(Look(each, decoded[:1]))[0].item() for each in (quiet, restless)
    )
    assert quiet_score > 3 * max(restless_score, 0.1)


def test_the_map_peaks_where_the_residual_is_and_shows_good_crops_as_usual():
    x, decoded = usual_pairs()
    head = ResidualHead(cell=1)
    head.fit([Look(x, decoded)])
    _, usual = head(Look(x, decoded))
    assert abs(usual.amax(dim=(1, 2)).float().median().item() - USUAL) <= 2
    odd = x[:1].clone()
    odd[0, :, 4, 10] += 20
    _, found = head(Look(odd, decoded[:1]))
    row, column = divmod(int(found[0].flatten().argmax()), 16)
    assert abs(row - 4) <= 1
    assert abs(column - 10) <= 1
    assert found.dtype == torch.uint8


def test_what_a_network_reconstructs_too_well_is_still_found():
    x, decoded = usual_pairs()
    head = ResidualHead(cell=1)
    head.fit([Look(x, decoded)])
    odd = x[:1].clone()
    odd[0, :, 4, 10] += 20
    score, _ = head(Look(odd, odd))
    assert score.item() > 3 * head(Look(x, decoded))[0].max().item()
