import io
import json
from pathlib import Path

import pytest
from rich.console import Console

pytest.importorskip("torch", reason="engine lint is part of the training stack's checks")

from edge_inspector.cli.main import main
from edge_inspector.cli.train_common import tell_lint
from edge_inspector.training.graph_rules import Finding, lint
from tests.training.graphs import FLOAT, graph

SHIPPED = Path(__file__).resolve().parents[2] / "engines/bga/3"
SHUFFLED = [
    ("Cast", ["crops"], ["x"], {"to": FLOAT}),
    ("DepthToSpace", ["x"], ["y"], {"blocksize": 4}),
    ("ReduceMean", ["y"], ["score"], {"keepdims": 0}),
]


def test_an_engine_without_findings_says_so_and_what_it_costs(tiny_engine, capsys):
    assert main(["engine", "lint", str(tiny_engine)]) == 0
    told = capsys.readouterr().out
    assert "float32: 0 MFLOP" in told
    assert "measured: onnxruntime, 1 thread" in told
    assert "nothing found" in told


def test_the_shipped_engine_has_nothing_to_be_told_of_in_any_precision(capsys):
    assert main(["engine", "lint", str(SHIPPED), "--json"]) == 0
    models = json.loads(capsys.readouterr().out)["models"]
    assert [(model["model"], model["findings"]) for model in models] == [
        ("float32", []),
        ("int8", []),
    ]


def test_a_warning_names_node_cost_share_and_rewrite(tmp_path, capsys):
    path = tmp_path / "model.onnx"
    path.write_bytes(graph(SHUFFLED, shape=(16, 64, 64)))
    assert main(["engine", "lint", str(path), "--json"]) == 1
    (report,) = json.loads(capsys.readouterr().out)["models"]
    assert (report["model"], report["mflop"]) == ("model.onnx", 0)
    (finding,) = report["findings"]
    assert (finding["node"], finding["moved_bytes"]) == ("depthtospace_1", 524288)
    assert 0 < finding["share"] < 1
    assert main(["engine", "lint", str(path)]) == 1
    assert "warning: shuffle: depthtospace_1 (DepthToSpace) [0.52 MB, " in capsys.readouterr().out
    assert Finding(**finding).told().endswith("blocks of pixels")


def test_a_graph_with_errors_is_not_run(tmp_path, capsys):
    path = tmp_path / "model.onnx"
    path.write_bytes(graph([("Relu", ["crops"], ["score"], {})], kind=FLOAT))
    assert main(["engine", "lint", str(path)]) == 1
    told = capsys.readouterr().out
    assert "measured: no: the graph has errors" in told
    assert "error: input: 'crops' (input): is float ('n', 16, 16, 1)" in told


@pytest.mark.parametrize(("raw", "code"), [(b"no model", 1), (None, 2)])
def test_what_is_no_engine_is_told_in_one_line(tmp_path, capsys, raw, code):
    path = tmp_path / "model.onnx"
    if raw is not None:
        path.write_bytes(raw)
    assert main(["engine", "lint", str(path)]) == code
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "model.onnx" in told


def test_training_tells_warnings_at_its_end_and_leaves_notes_to_the_lint():
    text = io.StringIO()
    (warning,) = lint(graph(SHUFFLED, shape=(16, 64, 64)))
    note = Finding("note", "score", "node", "Reshape", 0, 0, "sum first")
    tell_lint([warning.figures(), note.figures()], Console(file=text, width=200))
    assert text.getvalue() == warning.told() + "\n"


def test_what_is_no_graph_is_named(tmp_path, capsys):
    path = tmp_path / "notes.txt"
    path.write_text("no graph at all")
    assert main(["engine", "lint", str(path)]) == 1
    assert "notes.txt is no ONNX model" in capsys.readouterr().err
