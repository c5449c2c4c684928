import random

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from edge_inspector.errors import EngineRefused
from edge_inspector.manifest import Input
from edge_inspector.training import export
from edge_inspector.training.graph_rules import LARGE, checked, lint
from edge_inspector.training.onnx_export import to_onnx
from edge_inspector.training.plan import Trained
from edge_inspector.training.twins import twin
from tests.families import FAMILIES, crops, exported
from tests.training.graphs import FLOAT, graph, kinds, weights

CAST = ("Cast", ["crops"], ["x"], {"to": FLOAT})
MEAN = ("ReduceMean", ["y"], ["score"], {"keepdims": 0})


def said(model):
    return [(finding.level, finding.rule, finding.op) for finding in lint(model)]


def slow(*nodes, shape=(256, 256, 1), **constants):
    """Bytes cast to `x`, through these nodes to `y`, whose mean is the score."""
    return graph([CAST, *nodes, MEAN], shape=shape, constants=constants)


CASES = {
    "transpose": slow(("Transpose", ["x"], ["y"], {"perm": [0, 2, 1, 3]})),
    "six axes": slow(
        ("Reshape", ["x", "blocks"], ["b"], {}),
        ("Transpose", ["b"], ["y"], {"perm": [0, 2, 4, 5, 1, 3]}),
        blocks=np.array([0, 64, 4, 64, 4, 1]),
    ),
    "shuffle": slow(("DepthToSpace", ["x"], ["y"], {"blocksize": 4}), shape=(16, 64, 64)),
    "unshuffle": slow(("SpaceToDepth", ["x"], ["y"], {"blocksize": 4}), shape=(1, 256, 256)),
    "bicubic": slow(
        ("Resize", ["x", "", "twice"], ["y"], {"mode": "cubic"}),
        shape=(4, 16, 16),
        twice=np.array([1, 1, 2, 2], np.float32),
    ),
    "score": slow(
        ("Reshape", ["x", "flat"], ["f"], {}),
        ("Mul", ["f", "f"], ["y"], {}),
        shape=(16, 64, 64),
        flat=np.array([0, -1]),
    ),
    "scale": slow(
        ("Mul", ["x", "s"], ["m"], {}),
        ("Conv", ["m", "w"], ["y"], {}),
        shape=(1, 64, 64),
        s=np.float32(1 / 255),
        w=weights(4, 1, 3, 3),
    ),
    "turned": slow(
        ("Slice", ["x", "from", "to", "axis", "step"], ["y"], {}),
        shape=(3, 128, 128),
        **{"from": np.array([-1]), "to": np.array([-9]), "axis": np.array([1])},
        step=np.array([-1]),
    ),
    "idle": slow(("ReduceMean", ["x", "planes"], ["y"], {}), planes=np.array([3])),
    "double": slow(("Cast", ["x"], ["y"], {"to": TensorProto.DOUBLE}), shape=(4, 4, 1)),
}
FOUND = {
    "transpose": ("transpose", "Transpose"),
    "six axes": ("transpose", "Transpose"),
    "shuffle": ("shuffle", "DepthToSpace"),
    "unshuffle": ("shuffle", "SpaceToDepth"),
    "bicubic": ("bicubic", "Resize"),
    "score": ("score", "Reshape"),
    "scale": ("weights", "Mul"),
    "turned": ("turned", "Slice"),
    "idle": ("idle", "ReduceMean"),
    "double": ("double", "Cast"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_makes_a_graph_slow_is_found_at_its_node(case):
    found = [finding for finding in lint(CASES[case]) if finding.rule == FOUND[case][0]]
    assert [(f.level, f.rule, f.op) for f in found] == [("warning", *FOUND[case])]
    assert found[0].node.startswith(FOUND[case][1].lower())
    assert found[0].node in found[0].told()


def test_a_finding_says_what_its_node_moves_and_counts():
    (transpose,) = lint(CASES["transpose"])
    assert transpose.moved_bytes == 2 * 4 * 256 * 256
    assert transpose.flop == 0
    assert "[0.52 MB]" in transpose.told()
    model = slow(
        ("ConvTranspose", ["x", "w"], ["y"], {"strides": [2, 2]}),
        shape=(8, 16, 16),
        w=weights(8, 4, 2, 2),
    )
    (grown,) = lint(model)
    assert grown.flop == 2 * 8 * 4 * 4 * 16 * 16
    assert (grown.level, grown.figures()["rule"]) == ("note", "transposed")


@pytest.mark.parametrize(
    "model",
    [
        slow(("Transpose", ["x"], ["y"], {"perm": [0, 2, 1, 3]}), shape=(64, 64, 1)),
        slow(("Transpose", ["x"], ["y"], {"perm": [0, 3, 1, 2]})),
        slow(("DepthToSpace", ["x"], ["y"], {"blocksize": 2}), shape=(4, 32, 32)),
        slow(("Resize", ["x", "", "s"], ["y"], {}), s=np.array([1, 2, 2, 1], np.float32)),
        slow(
            ("Transpose", ["x"], ["t"], {"perm": [0, 1, 3, 2]}),
            ("MatMul", ["x", "t"], ["y"], {}),
            shape=(2, 128, 128),
        ),
        slow(
            ("Transpose", ["large"], ["t"], {}),
            ("MatMul", ["x", "t"], ["y"], {}),
            shape=(1, 4, 512),
            large=weights(512, 512),
        ),
    ],
    ids=["a small map", "axes of one", "a small shuffle", "nearest", "for a product", "constant"],
)
def test_what_costs_nothing_is_no_finding(model):
    assert said(model) == []


def rounded(after):
    """A convolution whose result is rounded before or after what the score is made of."""
    scale = {"s": np.float32(0.1), "z": np.int8(0), "w": weights(4, 1, 3, 3)}
    nodes = [
        CAST,
        ("QuantizeLinear", ["x", "s", "z"], ["q"], {}),
        ("DequantizeLinear", ["q", "s", "z"], ["d"], {}),
        ("Conv", ["d", "w"], ["c"], {}),
        *(
            [
                ("QuantizeLinear", ["c", "s", "z"], ["cq"], {}),
                ("DequantizeLinear", ["cq", "s", "z"], ["y"], {}),
            ]
            if after
            else [("Relu", ["c"], ["y"], {})]
        ),
        MEAN,
    ]
    return graph(nodes, shape=(1, 16, 16), constants=scale)


def test_rounding_next_to_the_score_is_found_and_before_weights_it_is_not():
    assert said(rounded(after=True)) == [("warning", "rounded score", "QuantizeLinear")]
    assert said(rounded(after=False)) == []


def test_a_transposed_convolution_counts_once_the_graph_is_int8_and_its_twin_has_none():
    quantised = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"], {}),
        ("DequantizeLinear", ["q", "s", "z"], ["d"], {}),
        ("ConvTranspose", ["d", "w"], ["y"], {"strides": [2, 2]}),
    ]
    constants = {"s": np.float32(1), "z": np.int8(0), "w": weights(1, 2, 2, 2)}
    model = slow(*quantised, shape=(1, 8, 8), **constants)
    assert said(model) == [("warning", "transposed", "ConvTranspose")]
    assert said(twin(model)) == []


def foreign():
    model = onnx.load_from_string(slow(("Relu", ["x"], ["y"], {})))
    model.graph.node[1].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    return model.SerializeToString()


def invented():
    model = onnx.load_from_string(slow(("Relu", ["x"], ["y"], {})))
    model.graph.node[1].op_type = "Inspect"
    return model.SerializeToString()


def fixed_batch():
    model = onnx.load_from_string(slow(("Relu", ["x"], ["y"], {})))
    answer = helper.make_tensor_value_info("score", FLOAT, [2])
    model.graph.output[0].CopyFrom(answer)
    return model.SerializeToString()


REFUSED = {
    "another domain": (foreign(), "operator", "'com.example', which is no plain ONNX"),
    "an operator that is none": (invented(), "operator", "has no such operator"),
    "a shape known afterwards": (slow(("NonZero", ["x"], ["y"], {})), "shape", "after it ran"),
    "a shape made of pixels": (
        slow(
            ("Cast", ["x"], ["i"], {"to": TensorProto.INT64}),
            ("Reshape", ["i", "one"], ["s"], {}),
            ("Expand", ["f", "s"], ["y"], {}),
            shape=(1, 1, 3),
            one=np.array([3]),
            f=np.float32(1),
        ),
        "shape",
        "no bound",
    ),
    "a free height": (
        graph([CAST, ("Relu", ["x"], ["score"], {})], shape=("h", 8, 1)),
        "input",
        "h",
    ),
    "crops of float32": (graph([("Relu", ["crops"], ["score"], {})], kind=FLOAT), "input", "float"),
    "a batch that is not free": (fixed_batch(), "batch", "2 answers whatever n is"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_runtime_can_be_promised_is_an_error_and_refused(case):
    model, rule, words = REFUSED[case]
    errors = [finding for finding in lint(model) if finding.level == "error"]
    assert rule in {finding.rule for finding in errors}
    with pytest.raises(EngineRefused, match=words):
        checked(model)


def test_bytes_that_are_moved_before_they_are_cast_are_found():
    model = graph(
        [
            ("Reshape", ["crops", "rows"], ["r"], {}),
            ("Cast", ["r"], ["y"], {"to": FLOAT}),
            MEAN,
        ],
        constants={"rows": np.array([-1, 1, 16, 16])},
    )
    assert said(model) == [("warning", "input", "Reshape")]
    assert said(twin(model)) == []


KNOWN = {"padim": {"transpose"}}
"""A peer that is held against ours: each place has a matrix of its own, so that places are a batch."""


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_exported_family_has_nothing_to_be_warned_of(family):
    model = exported(family)
    warned = {finding.rule for finding in lint(model) if finding.level != "note"}
    assert warned == KNOWN.get(family, set())
    assert "Cast" in kinds(model)[:2]


def external():
    model = onnx.load_from_string(CASES["scale"])
    model.graph.initializer[1].data_location = TensorProto.EXTERNAL
    return model.SerializeToString()


def later():
    model = onnx.load_from_string(CASES["scale"])
    model.opset_import[0].version = 999
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("model", "words"), [(external(), "another file"), (later(), "opset 999"), (b"", "no graph")]
)
def test_what_cannot_be_read_whole_is_refused(model, words):
    with pytest.raises(EngineRefused, match=words):
        lint(model)


def test_damaged_models_are_refused_or_read_and_nothing_else():
    rng = random.Random(1)
    outcomes = set()
    for _ in range(400):
        raw = bytearray(CASES[rng.choice(["scale", "score", "turned"])])
        for _ in range(rng.randint(1, 4)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        for ask in (lint, twin):
            try:
                ask(bytes(raw))
                outcomes.add("read")
            except EngineRefused as error:
                outcomes.add(f"refused in {len(str(error).splitlines())} lines")
    assert outcomes == {"read", "refused in 1 lines"}


class Odd(nn.Module):
    """A network that ONNX, or a promise of its shape, cannot hold."""

    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, x):
        y = x.to(torch.float32)
        if self.what == "operator":
            return torch.linalg.eigvals(y[:, :8, :8, 0]).real.sum(dim=1), x
        bright = y[y > 10] if self.what == "shape" else y
        if self.what == "choice" and bright.mean() > 3:
            bright = bright * 2
        return bright.sum().expand(len(x)), x


@pytest.mark.parametrize("what", ["operator", "shape", "choice"])
def test_a_network_that_cannot_become_an_engine_is_refused_with_its_reason(what):
    with pytest.raises(EngineRefused, match=r"cannot become ONNX|its shape") as refused:
        checked(to_onnx(Odd(what), Input(height=16, width=16)))
    assert "\n" not in str(refused.value)


def test_an_error_stops_the_export_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "to_onnx", lambda graph, shape: foreign())
    trained = Trained(nn.Identity(), "odds", 1, 0.0, "told", (0.0,))
    with pytest.raises(EngineRefused, match=r"'com\.example'.*nothing was written"):
        export.write_engine(tmp_path / "e", trained, crops(), model_name="x", seed=0)
    assert not (tmp_path / "e").exists()


def test_large_means_more_than_the_map_of_the_shipped_engine():
    assert 4 * 2 * 32 * 32 < LARGE < 4 * 2 * 256 * 256
