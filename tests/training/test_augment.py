import torch

from edge_inspector.training.augment import GAIN, OFFSET, flipped, varied


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def marked(count=64):
    """Dark crops with a bright square in the left upper quarter."""
    crops = torch.full((count, 32, 32, 1), 40, dtype=torch.uint8)
    crops[:, 6:12, 6:12] = 200
    return crops


def centres(crops):
    """Where the brightness above the crop's median lies, in px, (n, 2)."""
    x = crops[..., 0].float()
    weight = (x - x.flatten(1).median(dim=1).values[:, None, None] - 60).clamp(min=0)
    place = torch.arange(32.0)
    total = weight.sum(dim=(1, 2))
    down, across = (weight.sum(dim=axis) @ place / total for axis in (2, 1))
    return torch.stack([down, across], dim=1)


def test_half_of_the_crops_keep_their_look_and_the_others_mostly():
    crops = torch.cat([marked(400)] * 3, dim=3)
    found = varied(crops, drawn())
    assert found.shape == crops.shape
    assert found.dtype == torch.uint8
    assert (found.float() - crops.float()).abs().mean() < 10
    same = (found == crops).flatten(1).all(dim=1)
    assert 150 < same.sum() < 250


def test_a_mark_moves_by_a_few_px_and_stays_on_its_side():
    moved = (centres(varied(marked(256), drawn())) - 8.5).abs()
    assert 0.2 < moved.mean() < 2
    assert moved.max() < 4


def test_flips_show_each_corner_as_often_and_change_no_pixel():
    found = flipped(marked(256), drawn())
    corners = centres(found).gt(16).int() @ torch.tensor([2, 1], dtype=torch.int32)
    assert torch.bincount(corners).min() > 40
    assert set(found.unique().tolist()) == {40, 200}


def test_light_changes_within_its_limits():
    even = torch.full((256, 32, 32, 1), 120, dtype=torch.uint8)
    levels = varied(even, drawn()).float()
    assert OFFSET * 0.8 < (levels - 120).abs().max() <= OFFSET + 0.5
    contrast = varied(marked(256), drawn()).flatten(1).float()
    spread = contrast.max(dim=1).values - contrast.min(dim=1).values
    assert spread.min() > 160 * (1 - GAIN) - 30
    assert spread.max() < 160 * (1 + GAIN) + 2


def test_a_generator_reproduces_the_change():
    assert torch.equal(varied(marked(), drawn(3)), varied(marked(), drawn(3)))
    assert not torch.equal(varied(marked(), drawn(3)), varied(marked(), drawn(4)))
