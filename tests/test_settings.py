from pathlib import Path

import pytest

from edge_inspector.errors import DocumentError
from edge_inspector.settings import Settings, ZmqSource, load_settings, origins

STATION = """\
station = "s1"
recipe = "recipe.toml"
[workers]
count = 2
threads = 3
[[sources]]
type = "zmq-pull"
name = "a"
endpoint = "tcp://127.0.0.1:5574"
[[sources]]
type = "camera"
name = "b"
uri = "file:///x"
"""


def write(folder: Path, text: str = STATION) -> Path:
    path = folder / "station.toml"
    path.write_text(text)
    return path


def refusal(path: Path, **overrides: object) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        load_settings(path, overrides)
    return caught.value


def test_relative_paths_start_at_the_file(tmp_path):
    settings = load_settings(write(tmp_path, STATION + '[archive]\npath = "rejects"\n'))
    assert settings.recipe == tmp_path / "recipe.toml"
    assert settings.store == tmp_path / "state"
    assert settings.archive is not None
    assert settings.archive.path == tmp_path / "rejects"


def test_the_environment_beats_the_file_key_by_key(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_INSPECTOR_WORKERS__COUNT", "5")
    settings = load_settings(write(tmp_path))
    assert (settings.workers.count, settings.workers.threads) == (5, 3)


def test_arguments_beat_the_environment_key_by_key(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_INSPECTOR_WORKERS__COUNT", "5")
    monkeypatch.setenv("EDGE_INSPECTOR_LOG_LEVEL", "debug")
    overrides = {"workers": {"count": 7}, "log_level": "error"}
    settings = load_settings(write(tmp_path), overrides)
    assert (settings.workers.count, settings.workers.threads) == (7, 3)
    assert settings.log_level == "error"


def test_each_value_says_where_it_came_from(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_INSPECTOR_WORKERS__THREADS", "1")
    found = origins(write(tmp_path), {"store": "elsewhere"})
    assert found["workers.threads"] == "environment"
    assert found["workers.count"] == "file"
    assert found["workers.hang_ms"] == "default"
    assert found["store"] == "argument"
    assert found["sources"] == "file"


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("EDGE_INSPECTOR_WORKRS", "EDGE_INSPECTOR_WORKERS?"),
        ("EDGE_INSPECTOR_WORKERS__COUT", "EDGE_INSPECTOR_WORKERS__COUNT?"),
        ("EDGE_INSPECTOR_ARCHIVE__PTH", "EDGE_INSPECTOR_ARCHIVE__PATH?"),
        ("EDGE_INSPECTOR_STATION__NAME", "EDGE_INSPECTOR_STATION__NAME"),
        ("EDGE_INSPECTOR_SOURCES__0__NAME", "EDGE_INSPECTOR_SOURCES__0__NAME"),
    ],
)
def test_an_unknown_variable_is_named_with_the_nearest(tmp_path, monkeypatch, variable, hint):
    monkeypatch.setenv(variable, "1")
    problem = refusal(write(tmp_path)).problem
    assert problem.startswith(f"unknown environment variable {variable}")
    assert problem.endswith(hint)


def test_a_wrong_variable_is_blamed_not_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_INSPECTOR_WORKERS__COUNT", "0")
    error = refusal(write(tmp_path))
    assert error.path == "environment variable EDGE_INSPECTOR_WORKERS__COUNT"
    assert "greater than or equal to 1" in error.problem


def test_a_list_from_the_environment_is_json(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_INSPECTOR_SINKS", '[{"type": "zmq"}]')
    assert len(load_settings(write(tmp_path)).sinks) == 1
    monkeypatch.setenv("EDGE_INSPECTOR_SINKS", '[{"type": "zmq", "end": 1}]')
    assert refusal(write(tmp_path)).path == "environment variable EDGE_INSPECTOR_SINKS"
    monkeypatch.setenv("EDGE_INSPECTOR_SINKS", "[")
    assert "not the JSON" in refusal(write(tmp_path)).problem


def test_a_wrong_argument_is_blamed(tmp_path):
    error = refusal(write(tmp_path), workers={"count": 0})
    assert error.path == "argument"


def test_a_fault_in_a_source_names_only_the_type_that_was_meant(tmp_path):
    error = refusal(write(tmp_path, STATION.replace("uri =", "url =")))
    assert error.line is not None
    assert STATION.splitlines()[error.line - 1] == "[[sources]]"
    assert error.line == 10
    assert error.problem == (
        "key 'sources.1.uri' is missing; unknown key 'sources.1.url'; did you mean 'uri'?"
    )


def test_a_fault_in_an_inline_table_has_the_line_of_its_key(tmp_path):
    text = 'station = "s"\nrecipe = "r"\nsources = [\n  {type = "folder", name = "f",\n'
    error = refusal(write(tmp_path, text + '   uri = "file:///x",\n   rate_hz = -1},\n]\n'))
    assert error.line == 6
    assert error.problem.startswith("'sources.0.rate_hz': Input should be greater than 0")


def test_a_key_with_the_name_of_its_type_is_told_apart_from_it(tmp_path):
    error = refusal(write(tmp_path, STATION.replace("uri =", 'camera = "a b"\nuri =')))
    assert error.line == 13
    assert error.problem.startswith("'sources.1.camera':")


@pytest.mark.parametrize(
    ("kind", "told"),
    [("zmq-pul", "unknown type 'zmq-pul'; did you mean 'zmq-pull'?"), ("", "unknown type ''")],
)
def test_an_unknown_type_is_told_with_the_known_ones(tmp_path, kind, told):
    error = refusal(write(tmp_path, STATION.replace('"zmq-pull"', f'"{kind}"')))
    assert error.line == 6
    assert told in error.problem
    assert "known: zmq-sub, zmq-pull, zmq-rep, assured, camera, folder, package" in error.problem


def test_a_plugin_is_chosen_by_its_colon(tmp_path):
    text = STATION.replace('"zmq-pull"', '"my.lines:Laser"').replace("endpoint", "options.port")
    source = load_settings(write(tmp_path, text)).sources[0]
    assert source.type == "my.lines:Laser"
    error = refusal(write(tmp_path, text.replace("options.port", "prot")))
    assert error.problem == "unknown key 'sources.0.prot'"


def test_settings_can_be_made_in_code():
    source = ZmqSource(type="zmq-sub", name="a", endpoint="tcp://127.0.0.1:1")
    assert Settings(station="s", recipe=Path("r"), sources=(source,)).sources == (source,)


def test_a_missing_station_file_is_named(tmp_path):
    assert "there is no such file" in str(refusal(tmp_path / "no.toml"))


def test_pass_is_no_way_to_treat_what_was_not_inspected(tmp_path):
    assert "'reject'" in refusal(write(tmp_path, 'reject = "pass"\n' + STATION)).problem
