from importlib import metadata
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edge_inspector.errors import DataError, Misuse
from edge_inspector.models import weights
from edge_inspector.models.efficientnet_lite import BLOCKS, EfficientNetLite0, prepare
from edge_inspector.models.weights import load_weights


def has_package():
    try:
        return bool(metadata.files(weights.PACKAGE))
    except metadata.PackageNotFoundError:
        return False


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return EfficientNetLite0((2, 4, 10)).eval()


@pytest.fixture
def state_file(network, tmp_path):
    file = tmp_path / "random.pth"
    torch.save({**network.state_dict(), "_fc.bias": torch.zeros(3)}, file)
    return file


def crops(channels=1, side=64):
    generator = torch.Generator().manual_seed(1)
    shape = (2, side, side, channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("channels", [1, 3])
def test_features_have_the_strides_and_planes_of_their_blocks(network, channels):
    with torch.no_grad():
        found = network(prepare(crops(channels)))
    assert [f.shape for f in found] == [(2, 24, 16, 16), (2, 40, 8, 8), (2, 112, 4, 4)]
    assert network.planes == (24, 40, 112)


def test_grey_is_seen_as_colour_of_equal_channels(network):
    grey = crops(1)
    torch.testing.assert_close(prepare(grey), prepare(grey.expand(-1, -1, -1, 3)))


def test_blue_green_red_is_turned_to_red_green_blue():
    blue = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    blue[..., 0] = 255
    assert prepare(blue)[0, :, 0, 0].tolist() == [-127 / 128, -127 / 128, 1.0]


def test_weights_come_from_a_file_and_keys_beyond_the_network_are_ignored(network, state_file):
    torch.manual_seed(1)
    other = EfficientNetLite0((2,)).eval()
    load_weights(other, state_file)
    with torch.no_grad():
        x = prepare(crops())
        torch.testing.assert_close(other(x)[0], network(x)[0], rtol=0, atol=0)


def test_a_safetensors_file_serves_as_well_and_a_broken_one_is_named(network, tmp_path):
    file = tmp_path / "random.safetensors"
    save_file(network.state_dict(), file)
    other = EfficientNetLite0((2, 4, 10)).eval()
    load_weights(other, file)
    assert torch.equal(other.get_buffer("_bn0.running_var"), network.get_buffer("_bn0.running_var"))
    assert torch.equal(other._conv_stem.weight, network._conv_stem.weight)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"random\.safetensors: is no safetensors file"):
        load_weights(other, file)


def test_weights_of_another_architecture_are_counted(network, tmp_path):
    file = tmp_path / "other.pth"
    torch.save({"conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}, file)
    with pytest.raises(DataError) as raised:
        load_weights(network, file)
    count = sum(not key.endswith("num_batches_tracked") for key in network.state_dict())
    assert f"{count} of {count} tensors are missing or of another shape" in str(raised.value)
    assert "2 are strange to it (first 'conv1.weight')" in str(raised.value)


def test_a_missing_file_is_named():
    with pytest.raises(Misuse, match=r"--weights .*nowhere\.pth: there is no such file"):
        load_weights(EfficientNetLite0((2,)), Path("nowhere.pth"))


def test_the_first_wrong_key_is_named(network, tmp_path):
    state = network.state_dict()
    file = tmp_path / "wrong.pth"
    torch.save({k: v for k, v in state.items() if not k.startswith("_blocks.1.")}, file)
    with pytest.raises(DataError, match=r"no '_blocks\.1\._expand_conv\.weight'.*\(96, 16, 1, 1\)"):
        load_weights(EfficientNetLite0((2, 4, 10)), file)
    torch.save({**state, "_conv_stem.weight": torch.zeros(8, 3, 3, 3)}, file)
    with pytest.raises(DataError, match=r"\(8, 3, 3, 3\) for '_conv_stem\.weight'"):
        load_weights(EfficientNetLite0((2, 4, 10)), file)


def test_a_file_that_would_run_code_or_is_no_state_dict_is_refused(network, tmp_path):
    file = tmp_path / "module.pth"
    torch.save(network, file)
    with pytest.raises(DataError, match="no state dict of tensors alone"):
        load_weights(EfficientNetLite0((2,)), file)
    torch.save([1, 2], file)
    with pytest.raises(DataError, match="holds a list"):
        load_weights(EfficientNetLite0((2,)), file)
    file.write_bytes(b"no weights")
    with pytest.raises(DataError, match="no state dict of tensors alone"):
        load_weights(EfficientNetLite0((2,)), file)


@pytest.mark.skipif(not has_package(), reason=f"{weights.PACKAGE} is not installed")
def test_the_installed_weights_fit_the_whole_network_and_normalise_their_features():
    network = EfficientNetLite0((4, BLOCKS - 1)).eval()
    load_weights(network, None)
    with torch.no_grad():
        found = network(prepare(crops(3)))
    assert all(0.1 < f.std() < 10 for f in found)


def test_without_package_and_file_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(weights, "PACKAGE", "no-such-weights-package")
    with pytest.raises(Misuse, match=r"install no-such-weights-package .* or give --weights FILE"):
        load_weights(EfficientNetLite0((2,)), None)
