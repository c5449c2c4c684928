from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from edge_inspector.documents import Document, line_of, load
from edge_inspector.errors import DocumentError

TEXT = '''# a station
name = "one"
limits.height = 20
lists = [
  {kind = "x", size = 1},
  {kind = "y",
   size = 2},
]
prose = """
[lists]
name = "not a key"
"""
[[regions]]
name = "a"  # the first
[[regions]]
name = "b"
rect = [1,
  2]
  [regions.grid]
  rows = 2
  [[regions.marks]]
  x = 1
  [[regions.marks]]
  x = true
[deep.er]
x = 1
[between]
[deep.also]
y = 1
'''


@pytest.mark.parametrize(
    ("location", "line"),
    [
        (["name"], 2),
        (["limits", "height"], 3),
        (["lists", 0, "size"], 5),
        (["lists", 1], 6),
        (["lists", 1, "size"], 7),
        (["prose"], 9),
        (["regions", 0, "name"], 14),
        (["regions", 1], 15),
        (["regions", 1, "rect", 1], 17),
        (["regions", 1, "grid"], 19),
        (["regions", 1, "grid", "rows"], 20),
        (["regions", 1, "marks", 1], 23),
        (["regions", 1, "marks", 1, "x"], 24),
        (["deep"], 25),
        (["deep", "also", "y"], 29),
    ],
)
def test_the_line_of_a_key_is_found_however_the_table_is_written(location, line):
    assert line_of(TEXT, location) == line


def test_an_absent_key_is_placed_at_the_table_it_is_missing_from():
    assert line_of(TEXT, ["regions", 1, "grid", "columns"]) == 19
    assert line_of(TEXT, ["nothing"]) is None


class Limits(Document):
    height: int = Field(default=1, gt=0)


class Deep(Document):
    heigth_px: int = 1
    limits: Limits = Limits()


class Station(Document):
    name: str
    deep: Deep = Deep()
    mode: Literal["a", "b"] = "a"


def refusal(tmp_path: Path, text: str) -> DocumentError:
    path = tmp_path / "station.toml"
    path.write_text(text)
    with pytest.raises(DocumentError) as caught:
        load(Station, path)
    assert caught.value.path == str(path)
    return caught.value


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_key(tmp_path):
    error = refusal(tmp_path, 'name = "x"\nmod = "a"\n')
    assert (error.line, error.problem) == (2, "unknown key 'mod'; did you mean 'mode'?")


def test_the_nearest_key_is_one_of_the_same_table(tmp_path):
    error = refusal(tmp_path, 'name = "x"\n[deep]\nlimits = {heigth = 2}\n')
    assert error.line == 3
    assert error.problem == "unknown key 'deep.limits.heigth'; did you mean 'height'?"


def test_a_key_like_no_other_gets_no_hint(tmp_path):
    assert refusal(tmp_path, 'name = "x"\nzzz = 1\n').problem == "unknown key 'zzz'"


def test_a_wrong_value_is_shown_with_its_limit(tmp_path):
    error = refusal(tmp_path, 'name = "x"\n[deep.limits]\n\nheight = 0\n')
    assert error.line == 4
    assert error.problem == "'deep.limits.height': Input should be greater than 0 (got 0)"


def test_all_faults_are_told_at_once(tmp_path):
    error = refusal(tmp_path, 'mode = "c"\nextra = 1\n')
    assert "key 'name' is missing" in error.problem
    assert "'mode'" in error.problem
    assert "unknown key 'extra'" in error.problem


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DocumentError, match=r"nowhere\.toml: there is no such file"):
        load(Station, tmp_path / "nowhere.toml")


def test_text_that_is_not_toml_is_placed_at_its_line(tmp_path):
    error = refusal(tmp_path, 'name = "x"\nmode = \n')
    assert error.line == 2
    assert "is not TOML" in error.problem


def test_a_key_given_twice_is_refused(tmp_path):
    assert "is not TOML" in refusal(tmp_path, 'name = "x"\nname = "y"\n').problem


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "station.toml").write_bytes(b'name = "\xff"\n')
    with pytest.raises(DocumentError, match="cannot be read as UTF-8 text"):
        load(Station, tmp_path / "station.toml")
