import resource
import signal
import subprocess
import sys
import time

import pytest
import torch

from edge_inspector.cli.main import main
from edge_inspector.errors import Breakage, DataError, Misuse
from edge_inspector.training import anomaly, checkpoint
from edge_inspector.training.anomaly import train
from edge_inspector.training.checkpoint import Keeper, all_or_nothing, load, part_of, save
from edge_inspector.training.data import read_good
from edge_inspector.training.plan import Plan


@pytest.fixture(autouse=True)
def one_thread():
    yield
    torch.set_num_threads(1)


@pytest.fixture
def small_files():
    """Files may grow to 4096 bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def state_of(step):
    return {"step": step, "weights": {"a": torch.arange(3000) + step}, "ended": ""}


def test_a_state_comes_back_as_it_was(tmp_path):
    save(tmp_path / "e.part" / "checkpoint", state_of(7))
    found = load(tmp_path / "e.part" / "checkpoint")
    assert found is not None
    assert found["step"] == 7
    assert torch.equal(found["weights"]["a"], state_of(7)["weights"]["a"])
    assert load(tmp_path / "none") is None


def test_a_full_disk_leaves_the_checkpoint_before_it(tmp_path, small_files):
    path = tmp_path / "checkpoint"
    save(path, state_of(1))
    small_files()
    with pytest.raises(Breakage, match=r"cannot be written: File too large.*before is intact"):
        save(path, state_of(2))
    found = load(path)
    assert found is not None
    assert found["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]


def write_engine_into(folder):
    with all_or_nothing(folder) as draft:
        (draft / "good.png").write_bytes(b"x")
        (draft / "model.onnx").write_bytes(bytes(5000))


def test_a_full_disk_leaves_no_half_engine(tmp_path, small_files):
    small_files()
    with pytest.raises(Breakage, match=r"engine cannot be written.*nothing was left half-written"):
        write_engine_into(tmp_path / "e")
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_fits_is_all_there(tmp_path):
    write_engine_into(tmp_path / "e")
    assert sorted(path.name for path in (tmp_path / "e").iterdir()) == ["good.png", "model.onnx"]
    assert not part_of(tmp_path / "e").exists()


def test_training_on_a_full_disk_says_so_and_leaves_nothing_half_written(
    units, tmp_path, small_files, capsys
):
    small_files()
    words = ["--model", "lean", "--steps", "3", "--threads", "1", "--out", str(tmp_path / "e")]
    assert main(["train", "anomaly", "--data", str(units), *words]) == 3
    assert "make room and go on with --resume" in capsys.readouterr().err
    assert list(tmp_path.rglob("*")) == [tmp_path / "e.part"]


def test_a_damaged_checkpoint_is_not_taken(tmp_path):
    path = tmp_path / "checkpoint"
    save(path, state_of(1))
    raw = bytearray(path.read_bytes())
    raw[2000] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match="changed after it was written"):
        load(path)


def kept(folder, identity="lean on these", *, resume=True):
    with Keeper(folder, identity, resume=resume) as keeper:
        return keeper.state()


def test_a_state_of_another_training_is_refused(tmp_path):
    with Keeper(tmp_path, "lean on these", resume=False) as keeper:
        keeper.after_step(lambda: state_of(3), last=True)
    found = kept(tmp_path)
    assert found is not None
    assert found["step"] == 3
    with pytest.raises(Misuse, match=r"holds another training \(lean on these, asked for is lean"):
        kept(tmp_path, "lean on those")
    with pytest.raises(Misuse, match="go on with --resume, or remove"):
        kept(tmp_path, resume=False)


def test_without_a_folder_nothing_is_kept(tmp_path):
    with Keeper(None, "lean", resume=False) as keeper:
        keeper.after_step(lambda: state_of(3), last=True)
        assert keeper.state() is None


def interrupted_after_three(folder):
    with Keeper(folder, "lean", resume=False) as keeper:
        keeper.after_step(lambda: state_of(3))
        signal.raise_signal(signal.SIGINT)
        keeper.after_step(lambda: state_of(4))
        keeper.after_step(lambda: state_of(5))


def test_ctrl_c_keeps_the_state_of_a_whole_step(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        interrupted_after_three(tmp_path)
    found = kept(tmp_path, "lean")
    assert found is not None
    assert found["step"] == 4


def test_after_the_keeper_ctrl_c_is_as_before(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with Keeper(tmp_path, "lean", resume=False):
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize(("model", "score"), [("lean", "residual"), ("solder-vae", "gradcon")])
def test_a_training_that_was_cut_off_goes_on_to_the_same_end(
    units, tmp_path, monkeypatch, model, score
):
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    crops = read_good(units, 0)
    whole = train(Plan(model, steps=6, threads=1, score=score), crops)
    plan = Plan(model, steps=6, threads=1, score=score, part=tmp_path, resume=True)

    def cut_off(step, loss, best):
        if step == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(plan, crops, cut_off)
    steps = []
    rest = train(plan, crops, lambda step, loss, best: steps.append(step))
    assert steps == [4, 5, 6]
    assert rest.losses == whole.losses
    pairs = zip(whole.graph.state_dict().values(), rest.graph.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_bound_that_ended_a_training_may_be_raised(units, tmp_path):
    crops = read_good(units, 0)
    first = train(Plan("lean", steps=3, threads=1, part=tmp_path), crops)
    more = train(Plan("lean", steps=6, threads=1, part=tmp_path, resume=True), crops)
    assert (first.steps, more.steps) == (3, 6)


def test_a_loss_that_is_no_number_leaves_a_checkpoint_to_look_at(units, tmp_path, monkeypatch):
    crops = read_good(units, 0)
    train(Plan("lean", steps=2, threads=1, part=tmp_path), crops)
    monkeypatch.setattr(anomaly, "_step", lambda *_: float("nan"))
    trained = train(Plan("lean", steps=6, threads=1, part=tmp_path, resume=True), crops)
    assert trained.ended == "the loss was nan at step 3, the best state before is kept"
    assert not trained.sound


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_ctrl_c_on_the_command_line_is_told_and_can_be_gone_on_from(units, tmp_path):
    out = tmp_path / "e" / "1"
    words = ["train", "anomaly", "--data", units, "--model", "lean", "--threads", "1", "--out", out]
    program = "import sys; from edge_inspector.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", program, *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        deadline = time.monotonic() + 50
        while not (part_of(out) / "checkpoint").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        _, told = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "Traceback" not in told
    assert "--resume with the same words goes on" in told.replace("\n", " ")
    assert not out.exists()
    bounded = [*map(str, words), "--resume", "--steps", "1"]
    assert main(bounded) == 0
    assert (out / "manifest.toml").exists()
    assert not part_of(out).exists()


@pytest.mark.timeout(180)
def test_several_scores_take_one_training(units, tmp_path, capsys):
    words = ["--model", "lean", "--steps", "4", "--threads", "1", "--score", "cosine,residual"]
    assert (
        main(["train", "anomaly", "--data", str(units), *words, "--out", str(tmp_path / "e")]) == 0
    )
    made = sorted(path.parent.name for path in tmp_path.rglob("manifest.toml"))
    assert made == ["cosine", "residual"]
    assert " ".join(capsys.readouterr().err.split()).count("4 steps in") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e"]
