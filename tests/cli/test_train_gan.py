import json
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch

from edge_inspector.cli.main import main
from edge_inspector.training.checkpoint import part_of


@pytest.fixture(autouse=True)
def one_thread():
    yield
    torch.set_num_threads(1)


def data_set(folder, labels):
    """A CSV of noisy images, brighter or darker where the label says so."""
    rng = np.random.default_rng(3)
    rows = ["path,label,split"]
    for label in labels:
        for number in range(18):
            picture = rng.normal(120, 5, (32, 32))
            picture += {"bright": 100, "dark": -100}.get(label, 0)
            name = f"{label}{number}.png"
            cv2.imwrite(str(folder / name), np.clip(picture, 0, 255).astype(np.uint8))
            rows.append(f"{name},{label},{'train' if number < 12 else 'val'}")
    (folder / "data.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "data.csv"


@pytest.fixture(scope="module")
def shades(tmp_path_factory):
    return data_set(tmp_path_factory.mktemp("shades"), ("good", "bright", "dark"))


def words_of(data, out, *more):
    fixed = ["--size", "32", "--threads", "1", "--count", "6", "--sheet-steps", "2"]
    return ["train", "gan", "--data", str(data), "--out", str(out), *fixed, *more]


def test_an_untrained_gan_is_written_as_not_sound_and_no_classifier_takes_it(
    shades, tmp_path, capsys
):
    gan = tmp_path / "gan"
    assert main(words_of(shades, gan, "--steps", "3", "--json")) == 1
    out, err = capsys.readouterr()
    card = json.loads(out)
    assert card["quality"]["sound"] is False
    assert card["classes"] == ["bright", "dark"]
    assert "classifiers will not learn from it" in " ".join(err.split())
    drawn = sorted(path.relative_to(gan).as_posix() for path in gan.rglob("*.png"))
    assert [name for name in drawn if "/" not in name] == [
        "distance.png",
        "sheet-000002.png",
        "sheet-000003.png",
    ]
    assert sum(name.startswith("dark/") for name in drawn) == 6
    assert not part_of(gan).exists()
    words = ["--model", "scnn03", "--size", "32", "--augment", str(gan)]
    words = ["train", "classifier", "--data", str(shades), "--out", str(tmp_path / "e"), *words]
    assert main(words) == 2
    assert "failed its own quality check" in capsys.readouterr().err


def test_a_gan_that_learned_is_mixed_in(shades, tmp_path, capsys):
    gan, engine = tmp_path / "gan", tmp_path / "shades" / "1"
    assert main(words_of(shades, gan, "--steps", "60", "--rate", "0.002")) == 0
    words = ["--model", "scnn03", "--size", "32", "--epochs", "8", "--threads", "1"]
    words += ["--batch", "8", "--rate", "0.003", "--plain"]
    words = ["train", "classifier", "--data", str(shades), "--out", str(engine), *words]
    assert main([*words, "--augment", str(gan)]) == 0
    assert "12 generated images are learned from too" in " ".join(capsys.readouterr().err.split())


def test_one_defect_class_alone_is_refused(tmp_path, capsys):
    data = data_set(tmp_path, ("good", "bright"))
    assert main(words_of(data, tmp_path / "gan", "--steps", "1")) == 2
    assert "only one defect class, 'bright'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--steps", "0"], "--steps 0; it must be 1 or more"),
        (["--sheet-steps", "0"], "--sheet-steps 0; it must be 1 or more"),
        (["--matching", "nan"], "--matching nan; it must be a number, 0 or more"),
        (["--rate", "-1"], "--rate -1; it must be a number above 0"),
        (["--size", "40"], "--size 40; it must be a multiple of 16 px"),
        (["--device", "tpu"], "--device tpu"),
    ],
)
def test_words_of_which_no_gan_can_be_made_are_refused(words, said, tmp_path, capsys):
    assert main(words_of(tmp_path / "no.csv", tmp_path / "gan", *words)) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_keeps_the_state_and_resume_goes_on(shades, tmp_path):
    gan = tmp_path / "gan"
    command = [sys.executable, "-m", "edge_inspector.cli.main"]
    running = subprocess.Popen([*command, *words_of(shades, gan)], stderr=subprocess.PIPE)
    try:
        until = time.monotonic() + 50
        while not list(part_of(gan).glob("sheet-*.png")):
            assert time.monotonic() < until
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        said = " ".join(running.communicate(timeout=20)[1].decode().split())
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 130
    assert "--resume with the same words goes on" in said
    assert main(words_of(shades, gan, "--steps", "1", "--resume")) == 1
    assert (gan / "gan.toml").exists()
