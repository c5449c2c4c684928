import cv2
import numpy as np
import pytest
import torch

from edge_inspector.training import faults
from edge_inspector.training.faults import KINDS, Canvas, places, warp
from edge_inspector.training.marred import BATCH, Batch, Marred, batches, strain

CENTRES = [(16, 16), (48, 16), (16, 48), (48, 48)]


def balls(channels=1, side=64):
    picture = np.full((side, side), 40, np.uint8)
    for x, y in CENTRES:
        cv2.circle(picture, (x, y), 6, 200, -1)
    return picture if channels == 1 else np.dstack([picture] * 3)


def canvas(channels=1):
    crop = balls(channels)
    return Canvas(crop.astype(np.float32), places(crop, 1.0), 1.0)


def test_the_balls_stand_out_most():
    found = places(balls(), 1.0)[:4]
    nearest = [np.hypot(*(found - centre).T).min() for centre in CENTRES]
    assert max(nearest) <= 2


def test_a_blank_crop_has_a_place_too():
    assert places(np.full((64, 64), 90, np.uint8), 1.0).tolist() == [[32.0, 32.0]]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__.strip("_"))
def test_every_fault_shows_somewhere_and_stays_a_picture(kind, channels):
    rng, seen = np.random.default_rng(3), 0
    for _ in range(12):
        drawn = canvas(channels)
        before = drawn.image.copy()
        kind(drawn, rng)
        assert drawn.image.shape == before.shape
        assert drawn.image.dtype == np.float32
        assert np.isfinite(drawn.image).all()
        seen += float(np.abs(drawn.image - before).max()) > 7
    assert seen >= 6


def centre_of(image, near):
    x, y = near
    window = image[y - 12 : y + 13, x - 12 : x + 13] - 40
    rows, columns = np.mgrid[-12:13, -12:13]
    return np.array([(columns * window).sum(), (rows * window).sum()]) / window.sum()


def test_a_warp_moves_what_lies_there_by_what_it_says():
    drawn = canvas()
    before = centre_of(drawn.image, (16, 16))
    warp(drawn, np.random.default_rng(0), (16, 16, 8), np.eye(2), (2.5, -1.5))
    assert centre_of(drawn.image, (16, 16)) - before == pytest.approx([2.5, -1.5], abs=0.1)


def test_a_warp_grows_what_lies_there_by_what_it_says():
    drawn = canvas()
    before = (drawn.image[4:28, 4:28] - 40).sum()
    warp(drawn, np.random.default_rng(0), (16, 16, 8), np.eye(2) * 1.2)
    after = (drawn.image[4:28, 4:28] - 40).sum()
    assert after / before == pytest.approx(1.44, abs=0.04)


def test_resampling_takes_no_noise_away():
    rng = np.random.default_rng(0)
    crop = np.clip(rng.normal(120, 3, (64, 64)), 0, 255).astype(np.uint8)
    noise = faults.noise_of(crop)
    assert noise == pytest.approx(3, rel=0.1)
    drawn = Canvas(crop.astype(np.float32), places(crop, 1.0), 1.0, noise)
    warp(drawn, rng, (32, 32, 12), np.eye(2), (0.5, 0.5))
    assert drawn.image[24:40, 24:40].std() == pytest.approx(3, rel=0.15)


def test_a_strained_crop_moved_by_what_it_is_said_to():
    """Known motions, less what the whole does, against where the balls are found."""
    side, centres = 256, [(x, y) for x in range(24, 240, 32) for y in range(24, 240, 32)]
    crop = np.full((side, side), 40, np.float32)
    for x, y in centres:
        cv2.circle(crop, (x, y), 6, 200, -1, cv2.LINE_AA)
    drawn = Canvas(crop, places(crop.astype(np.uint8), 1.0), 1.0)
    bent, motions = strain(drawn, 16, 16, np.random.default_rng(1))
    after = bent.astype(np.float32)
    told = np.array([motions[:2, y // 16, x // 16] for x, y in centres])
    found = np.array([centre_of(after, place) - centre_of(crop, place) for place in centres])
    basis = np.column_stack([np.ones(len(centres)), centres])
    found -= basis @ np.linalg.lstsq(basis, found, rcond=None)[0]
    assert np.corrcoef(told.ravel(), found.ravel())[0, 1] > 0.8


def first(seed=0, start=0):
    crops = np.stack([balls()[..., None]] * 3)
    return next(iter(Marred(crops, 4, seed, start)))


def test_a_batch_depends_on_its_seed_and_step_alone():
    made = iter(Marred(np.stack([balls()[..., None]] * 3), 4, 0, 0))
    next(made)
    second = next(made)
    for one, other in zip(second, first(start=1), strict=True):
        assert torch.equal(one.nan_to_num(9), other.nan_to_num(9))
    assert not torch.equal(second.crops, first(seed=1, start=1).crops)


def test_cells_are_said_to_be_faulty_where_the_crop_was_changed():
    batch = first()
    difference = (batch.crops[..., 0].float() - torch.from_numpy(balls()).float()).abs()
    worst = difference.reshape(BATCH, 16, 4, 16, 4).amax(dim=(2, 4))
    assert batch.faults.dtype == torch.int8
    assert (batch.faults > 0).any()
    # Gain and resampling change good cells too, but not by half of what stands out.
    assert worst[batch.faults > 0].mean() > 5 * worst[batch.faults == 0].mean()


def test_some_crops_have_no_fault_and_some_are_to_measure_on():
    faulty = first().faults.flatten(1)
    clean, strained = (faulty == 0).all(dim=1), (faulty == -1).all(dim=1)
    assert clean.any()
    assert strained.any()
    assert (faulty == 1).any(dim=1)[~clean & ~strained].all()
    assert first().motions[strained].isfinite().all()
    assert first().motions[~strained].isnan().all()


def test_a_process_of_its_own_makes_the_same_batches():
    crops = torch.from_numpy(np.stack([balls()[..., None]] * 3))
    made = next(batches(crops, 4, 0, 0))
    assert isinstance(made, Batch)
    assert torch.equal(made.crops, first().crops)


def test_crops_are_marred_though_opencv_had_threads_before():
    cv2.setNumThreads(4)
    for _ in range(3):
        cv2.GaussianBlur(np.zeros((2000, 2000), np.uint8), (5, 5), 1)
    crops = torch.from_numpy(np.stack([balls()] * 4)[..., None])
    assert len(next(batches(crops, 4, 0, 0)).crops) == BATCH
