"""Coverage-guided fuzzing of the decoders for a minute each."""

import importlib.util
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fuzz import run

SECONDS = 60
FEWEST = 10_000
pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        importlib.util.find_spec("atheris") is None,
        reason="atheris is not installed: it has wheels for CPython 3.11 to 3.13 on x86-64 Linux",
    ),
]


def test_coverage_guided_fuzzing_finds_nothing(tmp_path):
    with ThreadPoolExecutor(run.AT_ONCE) as pool:
        found = list(pool.map(lambda name: run.fuzz(name, SECONDS, tmp_path), run.NAMES))
    for name, (status, runs, said) in zip(run.NAMES, found, strict=True):
        print(f"{name}: {runs} executions in {SECONDS} s")
        assert status == 0, said
        assert runs >= FEWEST


def test_control_a_decoder_that_trusts_a_length_is_found_out(tmp_path):
    status, _, said = run.fuzz("control", SECONDS, tmp_path)
    assert status != 0
    assert "unpack_from requires a buffer" in said
    assert list((tmp_path / "control").glob("crash-*"))
