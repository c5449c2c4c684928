import json

import cv2
import numpy as np
import pytest
import torch

from edge_inspector.bundle import open_engine
from edge_inspector.cli.main import main


@pytest.fixture(autouse=True)
def one_thread():
    yield
    torch.set_num_threads(1)


def data_set(folder, count):
    """A folder of grey gradients; each differs a little from the others."""
    rng = np.random.default_rng(2)
    rows = ["path,label,split"]
    ramp = np.add.outer(np.arange(64), np.arange(64)) + 40
    for number in range(count):
        picture = np.clip(ramp + rng.normal(0, 3, ramp.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), picture)
        rows.append(f"{number}.png,good,train")
    (folder / "data.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return str(folder / "data.csv")


def train(data, out, *more):
    fixed = ["--model", "lean", "--minutes", "0.02", "--threads", "1"]
    return main(["train", "anomaly", "--data", data, "--out", str(out), *fixed, *more])


def test_an_engine_is_written_and_broken_files_are_named(tmp_path, capsys):
    data = data_set(tmp_path, 24)
    (tmp_path / "5.png").write_bytes(b"no image")
    assert train(data, tmp_path / "ramp" / "2", "--json") == 0
    out, err = capsys.readouterr()
    assert "5.png" in err.replace("\n", "")
    assert json.loads(out)["images"] == {"train": 21, "held_out": 2, "corrupt": 1}
    assert open_engine(tmp_path / "ramp" / "2").title == "ramp/2"


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_are_misuse(tmp_path, capsys, count):
    assert train(data_set(tmp_path, count), tmp_path / "e") == 2
    assert "good" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


def test_a_taken_folder_is_refused_before_any_work(tmp_path, capsys):
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "notes.txt").write_text("mine", encoding="utf-8")
    assert train(str(tmp_path / "none.csv"), tmp_path / "e") == 2
    assert "engines never change" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--alpha", "0"), "--alpha 0; it must be a number above 0"),
        (("--gamma", "nan"), "--gamma nan; it must"),
        (("--epochs", "-1"), "--epochs -1; it must"),
        (("--beta", "3"), "'lean' weighs no divergence"),
        (("--gamma", "2"), "--gamma 2.0: the model 'lean' has no use for it"),
        (("--weights", "w.pth"), "--weights w.pth: the model 'lean' has no use for it"),
        (("--score", "gradcon"), "'lean' gives no score 'gradcon'"),
    ],
)
def test_weights_that_make_no_sense_are_misuse(tmp_path, capsys, options, message):
    assert train(data_set(tmp_path, 4), tmp_path / "e", *options) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "e").exists()
