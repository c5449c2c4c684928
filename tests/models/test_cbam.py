import pytest
import torch

from edge_inspector.models.cbam import Cbam


@pytest.fixture
def attention():
    torch.manual_seed(0)
    return Cbam(32).eval()


def test_attention_only_weakens_and_keeps_the_shape(attention):
    x = torch.randn(2, 32, 7, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = attention(x)
    assert found.shape == x.shape
    assert (found.abs() <= x.abs()).all()
    assert (found.sign() == x.sign()).all()


def test_channels_are_weighted_first_and_everywhere_alike(attention):
    x = torch.randn(1, 32, 6, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        attention.places.weight.zero_()
        share = attention(x) / x
    torch.testing.assert_close(share, share[:, :, :1, :1].expand_as(share), rtol=1e-4, atol=0)
    assert share[0, :, 0, 0].std() > 0


def test_places_are_weighted_by_what_lies_within_seven_px(attention):
    x = torch.ones(1, 32, 15, 15)
    marked = x.clone()
    marked[0, :, 7, 7] = 5
    with torch.no_grad():
        for parameter in attention.channels.parameters():
            parameter.zero_()
        changed = (attention(marked) != attention(x))[0, 0]
    rows, columns = torch.nonzero(changed, as_tuple=True)
    assert (int(rows.min()), int(rows.max())) == (4, 10)
    assert (int(columns.min()), int(columns.max())) == (4, 10)


def test_a_few_channels_still_have_a_perceptron():
    assert Cbam(8).channels[0].out_features == 4
    assert Cbam(1280).channels[0].out_features == 80
