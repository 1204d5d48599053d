"""Which nodes compute in the low type, by what was seen of their values."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from glass_edge.export.mixed import Plan, float_tensors, kept_nodes
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
