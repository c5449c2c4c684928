import subprocess
import sys

import pytest

from edge_inspector import __version__
from edge_inspector.cli import main as command_line
from edge_inspector.cli.main import VERBS, main


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_inspector.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb):
    done = run(verb, "--help")
    if done.returncode == 3 and "needs the package" in done.stderr:
        assert "edge_inspector" not in done.stderr.split("'", 2)[2], done.stderr
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    assert f"edge-inspector {verb}" in done.stdout


def test_the_version_names_the_runtimes(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"edge-inspector {__version__}"
    assert {line.split()[0] for line in shown} >= {"python", "openvino", "onnxruntime", "tensorrt"}


def test_no_verb_or_a_wrong_one_exits_2(capsys):
    assert main([]) == 2
    assert "usage: edge-inspector" in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        main(["inspct"])
    assert left.value.code == 2
    assert "invalid choice: 'inspct'" in capsys.readouterr().err


def test_a_mistake_shows_one_line_and_no_traceback():
    done = run("check", "no-such-station.toml")
    assert done.returncode == 2
    assert done.stderr == "edge-inspector: no-such-station.toml: there is no such file\n"


def test_only_the_module_of_the_verb_is_imported():
    program = (
        "import sys; from edge_inspector.cli.main import main; main(['schema', '--check']); "
        "print(sorted(m for m in sys.modules if m.startswith('edge_inspector.cli.')), "
        "[m for m in ('torch', 'openvino', 'zmq', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "['edge_inspector.cli.main', 'edge_inspector.cli.schema'] []\n"


VERB = """\
from edge_inspector import errors
import argparse, os

RAISED = {
    "misuse": errors.Misuse("value, limit, remedy"),
    "breakage": errors.StoreFault("the disk is full"),
    "refused": errors.EngineRefused("no"),
    "absent": FileNotFoundError(2, "No such file or directory", "out/x.json"),
    "full": OSError(28, "No space left on device", "out/x.json"),
    "module": ModuleNotFoundError("No module named 'torch'", name="torch"),
    "interrupt": KeyboardInterrupt(),
    "bug": ZeroDivisionError("ours"),
}

def add_stumble(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("over")

def run_stumble(args: argparse.Namespace) -> int:
    if args.over.isdigit():
        return int(args.over)
    raise RAISED[args.over]
"""


@pytest.fixture
def _stumble(tmp_path, monkeypatch):
    (tmp_path / "stumbling_verb.py").write_text(VERB)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(command_line.VERBS, "stumble", ("stumbling_verb", "fails as it is told"))


@pytest.mark.usefixtures("_stumble")
@pytest.mark.parametrize(
    ("over", "code", "told"),
    [
        ("0", 0, ""),
        ("1", 1, ""),
        ("78", 78, ""),
        ("misuse", 2, "edge-inspector: value, limit, remedy\n"),
        ("breakage", 3, "edge-inspector: the disk is full\n"),
        ("refused", 1, "edge-inspector: no\n"),
        ("absent", 2, "edge-inspector: out/x.json: No such file or directory\n"),
        ("full", 3, "edge-inspector: out/x.json: No space left on device\n"),
        ("module", 3, "edge-inspector: needs the package 'torch', which is not installed\n"),
        ("interrupt", 130, "edge-inspector: interrupted\n"),
    ],
)
def test_every_kind_of_error_has_its_exit_code(over, code, told, capsys):
    assert main(["stumble", over]) == code
    assert capsys.readouterr().err == told


@pytest.mark.usefixtures("_stumble")
def test_a_fault_of_our_own_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        main(["stumble", "bug"])


def test_a_reader_that_leaves_early_is_no_fault():
    done = subprocess.run(
        f"{sys.executable} -m edge_inspector.cli.main --version | head -c 1; exit $?",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == "e"
    assert "Traceback" not in done.stderr
