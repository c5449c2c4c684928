"""The demo on the shipped engine: every unit answered, and the summary says what it promises."""

import json
import subprocess
import sys

import pytest

from edge_inspector.histogram import QUANTILES

KEYS = {"offered", "accepted", "verdicts", "lost", "doubled", "timeouts", "outcomes"}
KEYS |= {"engine", "rules", "latency_ms", "budget_ms"}


def demo(*words):
    command = [sys.executable, "-m", "edge_inspector.cli.main", "demo", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_the_demo_loses_nothing_and_tells_engine_and_rules_against_the_truth(tmp_path):
    out = tmp_path / "demo"
    done = demo(
        "--seconds", 4, "--units-per-second", 25, "--defect-rate", 0.3, "--out", out, "--json"
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary.keys() >= KEYS
    assert (summary["offered"], summary["accepted"], summary["verdicts"]) == (100, 100, 100)
    assert (summary["lost"], summary["doubled"]) == (0, 0)
    assert summary["engine"].keys() == {"escapes", "overkill", "escape_rate", "overkill_rate"}
    assert summary["latency_ms"].keys() == QUANTILES.keys()
    assert 0 < summary["latency_ms"]["p50"] < summary["budget_ms"]
    assert summary["outcomes"]["fail"] >= 5
    # It misses most balls that are hardly off their places (engines/bga/3.json), and little else.
    assert summary["engine"]["escape_rate"] < 0.4
    pictures = list((out / "rejects").glob("*.png"))
    assert len(pictures) == summary["outcomes"]["fail"]


def test_the_demo_does_not_empty_a_folder_that_is_not_its_own(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    done = demo("--out", tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "other files" in done.stderr
    assert (tmp_path / "thesis.txt").exists()
