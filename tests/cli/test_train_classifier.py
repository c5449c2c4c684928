import hashlib
import json
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import tomlkit
import torch

from edge_inspector.bundle import open_engine
from edge_inspector.cli.main import main
from edge_inspector.manifest import Input
from edge_inspector.training.checkpoint import part_of
from edge_inspector.training.gan_quality import ClassQuality, Quality
from edge_inspector.training.generated import Card


@pytest.fixture(autouse=True)
def one_thread():
    yield
    torch.set_num_threads(1)


def data_set(folder, plan):
    """A CSV of noisy images, brighter or darker where the label says so."""
    rng = np.random.default_rng(3)
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["path,label,split"]
    for label, split, count in plan:
        for number in range(count):
            picture = rng.normal(120, 5, (32, 32))
            picture += {"bright": 100, "dark": -100}.get(label, 0)
            name = f"{label}-{split}{number}.png"
            cv2.imwrite(str(folder / name), np.clip(picture, 0, 255).astype(np.uint8))
            rows.append(f"{name},{label},{split}")
    (folder / "data.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "data.csv"


@pytest.fixture(scope="module")
def shades(tmp_path_factory):
    """Sixteen images to learn from of each class, eight held out."""
    labels = ("good", "bright", "dark")
    plan = [(label, *part) for label in labels for part in (("train", 16), ("val", 8))]
    return data_set(tmp_path_factory.mktemp("shades"), plan)


def words_of(data, out, *more):
    fixed = ["--model", "scnn03", "--size", "32", "--epochs", "8", "--batch", "8"]
    fixed += ["--rate", "0.003", "--plain", "--threads", "1"]
    return ["train", "classifier", "--data", str(data), "--out", str(out), *fixed, *more]


def train(data, out, *more):
    return main(words_of(data, out, *more))


def test_an_engine_that_names_the_classes_is_written(shades, tmp_path, capsys):
    assert train(shades, tmp_path / "shades" / "1", "--json", "--loss", "focal") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["epochs"] == 8
    told = " ".join(err.split())
    assert "48 crops to learn from, 24 held out, 32 x 32 x 1; classes: good, bright, dark" in told
    assert "weights: from scratch; the 8 epochs were over; macro-F1 of val" in told
    engine = open_engine(tmp_path / "shades" / "1")
    assert engine.manifest.kind == "classifier"
    assert engine.manifest.classes == ("good", "bright", "dark")
    assert [path.name for path in (tmp_path / "shades").iterdir()] == ["1"]


def test_images_reviewed_on_the_line_are_learned_from_too(shades, tmp_path, capsys):
    reviewed = data_set(tmp_path / "line", [("dark", "train", 5), ("crack", "train", 4)])
    assert train(shades, tmp_path / "e" / "1", "--data", str(reviewed)) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "57 crops to learn from" in told
    assert "classes: good, bright, crack, dark" in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--epochs", "0"), "--epochs 0; it must be a number above 0"),
        (("--rate", "nan"), "--rate nan; it must"),
        (("--minutes", "-1"), "--minutes -1, --threads 1; both must be above 0"),
        (("--device", "tpu"), "--device tpu: torch finds none such on this box; use cpu"),
        (("--model", "vgg"), "--model vgg: there is no such classifier; take one of scnn01"),
        (("--weights", "w.pth"), "--weights w.pth: scnn03 has no published weights"),
    ],
)
def test_words_that_make_no_sense_are_misuse(shades, tmp_path, capsys, options, message):
    assert train(shades, tmp_path / "e", *options) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "e").exists()


def test_a_taken_folder_is_refused_before_any_work(tmp_path, capsys):
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "notes.txt").write_text("mine", encoding="utf-8")
    assert train("none.csv", tmp_path / "e") == 2
    assert "engines never change" in capsys.readouterr().err


def test_data_that_cannot_be_learned_from_names_the_class(shades, tmp_path, capsys):
    odd = data_set(tmp_path / "odd", [("Bright", "train", 3)])
    assert train(shades, tmp_path / "e", "--data", str(odd)) == 2
    assert "'Bright' (3 images) and 'bright' (24 images) differ in case" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


def test_broken_files_are_named_and_the_others_learned_from(tmp_path, capsys):
    plan = [(label, "train", 24) for label in ("good", "dark")]
    data = data_set(tmp_path / "d", plan)
    (tmp_path / "d" / "dark-train3.png").write_bytes(b"no image")
    assert train(data, tmp_path / "e" / "1") == 0
    told = capsys.readouterr().err.replace("\n", "")
    assert "left out, cannot be read" in told
    assert "dark-train3.png" in told


def test_a_loss_that_breaks_leaves_no_engine_and_says_what_to_change(shades, tmp_path, capsys):
    assert train(shades, tmp_path / "e", "--rate", "1e30") == 2
    assert "a lower --rate" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_ctrl_c_is_told_and_gone_on_from(shades, tmp_path, capsys):
    out = tmp_path / "e" / "1"
    program = "import sys; from edge_inspector.cli.main import main; sys.exit(main())"
    words = words_of(shades, out, "--epochs", "100000", "--patience", "100000", "--minutes", "50")
    with subprocess.Popen(
        [sys.executable, "-c", program, *words], stderr=subprocess.PIPE, text=True
    ) as child:
        deadline = time.monotonic() + 60
        while not (part_of(out) / "checkpoint").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        _, told = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "Traceback" not in told
    assert "--resume with the same words goes on" in " ".join(told.split())
    assert not out.exists()
    short = [*words, "--minutes", "0.001", "--resume"]
    assert main(short) == 0
    assert (out / "manifest.toml").exists()
    assert not part_of(out).exists()
    assert main(short) == 0


def drawn(folder, *, sound):
    """A GAN's folder of ten dark images, with the verdict of its own check."""
    (folder / "dark").mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 40, (10, 32, 32, 1)).astype(np.uint8)
    for number, image in enumerate(images):
        cv2.imwrite(str(folder / "dark" / f"{number:04d}.png"), image)
    recall = 1.0 if sound else 0.1
    card = {
        "shape": Input(height=32, width=32),
        "classes": ("dark",),
        "count": 10,
        "data_sha256": "0" * 64,
        "images_sha256": hashlib.sha256(images.tobytes()).hexdigest(),
        **dict.fromkeys(("rate", "matching", "seconds", "distance"), 1.0),
        "seed": 0,
        "steps": 1,
        "ended": "the 1 steps were taken",
        "quality": Quality(
            sound=sound,
            accuracy=recall,
            real_accuracy=1.0,
            classes={"dark": ClassQuality(recall=recall, real_recall=1.0, diversity=1.0)},
        ),
    }
    text = tomlkit.dumps(Card.model_validate(card).model_dump())
    (folder / "gan.toml").write_text(text, encoding="utf-8")
    return str(folder)


def test_images_that_a_gan_drew_are_learned_from_and_counted(shades, tmp_path, capsys):
    gan = drawn(tmp_path / "gan", sound=True)
    assert train(shades, tmp_path / "e" / "1", "--augment", gan, "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["images"]["generated"] == 10
    assert "58 crops to learn from" in err
    assert "10 generated images are learned from too" in err


def test_images_of_a_gan_that_failed_its_own_check_are_not_mixed_in(shades, tmp_path, capsys):
    gan = drawn(tmp_path / "gan", sound=False)
    assert train(shades, tmp_path / "e" / "1", "--augment", gan) == 2
    assert "failed its own quality check (dark: " in capsys.readouterr().err
    assert not (tmp_path / "e").exists()
