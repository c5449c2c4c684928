import json
from pathlib import Path

import pytest

from edge_inspector.cli.main import main

STATION = """\
station = "s1"
recipe = "recipe.toml"
workers.backends = ["openvino"]
[[sources]]
type = "zmq-sub"
name = "a"
endpoint = "tcp://127.0.0.1:5598"
"""
RECIPE = """\
product = "p"
version = 1
latency_budget_ms = 500
engines.tiny = "tiny/1"
[[regions]]
name = "a"
rect = [0, 0, 32, 32]
engine = "tiny"
"""
CALIBRATION = """\
[calibration]
threshold = 5.0
overkill = 0.01
promised_overkill = 0.0099
units = 300
backend = "openvino"
[calibration.engines]
tiny = "DIGEST"
[calibration.regions.a]
center = 0.0
spread = 1.0
"""


@pytest.fixture
def folder(tmp_path: Path, make_engine) -> Path:
    from edge_inspector.bundle import open_engine

    digest = open_engine(make_engine(tmp_path / "tiny" / "1")).digest
    (tmp_path / "station.toml").write_text(STATION)
    (tmp_path / "recipe.toml").write_text(RECIPE + CALIBRATION.replace("DIGEST", digest))
    return tmp_path


def test_a_sound_station_is_reported_with_its_values(folder, capsys, monkeypatch):
    monkeypatch.setenv("EDGE_INSPECTOR_WORKERS__THREADS", "1")
    assert main(["check", str(folder / "station.toml"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert "FAIL" not in {finding["level"] for finding in report["findings"]}
    subjects = {finding["subject"] for finding in report["findings"]}
    assert {"station", "store", "source a", "engine tiny", "budget", "disk"} <= subjects
    values = {row["key"]: (row["value"], row["from"]) for row in report["values"]}
    assert values["workers.threads"] == (1, "environment")
    assert values["workers.count"] == (1, "default")
    assert values["workers.backends"] == (["openvino"], "file")
    assert values["store"] == (str(folder / "state"), "default")


def test_findings_exit_1_and_are_shown_in_words(folder, capsys):
    (folder / "recipe.toml").write_text(RECIPE)
    assert main(["check", str(folder / "station.toml")]) == 1
    shown = capsys.readouterr().out
    assert "FAIL" in shown
    assert "calibrate" in shown


def test_a_wrong_document_exits_2_with_one_line(folder, capsys):
    (folder / "station.toml").write_text(STATION.replace("endpoint", "endpiont"))
    assert main(["check", str(folder / "station.toml")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "station.toml:7" not in told
    assert "station.toml:4: key 'sources.0.endpoint' is missing" in told
    assert "did you mean 'endpoint'?" in told
