import sys
from pathlib import Path

import pytest

from bench import hold_class_out
from edge_inspector.studies.dataset import read_items

ROWS = """path,label,split,group
a.png,good,train,1
b.png,dent,train,2
c.png,dent,val,3
d.png,dent,test,4
e.png,stain,train,5
f.png,good,test,6
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for name in "abcdef":
        (tmp_path / f"{name}.png").write_bytes(b"")
    data = tmp_path / "split.csv"
    data.write_text(ROWS)
    return data


def hold(monkeypatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["hold_class_out", *map(str, words)])
    return hold_class_out.main()


def test_a_class_held_out_is_in_the_test_split_alone(table, tmp_path, monkeypatch):
    out = tmp_path / "elsewhere" / "data.csv"

    assert hold(monkeypatch, table, out, "--label", "dent") == 0

    items = read_items(out)
    assert [(item.path.name, item.label, item.split) for item in items] == [
        ("a.png", "good", "train"),
        ("d.png", "dent", "test"),
        ("e.png", "stain", "train"),
        ("f.png", "good", "test"),
    ]


def test_a_class_that_cannot_be_tested_is_refused(table, tmp_path, monkeypatch, capsys):
    assert hold(monkeypatch, table, tmp_path / "o.csv", "--label", "stain") == 2
    assert "no 'stain', only dent, good" in capsys.readouterr().err
