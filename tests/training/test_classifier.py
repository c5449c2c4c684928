import math
import signal
from dataclasses import replace

import pytest
import torch

from edge_inspector.errors import DataError, Misuse
from edge_inspector.manifest import Input
from edge_inspector.models.classifier import build
from edge_inspector.training import checkpoint
from edge_inspector.training.classifier import Course, macro_f1, train
from edge_inspector.training.classifier_plan import THREE_PHASES, ClassifierPlan
from edge_inspector.training.labelled import LabelledCrops, with_digest

SHAPE = Input(height=32, width=32)
CLASSES = ("good", "bright", "dark")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def shown(counts, seed):
    """Noise, with a bright or a dark spot somewhere for the second and third class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    crops = 120 + 6 * torch.randn(len(labels), 32, 32, 1, generator=generator)
    for crop, label in zip(crops, labels.tolist(), strict=True):
        y, x = torch.randint(6, 20, (2,), generator=generator).tolist()
        if label:
            crop[y : y + 7, x : x + 7] = 230 if label == 1 else 15
    return crops.clamp(0, 255).to(torch.uint8), labels


def spots(counts=(40, 40, 40), val=(12, 12, 12)):
    train_crops, train_labels = shown(counts, 1)
    val_crops, val_labels = shown(val, 2)
    return with_digest(
        LabelledCrops(SHAPE, CLASSES, train_crops, train_labels, val_crops, val_labels, "")
    )


CROPS = spots()


def plan(**words):
    return ClassifierPlan("scnn03", **{"threads": 1, "epochs": 12, **words})


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"loss": "focal", "balance": "sampling"},
        {"balance": "none", "stop": "loss", "vary": False},
        {"half": True, "flips": True},
    ],
)
def test_a_classifier_learns_what_tells_the_classes_apart(words):
    trained = train(plan(rate=3e-3, **words), CROPS)
    best = trained.history[trained.best]
    assert best.val_macro_f1 > 0.9
    with torch.no_grad():
        said = trained.network(CROPS.val).argmax(1)
    assert macro_f1(said, CROPS.val_labels) == pytest.approx(best.val_macro_f1)
    assert trained.classes == CLASSES
    assert trained.sound
    assert trained.history[-1].loss < trained.history[0].loss


def test_what_was_best_is_kept_by_the_figure_asked_for():
    for stop, figure in (("loss", lambda e: -e.val_loss), ("macro-f1", lambda e: e.val_macro_f1)):
        trained = train(plan(epochs=6, rate=1e-2, stop=stop), CROPS)
        assert figure(trained.history[trained.best]) == max(map(figure, trained.history))


def test_a_seed_reproduces_the_network():
    first, again, other = (train(plan(epochs=2, seed=seed), CROPS) for seed in (3, 3, 4))
    assert first.history == again.history
    assert first.history != other.history


def test_labels_that_tell_nothing_end_training_early():
    guessed = replace(CROPS, val_labels=CROPS.val_labels.flip(0))
    trained = train(plan(epochs=60, patience=2, rate=1e-2), with_digest(guessed))
    assert trained.ended.startswith("nothing better came for 2 epochs")
    assert trained.epochs == trained.best + 3


def test_a_rare_class_weighs_as_much_as_a_frequent_one():
    course = course_of(plan(), spots((90, 20, 10)))
    assert (course.weight * torch.tensor([90, 20, 10])).tolist() == pytest.approx([40, 40, 40])
    assert course_of(plan(balance="none"), spots((90, 20, 10))).weight.tolist() == [1, 1, 1]


def test_balanced_sampling_draws_each_class_as_often():
    course = course_of(plan(balance="sampling", batch=60), spots((90, 20, 10)))
    drawn = torch.cat([course._batch()[1] for _ in range(20)])
    shares = torch.bincount(drawn) / len(drawn)
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.05)
    assert course.weight.tolist() == [1, 1, 1]


def test_focal_loss_leaves_out_what_is_known_already():
    logits = torch.tensor([[8.0, 0.0, 0.0], [0.2, 0.0, 0.0]])
    labels, even = torch.tensor([0, 0]), torch.ones(3)
    plain = course_of(plan(), CROPS).loss(logits, labels, even).item()
    focal = course_of(plan(loss="focal"), CROPS).loss(logits, labels, even).item()
    p = torch.softmax(logits, 1)[:, 0]
    assert plain == pytest.approx((-p.log()).mean().item())
    assert focal == pytest.approx((-((1 - p) ** 2) * p.log()).mean().item())


def course_of(given, crops, name="scnn03", pretrained=False):
    network = build(name, 3, crops.shape, weights=None, pretrained=pretrained, seed=0)
    return Course(network, given, crops)


def test_three_phases_open_the_backbone_from_its_end():
    crops = spots((12, 12, 8), (2, 2, 2))
    course = course_of(plan(epochs=5, batch=8), crops, "efficientnet-lite0", pretrained=True)
    assert course.network.origin != "from scratch"
    assert course.phases == THREE_PHASES
    before = {k: v.clone() for k, v in course.network.state_dict().items()}
    open_at = []
    while not course.ended:
        course.advance()
        open_at.append(course.phase)
        if course.phase == 0:
            now = course.network.state_dict()
            changed = {k for k, v in now.items() if not torch.equal(v, before[k])}
            assert changed
            assert all(k.startswith("head.") for k in changed)
    assert open_at == sorted(open_at)
    assert set(open_at) == {0, 1, 2}
    now = course.network.state_dict()
    changed = {k for k, v in now.items() if not torch.equal(v, before[k])}
    assert any(k.startswith("backbone.") for k in changed)
    assert not all(k in changed for k in before if k.startswith("backbone."))


def test_the_rate_warms_up_and_falls_towards_the_last_epoch():
    course = course_of(plan(epochs=12), CROPS)
    rates = []
    while not course.ended:
        course.advance()
        rates.append(course.optimiser.param_groups[0]["lr"])
    assert rates[0] < rates[40] > rates[-1]
    assert max(rates) <= 1e-3
    assert rates[-1] < 1e-5


def test_minutes_that_allow_less_bring_the_rate_down_in_time(monkeypatch):
    now = [0]
    monkeypatch.setattr("edge_inspector.clock.now_ns", lambda: now[0])

    def second(step, loss, best):
        now[0] += 1_000_000_000

    trained = train(plan(epochs=1000, minutes=1.0), CROPS, second)
    assert trained.steps == 60
    assert trained.ended == "the 1 minutes allowed 4 epochs"


def test_a_training_that_was_cut_off_goes_on_to_the_same_end(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    whole = train(plan(epochs=3), CROPS)
    given = plan(epochs=3, part=tmp_path, resume=True)

    def cut_off(step, loss, best):
        if step == 20:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(given, CROPS, cut_off)
    steps = []
    rest = train(given, CROPS, lambda step, loss, best: steps.append(step))
    assert steps[0] == 21
    assert rest.history == whole.history
    pairs = zip(whole.network.parameters(), rest.network.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_state_of_other_words_or_images_is_refused(tmp_path):
    train(plan(epochs=1, part=tmp_path), CROPS)
    for given, crops in (
        (plan(epochs=1, loss="focal", part=tmp_path, resume=True), CROPS),
        (plan(epochs=1, part=tmp_path, resume=True), spots((30, 30, 30))),
    ):
        with pytest.raises(Misuse, match="holds another training"):
            train(given, crops)


def broken_from(monkeypatch, at):
    """A loss that is no number from its call `at` on."""
    step = Course.loss
    taken = []

    def bad(self, *given):
        taken.append(step(self, *given))
        return taken[-1] * (math.nan if len(taken) >= at else 1.0)

    monkeypatch.setattr(Course, "loss", bad)


def test_a_loss_that_is_no_number_ends_training_and_keeps_the_best_state(monkeypatch):
    broken_from(monkeypatch, 25)
    trained = train(plan(), CROPS)
    assert trained.ended == "the loss was nan at step 24, the best state before is kept"
    assert not trained.sound
    assert all(p.isfinite().all() for p in trained.network.parameters())


def test_a_rate_that_breaks_the_loss_at_once_is_an_error():
    with pytest.raises(DataError, match=r"nan at step \d, before anything.*a lower --rate"):
        train(plan(rate=1e30), CROPS)


def test_macro_f1_is_that_of_the_classes_that_are_there():
    assert macro_f1(torch.tensor([0, 5, 1]), torch.tensor([0, 1, 1])) == pytest.approx(5 / 6)


def test_macro_f1_is_scikit_learn_s():
    sklearn = pytest.importorskip(
        "sklearn.metrics", reason="macro-F1 is not compared with scikit-learn's: it is missing"
    )
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (200,), generator=generator)
    said = torch.where(torch.rand(200, generator=generator) < 0.7, labels, labels.roll(1))
    expected = sklearn.f1_score(labels.numpy(), said.numpy(), average="macro")
    assert macro_f1(said, labels) == pytest.approx(expected)
