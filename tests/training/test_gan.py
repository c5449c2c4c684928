import math
import signal

import pytest
import torch

from edge_inspector.errors import DataError, Misuse
from edge_inspector.manifest import Input
from edge_inspector.models.dcgan import Critic, Generator, pyramid
from edge_inspector.training import checkpoint, gan
from edge_inspector.training.gan import GanPlan, draw, draw_each, train
from edge_inspector.training.gan_quality import judge
from edge_inspector.training.gan_sheet import COLUMNS, curve, sample_sheet, tiled
from edge_inspector.training.generated import CARD, check_names, read_generated, write_gan
from edge_inspector.training.labelled import LabelledCrops, with_digest

SHAPE = Input(height=32, width=32)
CLASSES = ("left", "right")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def shown(count, seed):
    """A bright half on a dark ground, somewhat different each time."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(2).repeat_interleave(count)
    levels = 150 + 80 * torch.rand(2 * count, 1, 1, 1, generator=generator)
    crops = 30 + 12 * torch.randn(2 * count, 32, 32, 1, generator=generator)
    crops[:count, :, :16] += levels[:count]
    crops[count:, :, 16:] += levels[count:]
    return crops.clamp(0, 255).to(torch.uint8), labels


def halves():
    (crops, labels), (val, val_labels) = shown(40, 1), shown(12, 2)
    return with_digest(LabelledCrops(SHAPE, CLASSES, crops, labels, val, val_labels, ""))


CROPS = halves()


def plan(**words):
    return GanPlan(**{"threads": 1, "steps": 4, **words})


@pytest.mark.parametrize("size", [(32, 32, 1), (48, 80, 3), (256, 256, 1)])
def test_drawn_crops_have_the_size_of_real_ones(size):
    shape = Input(height=size[0], width=size[1], channels=size[2])
    crops = draw(Generator(3, shape), torch.tensor([0, 2]), seed=0)
    assert tuple(crops.shape) == (2, *size)
    assert crops.dtype == torch.uint8
    planes, rows, columns = pyramid(shape)
    score, features = Critic(3, shape)(torch.rand(2, size[2], *size[:2]), torch.tensor([0, 2]))
    assert score.shape == (2,)
    assert features.shape == (2, planes[-1] * rows * columns)


def test_no_layer_of_the_critic_stretches_what_it_sees():
    critic = Critic(2, SHAPE)
    for _ in range(30):
        critic(torch.rand(4, 1, 32, 32), torch.tensor([0, 1, 0, 1]))
    critic.eval()
    weights = [
        layer.weight for layer in (*critic.layers, critic.scores) if hasattr(layer, "weight")
    ]
    assert len(weights) == 4
    for weight in weights:
        largest = torch.linalg.matrix_norm(weight.detach().flatten(1), 2)
        assert float(largest) == pytest.approx(1.0, abs=0.02)


def test_the_generator_learns_which_class_looks_how(monkeypatch):
    monkeypatch.setattr(gan, "BATCH", 16)
    monkeypatch.setattr(gan, "KEPT", 0.9)
    trained = train(plan(steps=120, rate=1e-3), CROPS)
    crops, labels = draw_each(trained.generator, 20, seed=1)
    brighter_left = crops[:, :, :16].float().mean((1, 2, 3)) > crops[:, :, 16:].float().mean(
        (1, 2, 3)
    )
    assert (brighter_left == (labels == 0)).float().mean() > 0.9


def test_the_distance_is_kept_at_every_look():
    trained = train(plan(steps=26), CROPS)
    assert trained.ended == "the 26 steps were taken"
    assert len(trained.distances) == 2
    assert all(math.isfinite(distance) for distance in trained.distances)
    assert curve(trained.distances).startswith(b"\x89PNG")


def test_sheets_are_shown_now_and_then_and_at_the_end():
    seen = []
    train(plan(steps=5, sheet_steps=2), CROPS, shown=lambda step, network: seen.append(step))
    assert seen == [2, 4, 5]


def test_a_sheet_has_a_row_for_each_class():
    sheet = sample_sheet(Generator(3, SHAPE))
    assert sheet.shape == (3 * 32, COLUMNS * 32, 1)
    numbered = torch.arange(2 * COLUMNS, dtype=torch.uint8)[:, None, None, None]
    tiles = tiled(numbered.expand(-1, 4, 4, 1).numpy())
    assert tiles[0, ::4, 0].tolist() == list(range(COLUMNS))
    assert tiles[4, 0, 0] == COLUMNS


def test_a_seed_reproduces_the_generator():
    first, again, other = (train(plan(seed=seed), CROPS).generator for seed in (3, 3, 4))
    drawn = [draw_each(network, 2, seed=0)[0] for network in (first, again, other)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_training_that_was_cut_off_goes_on_to_the_same_end(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    whole = train(plan(steps=6), CROPS)
    given = plan(steps=6, part=tmp_path, resume=True)

    def cut_off(step, loss, distance):
        if step == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(given, CROPS, cut_off)
    steps = []
    rest = train(given, CROPS, lambda step, loss, distance: steps.append(step))
    assert steps == [4, 5, 6]
    assert rest.distances == whole.distances
    pairs = zip(whole.generator.parameters(), rest.generator.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_state_of_another_weight_is_refused(tmp_path):
    train(plan(part=tmp_path), CROPS)
    with pytest.raises(Misuse, match="holds another training"):
        train(plan(part=tmp_path, matching=2.0, resume=True), CROPS)


def test_a_loss_that_is_no_number_ends_training_with_the_state_before(monkeypatch):
    courses = []
    begin = gan.Course.__init__

    def kept(self, *given):
        begin(self, *given)
        courses.append(self)

    monkeypatch.setattr(gan.Course, "__init__", kept)

    def poison(step, loss, distance):
        if step == 3:
            with torch.no_grad():
                next(courses[0].critic.parameters()).fill_(math.nan)

    trained = train(plan(steps=10), CROPS, poison)
    assert trained.ended == "the loss was nan at step 4, the state before is kept"
    assert not trained.sound
    assert all(value.isfinite().all() for value in trained.generator.state_dict().values())


def test_a_loss_that_is_no_number_at_once_is_an_error(monkeypatch):
    poisoned = Critic(2, SHAPE)
    torch.nn.init.constant_(next(poisoned.parameters()), math.nan)
    monkeypatch.setattr(gan, "Critic", lambda classes, shape: poisoned)
    with pytest.raises(DataError, match=r"nan at step 1, .* before anything was learned"):
        train(plan(), CROPS)


def test_real_images_pass_the_quality_check():
    quality = judge(CROPS, *shown(20, 7), seed=0, threads=1)
    assert quality.sound
    assert quality.accuracy > 0.95
    assert quality.real_accuracy > 0.95
    assert all(0.7 < each.diversity < 1.4 for each in quality.classes.values())


def test_images_of_another_class_fail_it():
    crops, labels = shown(20, 7)
    quality = judge(CROPS, crops, 1 - labels, seed=0, threads=1)
    assert not quality.sound
    assert "a classifier of real images knows 0.00 of them" in quality.faults[0]


def test_one_image_again_and_again_fails_it():
    crops, labels = shown(1, 7)
    quality = judge(
        CROPS,
        crops.repeat_interleave(20, dim=0),
        labels.repeat_interleave(20),
        seed=0,
        threads=1,
    )
    assert not quality.sound
    assert quality.accuracy > 0.95
    assert all("the generator has collapsed" in fault for fault in quality.faults)


def written(folder, images=None):
    """A GAN's folder; its images are real ones unless others are given."""
    given, labels = shown(20, 7)
    images = given if images is None else images
    quality = judge(CROPS, images, labels, seed=0, threads=1)
    return write_gan(folder, train(plan(), CROPS), images, CROPS, quality, plan=plan())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("gan") / "halves"
    written(path)
    return path


def test_what_was_drawn_is_read_back(folder):
    crops, labels = read_generated(folder, ("good", *CLASSES), SHAPE)
    images, places = shown(20, 7)
    assert torch.equal(crops, images)
    assert torch.equal(labels, places + 1)
    assert (folder / "distance.png").exists()
    assert 'ended = "the 4 steps were taken"' in (folder / CARD).read_text()


def test_smaller_crops_are_scaled_from_larger_ones_but_not_the_other_way(folder):
    small = Input(height=16, width=16, channels=3)
    assert read_generated(folder, CLASSES, small)[0].shape == (40, 16, 16, 3)
    with pytest.raises(Misuse, match=r"32 x 32 px, too small for .* --size 64"):
        read_generated(folder, CLASSES, Input(height=64, width=64))


def test_a_gan_of_other_classes_is_refused(folder):
    with pytest.raises(Misuse, match=r"draws the class 'right', which .* lack"):
        read_generated(folder, ("good", "left"), SHAPE)


def test_a_gan_that_collapsed_is_never_mixed_in(tmp_path):
    images = shown(1, 7)[0].repeat_interleave(20, dim=0)
    assert not written(tmp_path / "gan", images).quality.sound
    with pytest.raises(Misuse, match=r"failed its own quality check .*left: .*collapsed"):
        read_generated(tmp_path / "gan", CLASSES, SHAPE)


def test_images_that_the_quality_check_did_not_see_are_refused(tmp_path):
    written(tmp_path / "gan")
    (tmp_path / "gan" / "left" / "0003.png").unlink()
    with pytest.raises(DataError, match="its 39 images are not those"):
        read_generated(tmp_path / "gan", CLASSES, SHAPE)


def test_a_folder_that_no_gan_wrote_is_refused(tmp_path):
    with pytest.raises(Misuse, match=r"gan\.toml.*there is no such file"):
        read_generated(tmp_path, CLASSES, SHAPE)


def test_a_class_that_can_be_no_folder_is_refused():
    with pytest.raises(DataError, match=r"'a/b'.*rename it"):
        check_names(("good", "a/b"))
