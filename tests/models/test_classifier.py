import warnings
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from torch import nn

from edge_inspector.errors import Breakage, DataError, Misuse
from edge_inspector.manifest import Input
from edge_inspector.models.backbones import BACKBONES, SCRATCH
from edge_inspector.models.classifier import CBAM, CLASSIFIERS, ClassifierNet, build

SMALL = ("scnn01", "scnn02", "scnn03", "fusion")
ALL = pytest.mark.parametrize("name", [name + end for name in CLASSIFIERS for end in ("", CBAM)])


def shape(height=48, width=64, channels=1):
    return Input(height=height, width=width, channels=channels)


def network(name, size=None, *, classes=3, weights=None, pretrained=False, seed=0):
    built = build(name, classes, size or shape(), weights=weights, pretrained=pretrained, seed=seed)
    return built.eval()


def crops(size=None, n=2, seed=0):
    size = size or shape()
    generator = torch.Generator().manual_seed(seed)
    pixels = (n, size.height, size.width, size.channels)
    return torch.randint(0, 256, pixels, dtype=torch.uint8, generator=generator)


def seen(net, batch):
    with torch.no_grad():
        maps = net.feature_maps(net.prepare(batch))
        embedding = net.embed(maps)
        return maps, embedding, net.logits(embedding)


@ALL
def test_every_network_tells_classes_and_their_maps_at_the_smallest_size_it_takes(name):
    size = shape(32, 32, 3)
    net = network(name, size)
    maps, embedding, logits = seen(net, crops(size))
    with torch.no_grad():
        spoken = net.class_maps(maps, embedding)
        chosen = net.class_maps(maps, embedding, torch.tensor([2, 0]))
        torch.testing.assert_close(net(crops(size)), logits)
    assert logits.shape == (2, 3)
    assert spoken.shape == (2, 3, *maps[0].shape[2:])
    torch.testing.assert_close(chosen[:, 0], spoken[[0, 1], [2, 0]], rtol=1e-4, atol=1e-6)
    assert torch.isfinite(spoken).all()
    assert embedding.shape[1] == net.head.last.in_features


@pytest.mark.parametrize(
    ("name", "count"), [("scnn01", 89_719_878), ("scnn02", 43_674_886), ("scnn03", 20_171_846)]
)
def test_the_simple_networks_have_as_many_parameters_as_the_paper_prints(name, count):
    with torch.device("meta"):
        net = network(name, shape(299, 299), classes=6)
    assert sum(p.numel() for p in net.parameters()) == count


def test_fine_tuned_networks_have_the_dropout_and_size_of_the_paper():
    net = network("inception-v3", shape(299, 299), classes=6)
    assert net.head.dropout.p == 0.2
    assert net.prepared.size is None
    # Keras counts the running statistics too, and has no scale in the norms of this network.
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    keras = sum(p.numel() for p in net.parameters()) + sum(m.num_features for m in norms)
    assert keras == 21_815_078


@pytest.mark.parametrize("name", ["fusion", "fusion+cbam", "mobilenet-v2", "resnet50+cbam"])
def test_the_mean_of_a_class_map_and_the_bias_are_the_logit(name):
    size = shape(64, 96)
    net = network(name, size)
    maps, embedding, logits = seen(net, crops(size))
    with torch.no_grad():
        told = net.class_maps(maps, embedding).mean(dim=(2, 3)) + net.head.last.bias
    torch.testing.assert_close(told, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["scnn01", "scnn02+cbam", "scnn03"])
def test_the_class_map_of_a_dense_head_is_gradient_times_activation(name):
    net = network(name)
    (last,), embedding, _ = seen(net, crops())
    asked = last.requires_grad_()
    logits = net.logits(net.embed([asked]))
    for index in range(3):
        (gradient,) = torch.autograd.grad(logits[:, index].sum(), asked, retain_graph=True)
        wanted = (gradient * asked).sum(dim=1)
        found = net.class_maps([asked], embedding)[:, index]
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-7)
        assert wanted.abs().max() > 1e-4


def test_what_every_good_crop_has_is_no_part_of_a_dense_class_map():
    net = network("scnn01")
    maps, embedding, _ = seen(net, crops())
    before = net.class_maps(maps, embedding).detach()
    net.head.usual = maps[0][0].detach()
    after = net.class_maps(maps, embedding).detach()
    assert float(before[0].abs().max()) > 1e-4
    assert not after[0].any(), "the crop that is the usual one"
    assert float(after[1].abs().max()) > 1e-4


def test_each_branch_of_the_fusion_sees_its_own_scale():
    net = network("fusion", shape(64, 64))
    checks = torch.zeros(1, 64, 64, 1, dtype=torch.uint8)
    checks[:, ::2, ::2], checks[:, 1::2, 1::2] = 255, 255
    flat = torch.full_like(checks, 127)
    maps, _, _ = seen(net, torch.cat([checks, flat]))
    assert [m.shape[2:] for m in maps] == [(8, 8), (4, 4), (2, 2)]
    differences = [float((m[0] - m[1]).abs().max()) for m in maps]
    assert differences[0] > 10 * max(differences[1:])


@pytest.mark.parametrize("name", ["scnn03", "fusion"])
def test_the_same_seed_builds_the_same_network_and_leaves_other_draws_alone(name):
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    first, second, third = (network(name, seed=s) for s in (1, 1, 2))
    assert torch.rand(1) == wanted
    batch = crops()
    with torch.no_grad():
        assert torch.equal(first(batch), second(batch))
        assert not torch.equal(first(batch), third(batch))


@pytest.mark.parametrize("name", ["mobilenet-v2", "efficientnet-lite0"])
def test_grey_is_seen_as_colour_of_equal_channels(name):
    grey, colour = network(name), network(name, shape(channels=3))
    batch = crops()
    torch.testing.assert_close(
        grey.prepare(batch), colour.prepare(batch.expand(-1, -1, -1, 3)), rtol=0, atol=1e-5
    )


def test_blue_green_red_is_turned_to_red_green_blue_and_normalised():
    blue = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    blue[..., 0] = 255
    found = network("resnet50", shape(32, 32, 3)).prepare(blue)[0, :, 0, 0]
    wanted = torch.tensor([-0.485 / 0.229, -0.456 / 0.224, 0.594 / 0.225])
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    plain = network("fusion", shape(32, 32, 3)).prepare(blue)[0, :, 0, 0]
    assert plain.tolist() == [0.0, 0.0, 1.0]


def test_small_crops_are_enlarged_only_where_the_network_asks_for_it(tmp_path):
    assert network("resnet50", shape(48, 64)).prepared.size is None
    assert network("inception-v3", shape(48, 64)).prepared.size == (80, 107)
    assert network("efficientnet-lite0", shape(48, 70)).prepared.size == (64, 96)
    file = saved(network("mobilenet-v2"), tmp_path)
    taught = network("mobilenet-v2", shape(48, 64), weights=file, pretrained=True)
    assert taught.prepared.size == (128, 171)


def saved(net, folder, **extra):
    file = folder / "backbone.pth"
    torch.save({**net.backbone.body.state_dict(), **extra}, file)
    return file


@pytest.fixture(scope="module")
def mobile(tmp_path_factory):
    net = network("mobilenet-v2", seed=7)
    return net, saved(
        net, tmp_path_factory.mktemp("weights"), **{"classifier.1.bias": torch.ones(2)}
    )


def test_weights_come_from_a_file_and_its_classifier_is_left(mobile):
    net, file = mobile
    found = network("mobilenet-v2+cbam", weights=file, pretrained=True)
    assert found.origin == file.name
    for key, value in net.backbone.state_dict().items():
        assert torch.equal(found.backbone.state_dict()[key], value), key


def test_weights_of_another_architecture_are_counted_and_named(mobile):
    with pytest.raises(DataError) as raised:
        network("resnet50", weights=mobile[1], pretrained=True)
    said = str(raised.value)
    assert "no 'conv1.weight', the network needs (64, 3, 7, 7)" in said
    assert "265 of 265 tensors are missing or of another shape" in said
    assert "313 are strange to it (first 'features.0.0.weight')" in said
    assert "give a state dict of resnet50" in said


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_without_a_network_the_default_is_from_scratch(cache):
    assert network("mobilenet-v2", pretrained=True).origin == SCRATCH


def test_a_failed_download_says_how_to_do_without(cache):
    with pytest.raises(Breakage, match=r"mobilenet_v2-.*cannot be had.*give --weights FILE"):
        network("mobilenet-v2", weights=Path("torchvision"), pretrained=True)


def test_what_torchvision_downloaded_before_is_taken(mobile, cache):
    (cache / "mobilenet_v2-7ebf99e0.pth").write_bytes(mobile[1].read_bytes())
    for asked in (None, Path("torchvision")):
        found = network("mobilenet-v2", weights=asked, pretrained=True)
        assert found.origin == "ImageNet, torchvision MobileNet_V2_Weights.IMAGENET1K_V2"
        assert len(found.phases()) == 3


def test_the_three_phases_open_the_head_then_ten_then_thirty_three_convolutions(mobile):
    net = network("mobilenet-v2+cbam", weights=mobile[1], pretrained=True)
    head, *more = net.phases()
    assert {id(p) for p in head} == {
        id(p) for part in (net.attention, net.head) for p in part.parameters()
    }
    sizes = [sum(p.dim() == 4 for p in phase) - 1 for phase in more]
    assert sizes == [10, 33]
    assert {id(p) for p in head} < {id(p) for p in more[0]} < {id(p) for p in more[1]}
    (whole,) = network("mobilenet-v2+cbam").phases()
    assert len(whole) == len(list(net.parameters()))


def kept_statistics(net):
    """Whether each norm still has its statistics after a batch in training mode."""
    norms = [m for m in net.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [norm.get_buffer("running_mean").clone() for norm in norms]
    net.train()
    net(crops(n=4))
    after = [norm.get_buffer("running_mean") for norm in norms]
    return [torch.equal(*pair) for pair in zip(before, after, strict=True)]


def test_norms_that_came_with_weights_keep_their_statistics_in_every_phase(mobile):
    net = network("mobilenet-v2", weights=mobile[1], pretrained=True)
    for phase in net.phases():
        for parameter in phase:
            parameter.requires_grad_(True)
        assert all(kept_statistics(net))


def test_norms_from_scratch_take_the_statistics_of_what_they_learn():
    assert not any(kept_statistics(network("mobilenet-v2")))


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("resnet18", None, r"no such classifier; take one of scnn01, .*mobilenet-v2"),
        ("cbam", None, r"no such classifier"),
        ("fusion", shape(31, 64), r"64 x 31 px: fusion takes sides from 32 px on"),
        ("scnn01", shape(1024, 1024), r"1,069,551,616 weights, 500,000,000 is what"),
    ],
)
def test_what_cannot_be_built_is_refused(name, size, message):
    with pytest.raises(Misuse, match=message):
        network(name, size)


def test_weights_that_have_no_place_are_refused():
    with pytest.raises(Misuse, match=r"--weights some\.pth: scnn03 has no published weights"):
        network("scnn03", weights=Path("some.pth"), pretrained=True)
    with pytest.raises(Misuse, match=r"--weights some\.pth: not from scratch as well"):
        network("resnet50", weights=Path("some.pth"))
    with pytest.raises(Misuse, match=r"there is no such file"):
        network("mobilenet-v2", weights=Path("some.pth"), pretrained=True)


class Graph(nn.Module):
    def __init__(self, net: ClassifierNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, batch):
        maps = self.net.feature_maps(self.net.prepare(batch))
        embedding = self.net.embed(maps)
        logits = self.net.logits(embedding)
        return logits, self.net.class_maps(maps, embedding, logits.argmax(dim=1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scnn03+cbam", "fusion+cbam", "efficientnet-lite0"])
def test_class_maps_are_plain_graph_operations(name, tmp_path):
    size = shape(40, 56)
    graph = Graph(network(name, size)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph,
            (crops(size),),
            dynamo=True,
            verbose=False,
            opset_version=18,
            input_names=["crops"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            external_data=False,
        )
    assert program is not None
    core = openvino.Core()
    model = core.read_model(program.model_proto.SerializeToString())
    exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    session = core.compile_model(model, "CPU", exact)
    batch = crops(size, n=3, seed=1)
    with torch.no_grad():
        wanted = graph(batch)
    found = session({"crops": batch.numpy()})
    for index, tensor in enumerate(wanted):
        np.testing.assert_allclose(found[index], tensor.numpy(), rtol=1e-3, atol=1e-4)


def test_all_backbones_stand_in_the_table_of_classifiers():
    assert set(CLASSIFIERS) == {*SMALL, *BACKBONES}
