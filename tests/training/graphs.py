"""Small ONNX graphs that tests of rules and rewrites are made of."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BYTE, FLOAT = TensorProto.UINT8, TensorProto.FLOAT


def graph(nodes, *, shape=(16, 16, 1), kind=BYTE, constants=None, outputs=("score",), opset=18):
    """Nodes as (operator, inputs, outputs, attributes) over `crops`, (n, *shape)."""
    made = [
        helper.make_node(name, given, found, f"{name.lower()}_{index}", **attributes)
        for index, (name, given, found, attributes) in enumerate(nodes)
    ]
    built = helper.make_graph(
        made,
        "small",
        [helper.make_tensor_value_info("crops", kind, ["n", *shape])],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()],
    )
    imported = [helper.make_opsetid("", opset)]
    model = helper.make_model(built, opset_imports=imported, ir_version=10)
    whole = onnx.shape_inference.infer_shapes(model)
    return bytes(whole.SerializeToString())


def kinds(model):
    """The operators of a model, in their order."""
    return [node.op_type for node in onnx.load_from_string(model).graph.node]


def weights(*shape, seed=0):
    """Random weights of about 1 / sqrt(inputs)."""
    return np.random.default_rng(seed).normal(0, 0.2, shape).astype(np.float32)
