import pytest
import torch
from torch.nn import functional

from edge_inspector.models.gradcon import Constraint, kernel_gradient, laid_out
from edge_inspector.models.measures import elbo, gradcon, reconstruction
from edge_inspector.models.solder import BetaVae, Bicubic, Cae, SolderVae

NETWORKS = pytest.mark.parametrize("network", [SolderVae, BetaVae, Cae])


def some_crops(n=3, side=64, channels=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (n, side, side, channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def network_of(kind, side=64, channels=1, standardise=False, constrained=False):
    """A network that has seen some crops, so that its norms are not those of the start."""
    torch.manual_seed(0)
    model = kind(side, side, channels, standardise=standardise)
    model.look(model.prepare(some_crops(4, side, channels)))
    if constrained:
        model.constraint = Constraint(model.kernels(), alpha=0.03)
        for mean in model.constraint.means():
            mean.copy_(torch.randn_like(mean))
    return model.eval()


@NETWORKS
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [48, 64])
def test_pixels_come_back_in_their_shape_and_range(network, channels, side):
    model = network_of(network, side, channels)
    x = model.prepare(some_crops(2, side, channels))
    decoded = model.reconstruct(x)
    assert decoded.shape == x.shape == (2, channels, side, side)
    assert x.abs().max() <= 1
    assert decoded.abs().max() <= 1


def test_the_latent_has_the_640_numbers_that_the_paper_prints():
    model = network_of(SolderVae)
    mean, log_variance = model.encode(torch.zeros(1, 1, 64, 64))
    assert mean.shape == log_variance.shape == (1, 10, 8, 8)


def test_there_are_as_many_layers_as_the_paper_prints():
    model = network_of(SolderVae, channels=3)
    kinds = [type(module).__name__ for module in model.modules()]
    assert kinds.count("MaxPool2d") == kinds.count("Bicubic") == 3
    kernels = [module.weight for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(kernels) == 5 + 2 + 6
    assert {kernel.shape[2:] for kernel in kernels} == {(3, 3)}
    assert [kernel.shape[0] for kernel in kernels[:5]] == sorted(k.shape[0] for k in kernels[:5])
    assert (kernels[0].shape[1], kernels[4].shape[0]) == (3, 256)


def test_a_transposed_convolution_of_stride_one_is_a_convolution():
    layer = network_of(SolderVae).decoder.last
    x = torch.randn(2, layer.in_channels, 9, 7)
    turned = layer.weight.flip(2, 3).transpose(0, 1)
    transposed = functional.conv_transpose2d(x, turned, layer.bias, padding=1)
    torch.testing.assert_close(layer(x), transposed)


@pytest.mark.parametrize("size", [(8, 8), (6, 20)])
def test_growth_is_torchs_bicubic_and_so_is_its_gradient(size):
    x = torch.randn(2, 3, *size, requires_grad=True)
    grow = Bicubic(*size)
    grown = functional.interpolate(x, scale_factor=2, mode="bicubic")
    torch.testing.assert_close(grow(x), grown)
    error = torch.randn_like(grown)
    (expected,) = torch.autograd.grad(grown, x, error)
    torch.testing.assert_close(grow.back(error), expected)


def test_standardised_crops_forget_brightness_and_contrast_and_stay_in_range():
    model = network_of(SolderVae, standardise=True)
    crops = some_crops() // 4 + 40
    first, second = model.prepare(crops), model.prepare(crops * 2 + 20)
    torch.testing.assert_close(first, second, rtol=0, atol=2e-3)
    spike = torch.full((1, 64, 64, 1), 10, dtype=torch.uint8)
    spike[0, 0, 0] = 250
    assert model.prepare(spike).max() == 1


def test_beta_weighs_the_divergence_in_loss_and_score():
    model = network_of(SolderVae)
    x = model.prepare(some_crops())
    parts = []
    for beta in (0.0, 1.0, 3.0):
        model.beta = beta
        parts.append((model.elbo(x, None).item(), elbo(model.look(x), 4)[0].mean().item()))
    (bare, _), (once, _), (thrice, _) = parts
    assert once > bare
    assert thrice - bare == pytest.approx(3 * (once - bare), rel=1e-3)
    for loss, score in parts:
        assert score == pytest.approx(loss, rel=1e-4)
    assert network_of(BetaVae).beta == 3.0


def test_the_elbo_is_the_closed_form_of_the_normal_distribution():
    model = network_of(SolderVae)
    x = model.prepare(some_crops())
    mean, log_variance = model.encode(x)
    latent = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    normal = torch.distributions.Normal(torch.zeros(()), torch.ones(()))
    divergence = torch.distributions.kl_divergence(latent, normal).flatten(1).sum(dim=1)
    plain = reconstruction(model.look(x), 4)[0]
    torch.testing.assert_close(elbo(model.look(x), 4)[0], plain + divergence / x[0].numel())


def test_a_bottleneck_without_distribution_has_no_divergence():
    assert network_of(Cae).look(torch.zeros(1, 1, 64, 64)).divergence is None


@pytest.mark.parametrize(("inner", "outer"), [(3, 5), (5, 3), (4, 4)])
def test_a_kernels_gradient_by_plain_operations_is_autograds(inner, outer):
    layer = torch.nn.Conv2d(inner, outer, 3, padding=1)
    taken, error = torch.randn(2, inner, 9, 6), torch.randn(2, outer, 9, 6)
    found = kernel_gradient(taken, error)
    for index in range(2):
        one = slice(index, index + 1)
        (expected,) = torch.autograd.grad(layer(taken[one]), layer.weight, error[one])
        torch.testing.assert_close(found[index], laid_out(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
@NETWORKS
def test_the_gradient_of_every_decoder_layer_is_autograds(network, channels):
    model = network_of(network, 48, channels)
    x = model.prepare(some_crops(2, 48, channels))
    latent = model.encode(x)[0].detach()
    found = model.decoder.gradients(latent, x)
    assert len(found) == len(model.kernels()) == 6
    for index in range(2):
        squared = (model.decode(latent[index : index + 1]) - x[index : index + 1]).square()
        expected = torch.autograd.grad(0.5 * squared.sum(), model.kernels())
        for mine, theirs in zip(found, expected, strict=True):
            scale = theirs.abs().max().item()
            torch.testing.assert_close(mine[index], laid_out(theirs), rtol=1e-3, atol=1e-5 * scale)


def test_the_gradient_term_is_minus_the_mean_cosine_over_layers():
    model = network_of(SolderVae, constrained=True)
    x = model.prepare(some_crops(1))
    latent = model.encode(x)[0].detach()
    squared = (model.decode(latent) - x).square().mean()
    gradients = torch.autograd.grad(squared, model.kernels())
    cosines = [
        functional.cosine_similarity(mean.flatten(), gradient.flatten(), dim=0)
        for mean, gradient in zip(model.constraint.means(), gradients, strict=True)
    ]
    look = model.look(x)
    assert look.constraint.item() == pytest.approx(-torch.stack(cosines).sum().item() / 6, abs=1e-5)
    plain, score = reconstruction(look, 4)[0], gradcon(look, 4, gamma=0.5)[0]
    torch.testing.assert_close(score, plain + 0.5 * look.constraint)


def test_crops_of_a_batch_score_as_each_alone():
    model = network_of(SolderVae, constrained=True)
    x = model.prepare(some_crops(4))
    together = model.look(x).constraint
    alone = torch.cat([model.look(each[None]).constraint for each in x])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_the_constraint_keeps_the_running_mean_of_the_gradients():
    kernel = torch.nn.Parameter(torch.ones(2, 1, 3, 3))
    constraint = Constraint([kernel], alpha=0.03)
    steps = [torch.randn(2, 1, 3, 3) for _ in range(3)]
    for gradient in steps:
        kernel.grad = gradient
        constraint.learn([kernel])
    torch.testing.assert_close(constraint.means()[0], torch.stack(steps).mean(dim=0))


def test_the_constraint_pulls_gradients_towards_their_mean():
    torch.manual_seed(0)
    kernel = torch.nn.Parameter(torch.randn(2, 1, 3, 3))
    constraint = Constraint([kernel], alpha=0.03)

    def loss():
        return (kernel.square() * torch.arange(18.0).reshape(2, 1, 3, 3)).sum()

    assert constraint.of_batch(loss(), [kernel]).item() == 0
    kernel.grad = torch.randn(2, 1, 3, 3)
    constraint.learn([kernel])
    before = constraint.of_batch(loss(), [kernel])
    (slope,) = torch.autograd.grad(before, kernel)
    with torch.no_grad():
        kernel.sub_(0.01 * slope / slope.norm())
    assert constraint.of_batch(loss(), [kernel]).item() < before.item()
