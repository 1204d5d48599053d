"""Which nodes compute in the low type, by what was seen of their values."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from glass_edge.calibration.floats.mixed import Plan, float_tensors, kept_nodes, lowered
from onnx import ModelProto


@pytest.fixture(scope="module")
def model() -> ModelProto:
    """Two products and an activation between them; ``y`` is the graph's output."""
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    products (float[4, 8] x) => (float[4, 8] y) {
        a = MatMul(x, weights)
        b = Relu(a)
        y = MatMul(b, weights)
    }
    """
    found = onnx.parser.parse_model(text)
    for name, node in zip(("first", "relu", "second"), found.graph.node, strict=True):
        node.name = name
    weights = onnx.numpy_helper.from_array(np.eye(8, dtype=np.float32), "weights")
    found.graph.initializer.append(weights)
    return onnx.shape_inference.infer_shapes(found)


def test_every_nodes_output_is_looked_at(model):
    assert set(float_tensors(model)) == {"a", "b", "y"}


@pytest.mark.parametrize(
    ("tensor", "largest", "kept"),
    [
        ("a", 32_000.0, ()),
        ("a", 33_000.0, ("first", "relu")),
        ("b", 33_000.0, ("relu", "second")),
        ("y", 32_000.0, ()),
        ("y", 33_000.0, ("second",)),
    ],
)
def test_over_half_of_fp16s_range_what_makes_and_reads_a_tensor_stays_in_fp32(
    tensor, largest, kept, model
):
    assert kept_nodes(model, Plan("fp16", {tensor: largest})) == kept
    assert kept_nodes(model, Plan("bf16", {tensor: largest})) == ()


@pytest.fixture(scope="module")
def quantised() -> ModelProto:
    """Two products that read the same INT8, and whose outputs are added."""
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    products (float[4, 8] x) => (float[4, 8] y) {
        q = QuantizeLinear(x, scale, zero)
        d = DequantizeLinear(q, scale, zero)
        a = MatMul(d, weights)
        b = MatMul(d, weights)
        y = Add(a, b)
    }
    """
    found = onnx.parser.parse_model(text)
    for node in found.graph.node:
        node.name = f"make_{node.output[0]}"
    for name, values in {
        "scale": np.float32(0.1), "zero": np.int8(0), "weights": np.eye(8, dtype=np.float32),
    }.items():  # fmt: skip
        found.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values), name))
    return onnx.shape_inference.infer_shapes(found)


@pytest.mark.parametrize(
    ("front", "types"), [(0, {"FLOAT16"}), (1, {"FLOAT", "FLOAT16"}), (2, {"FLOAT"})]
)
def test_int8_is_read_once_in_each_type_that_is_asked_for(front, types, quantised):
    """Without a Cast before a product, which engines fuse with what it reads."""
    graph = lowered(quantised, Plan("fp16", {}, front)).graph
    kinds = {
        info.name: onnx.TensorProto.DataType.Name(info.type.tensor_type.elem_type)
        for info in (*graph.value_info, *graph.output)
    }
    read = [kinds[node.output[0]] for node in graph.node if node.op_type == "DequantizeLinear"]
    assert sorted(read) == sorted(types)
    makers = {name: node.op_type for node in graph.node for name in node.output}
    products = [node for node in graph.node if node.op_type == "MatMul"]
    assert {makers[node.input[0]] for node in products} == {"DequantizeLinear"}


def test_what_is_rounded_to_int8_is_read_in_the_type_it_has(quantised):
    (rounding,) = [
        node
        for node in lowered(quantised, Plan("fp16", {})).graph.node
        if node.op_type == "QuantizeLinear"
    ]
    assert rounding.input[:2] == ["x", "scale"]


def test_roundings_are_not_among_what_is_kept(quantised):
    assert kept_nodes(quantised, Plan("fp16", {}, 1)) == ("make_a",)
