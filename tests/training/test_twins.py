import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.nn import functional

from edge_inspector.errors import EngineRefused
from edge_inspector.training import folding, twins
from tests.training.graphs import FLOAT, graph, kinds, weights


def answers(model, x):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options).run(None, {"crops": x})


def noise(*shape):
    return np.random.default_rng(3).normal(0, 1, shape).astype(np.float32)


TRANSPOSED = {
    "kernel 4, stride 2": (4, {"strides": [2, 2], "pads": [1, 1, 1, 1]}, 1),
    "kernel 3, stride 2": (
        3,
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
        1,
    ),
    "kernel 2, stride 2": (2, {"strides": [2, 2]}, 1),
    "kernel 5, stride 3": (5, {"strides": [3, 3], "pads": [1, 1, 1, 1]}, 1),
    "kernel shorter than its stride": (
        2,
        {"strides": [3, 3], "output_padding": [1, 1]},
        1,
    ),
    "stride 1": (3, {"pads": [1, 1, 1, 1]}, 1),
    "stride 1, no border": (3, {}, 1),
    "three groups": (4, {"strides": [2, 2], "pads": [1, 1, 1, 1], "group": 3}, 3),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kernel", "attributes", "groups"), TRANSPOSED.values(), ids=TRANSPOSED)
def test_a_transposed_convolution_has_an_exact_twin(kernel, attributes, groups, bias):
    w, b = weights(6, 4, kernel, kernel), weights(4 * groups, seed=1)
    names = ["crops", "w", "b"] if bias else ["crops", "w"]
    model = graph(
        [("ConvTranspose", names, ["score"], attributes)],
        shape=(6, 7, 9),
        kind=FLOAT,
        constants={"w": w, "b": b},
    )
    x = noise(2, 6, 7, 9)
    wanted = functional.conv_transpose2d(
        torch.from_numpy(x),
        torch.from_numpy(w),
        torch.from_numpy(b) if bias else None,
        stride=attributes.get("strides", 1),
        padding=attributes.get("pads", [0])[0],
        output_padding=attributes.get("output_padding", 0),
        groups=groups,
    )
    twin = twins.twin(model, [twins.without_transposed])
    assert "ConvTranspose" not in kinds(twin)
    assert ("DepthToSpace" in kinds(twin)) == ("strides" in attributes)
    np.testing.assert_allclose(answers(twin, x)[0], wanted.numpy(), atol=2e-6)


@pytest.mark.parametrize("times", [2, 3, 4])
def test_bicubic_growth_has_an_exact_twin(times):
    grow = {"mode": "cubic", "coordinate_transformation_mode": "pytorch_half_pixel"}
    model = graph(
        [("Resize", ["crops", "", "scales"], ["score"], grow)],
        shape=(3, 6, 9),
        kind=FLOAT,
        constants={"scales": np.array([1, 1, times, times], np.float32)},
    )
    x = noise(2, 3, 6, 9)
    wanted = functional.interpolate(torch.from_numpy(x), scale_factor=times, mode="bicubic")
    twin = twins.twin(model, [twins.without_bicubic])
    assert kinds(twin) == ["Pad", "Conv", "DepthToSpace"]
    np.testing.assert_allclose(answers(twin, x)[0], wanted.numpy(), atol=5e-6)


@pytest.mark.parametrize(
    ("operator", "attributes", "scales"),
    [
        ("Resize", {"mode": "linear"}, (2, 2)),
        ("Resize", {"mode": "cubic", "coordinate_transformation_mode": "asymmetric"}, (2, 2)),
        ("Resize", {"mode": "cubic"}, (2, 3)),
        ("Resize", {"mode": "cubic"}, (1.5, 1.5)),
        ("ConvTranspose", {"strides": [2, 2], "pads": [1, 1, 1, 1]}, None),
        ("ConvTranspose", {"strides": [2, 1], "pads": [1, 1, 1, 1]}, None),
        ("ConvTranspose", {"dilations": [2, 2]}, None),
    ],
)
def test_what_has_no_exact_twin_stays_as_it_is(operator, attributes, scales):
    given = ["crops", "", "scales"] if scales else ["crops", "w"]
    constants = {"w": weights(3, 2, 3, 3), "scales": np.array([1, 1, *(scales or ())], np.float32)}
    model = graph(
        [(operator, given, ["score"], attributes)], shape=(3, 6, 8), kind=FLOAT, constants=constants
    )
    twin = twins.twin(model)
    assert kinds(twin) == [operator]
    x = noise(1, 3, 6, 8)
    np.testing.assert_array_equal(answers(twin, x)[0], answers(model, x)[0])


def test_activations_stay_next_to_their_convolution():
    two = {"strides": [2, 2]}
    model = graph(
        [
            ("ConvTranspose", ["crops", "w"], ["a"], two),
            ("LeakyRelu", ["a"], ["b"], {"alpha": 0.1}),
            ("Sigmoid", ["b"], ["c"], {}),
            ("Mul", ["c", "c"], ["score"], {}),
        ],
        shape=(3, 5, 5),
        kind=FLOAT,
        constants={"w": weights(3, 2, 2, 2)},
    )
    twin = twins.twin(model, [twins.without_transposed])
    assert kinds(twin) == ["Conv", "LeakyRelu", "Sigmoid", "DepthToSpace", "Mul"]
    x = noise(2, 3, 5, 5)
    np.testing.assert_allclose(answers(twin, x)[0], answers(model, x)[0], atol=1e-6)


def test_an_activation_is_not_moved_from_what_others_see():
    model = graph(
        [("ConvTranspose", ["crops", "w"], ["a"], {"strides": [2, 2]}), ("Relu", ["a"], ["b"], {})],
        shape=(3, 5, 5),
        kind=FLOAT,
        constants={"w": weights(3, 2, 2, 2)},
        outputs=("a", "b"),
    )
    twin = twins.twin(model, [twins.without_transposed])
    assert kinds(twin) == ["Conv", "DepthToSpace", "Relu"]
    x = noise(2, 3, 5, 5)
    for found, wanted in zip(answers(twin, x), answers(model, x), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def front(*nodes, constants=None, shape=(16, 16, 3)):
    """Bytes through these nodes to `x`, then a convolution and its mean."""
    return graph(
        [
            *nodes,
            ("Conv", ["x", "w"], ["y"], {"pads": [1, 1, 1, 1]}),
            ("ReduceMean", ["y"], ["score"], {"keepdims": 0}),
        ],
        shape=shape,
        constants={"w": weights(4, 3, 3, 3), **(constants or {})},
    )


CAST = ("Cast", ["a"], ["x"], {"to": FLOAT})
TURNED = ("Transpose", ["crops"], ["a"], {"perm": [0, 3, 1, 2]})


def test_bytes_are_cast_before_they_are_moved():
    model = front(TURNED, CAST)
    twin = twins.twin(model, [folding.cast_first])
    assert kinds(model)[:2] == ["Transpose", "Cast"]
    assert kinds(twin)[:2] == ["Cast", "Transpose"]
    x = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    np.testing.assert_array_equal(answers(twin, x)[0], answers(model, x)[0])
    assert twins.twin(twin, [folding.cast_first]) == twin


@pytest.mark.parametrize(
    ("operator", "factor"),
    [
        ("Mul", np.float32(1 / 64)),
        ("Div", np.float32(255)),
        ("Mul", np.array([1, 2, 3], np.float32).reshape(3, 1, 1)),
        ("Div", np.array([4, 5, 6], np.float32).reshape(1, 3, 1, 1)),
    ],
)
def test_a_scale_goes_into_the_weights(operator, factor):
    turned = ("Transpose", ["a"], ["b"], {"perm": [0, 3, 1, 2]})
    cast = ("Cast", ["crops"], ["a"], {"to": FLOAT})
    model = front(cast, turned, (operator, ["b", "s"], ["x"], {}), constants={"s": factor})
    twin = twins.twin(model, twins.EXPORTED)
    assert kinds(twin) == ["Cast", "Transpose", "Conv", "ReduceMean"]
    x = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    np.testing.assert_allclose(answers(twin, x)[0], answers(model, x)[0], rtol=1e-4, atol=1e-5)


def test_a_scale_that_others_need_stays():
    nodes = [
        ("Cast", ["crops"], ["a"], {"to": FLOAT}),
        ("Mul", ["a", "s"], ["x"], {}),
        ("Conv", ["x", "w"], ["y"], {"pads": [1, 1, 1, 1]}),
        ("Sub", ["y", "x"], ["score"], {}),
    ]
    constants = {"w": weights(3, 3, 3, 3), "s": np.float32(0.5)}
    model = graph(nodes, shape=(3, 8, 8), constants=constants)
    assert kinds(twins.twin(model, twins.EXPORTED)) == [node[0] for node in nodes]


def test_a_scale_of_places_is_no_scale_of_weights():
    places = weights(16, 16, seed=2)
    cast = ("Cast", ["crops"], ["a"], {"to": FLOAT})
    turned = ("Transpose", ["a"], ["b"], {"perm": [0, 3, 1, 2]})
    model = front(cast, turned, ("Mul", ["b", "s"], ["x"], {}), constants={"s": places})
    assert "Mul" in kinds(twins.twin(model, twins.EXPORTED))


def test_planes_that_are_copies_or_turned_go_into_the_weights():
    copies = [
        ("Cast", ["crops"], ["a"], {"to": FLOAT}),
        ("Expand", ["a", "wider"], ["x"], {}),
    ]
    turned = [
        ("Cast", ["crops"], ["a"], {"to": FLOAT}),
        ("Slice", ["a", "from", "to", "axis", "step"], ["x"], {}),
    ]
    ends = {"from": -1, "to": np.iinfo(np.int64).min, "axis": 1, "step": -1}
    constants = {name: np.array([value]) for name, value in ends.items()}
    constants["wider"] = np.array([1, 3, 1, 1])
    for nodes, planes in ((copies, 1), (turned, 3)):
        model = front(*nodes, constants=constants, shape=(planes, 16, 16))
        twin = twins.twin(model, twins.EXPORTED)
        assert kinds(twin) == ["Cast", "Conv", "ReduceMean"]
        x = np.random.default_rng(0).integers(0, 256, (2, planes, 16, 16)).astype(np.uint8)
        np.testing.assert_allclose(answers(twin, x)[0], answers(model, x)[0], rtol=1e-4)


def test_what_does_nothing_goes():
    nodes = [
        ("Cast", ["crops"], ["a"], {"to": FLOAT}),
        ("Sub", ["a", "zero"], ["b"], {}),
        ("ReduceMean", ["b", "planes"], ["c"], {}),
        ("Mul", ["c", "one"], ["d"], {}),
        ("Sub", ["zero", "d"], ["e"], {}),
        ("Mul", ["e", "one"], ["score"], {}),
    ]
    constants = {"zero": np.float32(0), "one": np.float32(1), "planes": np.array([1])}
    model = graph(nodes, shape=(1, 4, 4), constants=constants)
    twin = twins.twin(model, twins.EXPORTED)
    assert kinds(twin) == ["Cast", "Sub", "Mul"]
    x = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    np.testing.assert_array_equal(answers(twin, x)[0], answers(model, x)[0])


@pytest.mark.parametrize("raw", [b"", b"\x08\x0a", b"no model at all"])
def test_what_is_no_model_is_refused(raw):
    with pytest.raises(EngineRefused, match=r"model\.onnx"):
        twins.twin(raw)


def test_the_batch_keeps_its_name_behind_a_reshape():
    model = graph(
        [
            ("Reshape", ["crops", "sides"], ["rows"], {"allowzero": 1}),
            ("Relu", ["rows"], ["score"], {}),
        ],
        shape=(6, 4),
        kind=FLOAT,
        constants={"sides": np.array([-1, 4, 6])},
    )
    written = onnx.shape_inference.infer_shapes(
        onnx.load_from_string(twins.twin(model, [folding.keep_batch]))
    )
    known = {v.name: v.type.tensor_type.shape.dim[0].dim_param for v in written.graph.value_info}
    assert known["rows"] == written.graph.input[0].type.tensor_type.shape.dim[0].dim_param != ""
    x = noise(3, 6, 4)
    (found,) = answers(written.SerializeToString(), x)
    np.testing.assert_array_equal(found, np.maximum(x.reshape(3, 4, 6), 0))
