import csv
import json

import cv2
import numpy as np
import onnx
import pytest

from edge_inspector import parity
from edge_inspector.backends import open_first
from edge_inspector.bundle import open_engine
from edge_inspector.cli.main import main
from edge_inspector.errors import DataError, EngineRefused, Misuse
from edge_inspector.manifest import Challenge, Statistics
from edge_inspector.training import eight_bits, quantise
from edge_inspector.training.export import write_folder
from edge_inspector.training.twins import twin
from tests.conftest import write_class_engine, write_engine
from tests.training.graphs import FLOAT, graph, kinds

SIDE = 32
GOOD, BAD = 200, 24


def crop(rng, contrast=0):
    pixels = rng.normal(90, 4, (SIDE, SIDE))
    y, x = rng.integers(4, SIDE - 8, 2)
    pixels[y : y + 5, x : x + 5] += contrast
    return np.clip(pixels, 0, 255).astype(np.uint8)


def brightest(loud):
    """Scores the brightest 3x3 px through two wide convolutions; an unused plane is `loud`er."""
    first = np.full((16, 1, 3, 3), 1 / 9, np.float32)
    first[0] *= loud
    second = np.zeros((16, 16, 1, 1), np.float32)
    second[np.arange(16), np.arange(16), 0, 0] = 1
    second[0, 0] = 0
    constants = {
        "sides": np.array([-1, 1, SIDE, SIDE]),
        "level": np.float32(90),
        "first": first,
        "second": second,
        "bias": np.full(16, 0.5, np.float32),
        "all": np.full((1, 16, 1, 1), 1 / 16, np.float32),
        "low": np.float32(0),
        "one": np.array([1]),
        "axes": np.array([1, 2, 3]),
    }
    nodes = [
        ("Reshape", ["crops", "sides"], ["planes"], {}),
        ("Cast", ["planes"], ["pixels"], {"to": onnx.TensorProto.FLOAT}),
        ("Sub", ["pixels", "level"], ["away"], {}),
        ("Conv", ["away", "first"], ["means"], {"pads": [1, 1, 1, 1]}),
        ("Relu", ["means"], ["bright"], {}),
        ("Conv", ["bright", "second", "bias"], ["seen"], {}),
        ("Relu", ["seen"], ["lit"], {}),
        ("Conv", ["lit", "all"], ["odds"], {}),
        ("ReduceMax", ["odds", "axes"], ["score"], {"keepdims": 0}),
        ("Squeeze", ["odds", "one"], ["cells"], {}),
        ("Cast", ["cells"], ["anomaly_map"], {"to": onnx.TensorProto.UINT8}),
    ]
    return graph(
        nodes,
        shape=(SIDE, SIDE, 1),
        constants=constants,
        outputs=("score", "anomaly_map"),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(11)
    rows = [("train", "good", 0)] * 12 + [("val", "good", 0)] * GOOD
    rows += [("val", "spot", 1 if number < 8 else 30 + number) for number in range(BAD)]
    with (folder / "data.csv").open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("path", "label", "split"))
        for number, (split, label, contrast) in enumerate(rows):
            cv2.imwrite(str(folder / f"{number}.png"), crop(rng, contrast))
            writer.writerow((f"{number}.png", label, split))
    return folder / "data.csv"


@pytest.fixture
def engine(tmp_path):
    return written(tmp_path, brightest(1.0))


def written(tmp_path, model):
    """An engine `spots/1` with this graph."""
    known = open_engine(write_engine(tmp_path / "tiny")).manifest
    rng = np.random.default_rng(12)
    pair = np.stack([crop(rng), crop(rng, 100)])[..., None]
    _, session = open_first(["onnxruntime"], model, 1)
    good, bad = session.run(pair)["score"].tolist()
    draft = known.model_copy(
        update={
            "name": "spots",
            "challenge": Challenge(
                good="good.png", bad="bad.png", good_score=good, bad_score=bad, tolerance=0.01
            ),
            "statistics": Statistics(count=0, median=good, spread=0.5, p99=good, maximum=good),
        }
    )
    folder = tmp_path / "spots" / "1"
    write_folder(folder, draft, model, tuple(pair), {"steps": 7})
    return open_engine(folder)


def test_next_version_holds_both_graphs_and_the_gate_they_passed(engine, data, tmp_path):
    out = tmp_path / "spots" / "2"
    quantise.quantise(engine, data, out)
    found = open_engine(out)
    stated = found.manifest.int8
    assert stated is not None
    assert found.title == "spots/2"
    assert stated.recall_int8 >= stated.recall_float32 - 0.005 > 0.5
    assert (stated.calibration_crops, stated.validation_crops) == (12 + 20, GOOD + BAD)
    assert (stated.defects, stated.overkill) == ("known", 0.005)
    for precision, model in found.models.items():
        for backend in ("onnxruntime", "openvino"):
            _, session = open_first([backend], model, 1)
            parity.challenge(session, found, precision)
            session.close()
    told = json.loads((out / "figures.json").read_text())
    assert told["steps"] == 7
    assert told["of"] == {"engine": "spots/1", "digest": engine.digest}
    assert told["int8"]["openvino"]["recall"] >= stated.recall_int8 - 1e-6


def test_graphs_of_both_precisions_score_alike_but_not_the_same(engine, data, tmp_path):
    quantise.quantise(engine, data, tmp_path / "spots" / "2")
    found = open_engine(tmp_path / "spots" / "2")
    pair = np.stack([found.good, found.bad])
    plain, eight = (
        open_first(["openvino"], found.models[name], 1)[1].run(pair)["score"]
        for name in ("float32", "int8")
    )
    assert 0 < abs(plain[0] - eight[0]) < 0.2


def test_wide_convolutions_alone_are_quantised_and_as_tensorrt_takes_them(engine, data):
    crops = quantise.read_crops(engine.manifest.input, data, 0)
    model = onnx.load_from_string(eight_bits.eight_bits(twin(engine.model), crops.calibration))
    values = {v.name: onnx.numpy_helper.to_array(v) for v in model.graph.initializer}
    made = {node.output[0]: node for node in model.graph.node}
    taken = {
        node.output[0]: [made[name].op_type for name in node.input[:2] if name in made]
        for node in model.graph.node
        if node.op_type == "Conv"
    }
    assert taken == {
        "means": ["Sub"],
        "seen": ["DequantizeLinear", "DequantizeLinear"],
        "odds": ["Relu"],
    }
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert values[node.input[2]].dtype == np.int8
            assert not values[node.input[2]].any()
    assert made["seen"].input[2] == "bias"
    assert values["bias"].dtype == np.float32
    assert [node.op_type for node in model.graph.node if "crops" in node.input] == ["Cast"]
    assert not model.metadata_props


def test_eight_bits_that_lose_defects_are_refused_with_the_figures(data, tmp_path):
    engine = written(tmp_path, brightest(1000.0))
    before = (engine.folder / "manifest.toml").read_bytes()
    with pytest.raises(EngineRefused, match=r"finds 0\.\d+ of 24 defects.*in float32 0\.[5-9]"):
        quantise.quantise(engine, data, tmp_path / "spots" / "2")
    assert not (tmp_path / "spots" / "2").exists()
    assert (engine.folder / "manifest.toml").read_bytes() == before
    args = ["quantise", str(engine.folder), "--data", str(data), "--out", str(tmp_path / "x")]
    assert main(["engine", *args]) == 1


def test_command_says_what_the_gate_found(engine, data, tmp_path, capsys):
    args = [str(engine.folder), "--data", str(data), "--out", str(tmp_path / "spots" / "2")]
    assert main(["engine", "quantise", *args, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["engine"] == "spots/2"
    assert told["recall_float32"] >= told["recall_int8"] > 0.5


def test_runtimes_that_disagree_in_eight_bits_are_refused(engine):
    scores = np.linspace(0, 1, GOOD)
    one = quantise.Scores(scores, scores + 2, np.array([0.0, 3.0]))
    away = quantise.Scores(scores, scores + 2, np.array([0.0, 3.2]))
    some = np.zeros((GOOD, 8, 8, 1), np.uint8)
    crops = quantise.Crops(some, some, some, made=False)
    with pytest.raises(EngineRefused, match=r"openvino and onnxruntime differ by 0\.2 in a score"):
        quantise.gate(
            engine,
            {"onnxruntime": one, "openvino": away},
            {"onnxruntime": one, "openvino": away},
            crops,
        )


def test_faults_are_made_where_the_data_has_none(engine, data):
    plain = data.parent / "plain.csv"
    rows = data.read_text().splitlines(keepends=True)
    plain.write_text("".join(row for row in rows if ",spot," not in row))
    crops = quantise.read_crops(engine.manifest.input, plain, 0)
    assert crops.made
    assert crops.bad.shape == crops.good.shape
    known = {each.tobytes() for each in crops.good}
    assert not any(each.tobytes() in known for each in crops.bad)


def test_graph_without_wide_convolutions_is_refused(tiny_engine):
    model = open_engine(tiny_engine).model
    with pytest.raises(EngineRefused, match="no convolution of 16 planes"):
        eight_bits.eight_bits(model, np.zeros((2, SIDE, SIDE, 1), np.uint8))


def test_too_few_held_out_crops_are_refused(engine, data):
    few = data.parent / "few.csv"
    few.write_text("\n".join(data.read_text().splitlines()[:60]))
    with pytest.raises(DataError, match="takes at least 200"):
        quantise.read_crops(engine.manifest.input, few, 0)


def test_classifier_is_refused(data, tmp_path):
    engine = open_engine(write_class_engine(tmp_path / "kinds"))
    with pytest.raises(Misuse, match="anomaly engines"):
        quantise.quantise(engine, data, tmp_path / "kinds2")


@pytest.mark.parametrize(
    ("planes", "attributes", "changed"),
    [
        (3, {}, True),
        (3, {"pads": [1, 1, 1, 1]}, False),
        (3, {"strides": [1, 1]}, False),
        (8, {}, False),
    ],
    ids=["few planes", "padded", "overlapping", "many planes"],
)
def test_pool_of_few_planes_has_an_exact_twin(planes, attributes, changed):
    model = graph(
        [
            (
                "AveragePool",
                ["crops"],
                ["score"],
                {"kernel_shape": [2, 2], "strides": [2, 2], **attributes},
            )
        ],
        shape=(planes, 8, 6),
        kind=FLOAT,
    )
    other = twin(model, (eight_bits.pools_as_convolutions,))
    assert kinds(other) == (["Conv"] if changed else ["AveragePool"])
    if changed:
        x = np.random.default_rng(4).normal(0, 9, (2, planes, 8, 6)).astype(np.float32)
        mean = x.reshape(2, planes, 4, 2, 3, 2).mean((3, 5))
        np.testing.assert_allclose(run(other, x), mean, atol=1e-5)


def test_nodes_without_planes_are_left_as_they_are():
    model = graph(
        [
            ("Shape", ["crops"], ["sides"], {}),
            ("ReduceProd", ["sides"], ["score"], {"keepdims": 0}),
            ("Constant", [], ["one"], {"value_float": 1.0}),
        ],
        kind=FLOAT,
    )
    assert kinds(twin(model, (eight_bits.pools_as_convolutions,))) == kinds(model)


def run(model, x):
    import onnxruntime

    return onnxruntime.InferenceSession(model).run(None, {"crops": x})[0]
