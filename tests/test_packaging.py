import re
import subprocess
import sys
from pathlib import Path

import pytest
import tomlkit

from edge_inspector import __version__
from edge_inspector.cli.main import VERBS
from edge_inspector.recipe import load_recipe
from edge_inspector.recipe_alignment import Outline
from edge_inspector.settings import load_settings

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomlkit.parse((ROOT / "pyproject.toml").read_text()).unwrap()["project"]
CONDITION = r"[a-z_]+ (<|>=|==) \"[A-Za-z0-9_.]+\""
PIN = re.compile(rf"^([A-Za-z0-9_.-]+)==[0-9][0-9A-Za-z.]*( ; {CONDITION}( and {CONDITION})*)?$")


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=\[ ;]", line)[0].lower().replace("_", "-") for line in requirements}


def pinned(step: str) -> list[str]:
    lines = (ROOT / "requirements" / f"{step}.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith(("#", "-r "))]


def test_the_version_is_the_same_everywhere():
    assert PROJECT["version"] == __version__
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("step", ["line", "test", "dev"])
def test_every_version_is_exact(step):
    assert [line for line in pinned(step) if not PIN.match(line)] == []


def test_the_line_has_all_it_needs_and_nothing_of_the_training_stack():
    line = names(pinned("line"))
    assert names(PROJECT["dependencies"]) <= line
    assert not line & {"torch", "onnx", "onnxruntime", "matplotlib", "scipy", "tensorrt"}


def test_development_has_the_training_stack_but_no_driver_packages():
    dev = names(pinned("test") + pinned("dev"))
    assert names(PROJECT["optional-dependencies"]["train"]) <= dev
    assert not [name for name in dev if name.startswith(("tensorrt", "nvidia", "pycuda"))]


def test_no_file_of_the_set_up_names_an_index():
    for name in ("Makefile", "pyproject.toml", ".ci/run", "tests/interpreters.sh"):
        assert "://" not in (ROOT / name).read_text(), name
    for path in (ROOT / "requirements").iterdir():
        if path.is_file():
            assert "://" not in path.read_text(), path.name


def test_every_verb_has_its_module():
    for verb, (module, text) in VERBS.items():
        path = ROOT / (module.replace(".", "/") + ".py")
        assert path.is_file(), verb
        source = path.read_text()
        assert f"def add_{verb.replace('-', '_')}(" in source
        assert f"def run_{verb.replace('-', '_')}(" in source
        assert text


def test_the_line_runs_without_the_training_stack():
    program = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnxruntime', 'onnxscript', 'matplotlib', 'scipy'):\n"
        "    sys.modules[name] = None\n"
        "import edge_inspector.wiring, edge_inspector.worker, edge_inspector.ingest\n"
        "import edge_inspector.client, edge_inspector.studies.check, edge_inspector.inspector\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_example_documents_are_sound():
    folder = ROOT / "deploy" / "examples"
    settings = load_settings(folder / "station.toml")
    recipe = load_recipe(settings.recipe)
    assert {source.camera for source in settings.sources} == set(recipe.cameras)
    assert isinstance(recipe.alignment["main"], Outline)


def test_the_documents_that_users_look_for_are_there():
    for name in ("README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE"):
        assert (ROOT / name).stat().st_size > 500
    assert "Apache License" in (ROOT / "LICENSE").read_text()
