"""`plc-sim`: misuse, and a belt past a station from the command line."""

import json

import cv2
import pytest

pytest.importorskip("pymodbus", reason="plc-sim is not tested: pymodbus is missing")

from bench.bench_offbyone import station_settings
from edge_inspector.cli.main import main
from edge_inspector.studies.harness import Station, free_port
from tests.integration.conftest import BAD, GOOD


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["here"], "HOST:PORT"),
        (["127.0.0.1:x"], "HOST:PORT"),
        (["--frames", "."], "belong together"),
        (["--rate", "0"], "above 0"),
    ],
)
def test_wrong_use_is_said_with_the_remedy(words, wanted, capsys):
    assert main(["plc-sim", *words]) == 2
    assert wanted in capsys.readouterr().err


def test_a_folder_without_pictures_is_said(tmp_path, capsys):
    words = ["--frames", str(tmp_path), "--to", "tcp://127.0.0.1:1"]
    assert main(["plc-sim", *words]) == 2
    assert "no picture" in capsys.readouterr().err


def test_a_gateway_that_is_not_there_lets_nothing_through(capsys):
    assert main(["plc-sim", f"127.0.0.1:{free_port()}", "--seconds", "0.3"]) == 1
    assert "passed" not in capsys.readouterr().out


@pytest.mark.slow
def test_parts_past_a_station_come_to_the_gate_with_their_own_verdict(
    tmp_path, monkeypatch, capsys
):
    settings = station_settings(tmp_path / "station", refuse_repeats=False)
    settings["workers"] = {"backends": ["openvino"]}
    recipe = tmp_path / "station" / "recipe.toml"
    text = recipe.read_text().replace("150000.0", "0.02").replace("400.0", "900.0")
    recipe.write_text(text)
    parts = tmp_path / "parts"
    parts.mkdir()
    for number, pixels in enumerate((GOOD, BAD, GOOD)):
        cv2.imwrite(str(parts / f"{number}.png"), pixels)
    with Station(tmp_path / "station", settings):
        code = main(
            [
                *("plc-sim", f"127.0.0.1:{settings['sinks'][0]['port']}", "--json"),
                *("--frames", str(parts), "--to", settings["sources"][0]["endpoint"]),
                *("--units", "9", "--rate", "4", "--slots", "5", "--seconds", "30"),
            ]
        )
    *rows, counts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 0
    opened = {row["trigger_id"]: row["opened"] for row in rows}
    assert opened == {number: number % 3 != 2 for number in range(1, 10)}
    assert counts["passed"] == 6
