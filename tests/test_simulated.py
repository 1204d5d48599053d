"""A simulated graph computes in FP32 what hardware with the low type computes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import FAMILIES, slow_but
from glass_edge.calibration.floats.mixed import Plan, lowered
from glass_edge.calibration.floats.simulated import simulated
from onnx import ModelProto, TensorProto

NUMPY_TYPES = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}
low_types = pytest.mark.parametrize("precision", ["fp16", "bf16"])

# Sums of these are exact in FP32, in whatever order, and are not in either low type.
GENERATOR = np.random.default_rng(0)
INPUT = GENERATOR.integers(-128, 128, (4, 8)).astype(np.float32)
FIRST = GENERATOR.integers(-128, 128, (8, 16)).astype(np.float32) / 64
SECOND = GENERATOR.integers(-128, 128, (16, 4)).astype(np.float32) / 1024


def two_products(first: np.ndarray, second: np.ndarray) -> ModelProto:
    """A graph of two products with an activation and a sum between them."""
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    products (float[4, 8] x) => (float[4, 4] y) {
        a = MatMul(x, first)
        b = Relu(a)
        c = Add(b, b)
        y = MatMul(c, second)
    }
    """
    model = onnx.parser.parse_model(text)
    for number, node in enumerate(model.graph.node):
        node.name = f"node_{number}"
    for values, name in ((first, "first"), (second, "second")):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return onnx.shape_inference.infer_shapes(model)


def run(model: ModelProto, values: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: values})[0]


@low_types
def test_what_is_stored_is_rounded_and_sums_are_fp32(precision):
    def stored(values: np.ndarray) -> np.ndarray:
        return values.astype(NUMPY_TYPES[precision]).astype(np.float32)

    model = simulated(lowered(two_products(FIRST, SECOND), Plan(precision, {})))
    inner = stored(np.maximum(stored(stored(INPUT) @ stored(FIRST)), 0))
    expected = stored(stored(inner + inner) @ stored(SECOND))
    assert np.array_equal(run(model, INPUT), expected)
    assert not np.array_equal(expected, np.maximum(INPUT @ FIRST, 0) * 2 @ SECOND)


def test_what_overflows_between_two_nodes_is_infinite():
    """ONNX Runtime gives finite numbers for the FP16 graph itself."""
    model = lowered(two_products(np.full_like(FIRST, 1e4), SECOND / 1e4), Plan("fp16", {}))
    ones = np.ones_like(INPUT)
    assert not np.isfinite(run(simulated(model), ones)).any()
    assert run(simulated(lowered(two_products(FIRST, SECOND), Plan("fp16", {}))), ones).all()


@low_types
@pytest.mark.parametrize("family", slow_but(["vit"], FAMILIES))
def test_every_operator_of_a_backbone_is_fp32(family, precision, make_precision):
    for role in ("global", "local"):
        low = onnx.load(make_precision(family, precision).graph_path(role))
        model = simulated(low)
        types = {info.name: info.type.tensor_type.elem_type for info in model.graph.value_info}
        types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        narrow = {
            name
            for name, kind in types.items()
            if kind in (TensorProto.FLOAT16, TensorProto.BFLOAT16)
        }
        operators = [node for node in model.graph.node if node.op_type != "Cast"]
        assert not narrow & {name for node in operators for name in (*node.input, *node.output)}
        assert len(operators) == sum(node.op_type != "Cast" for node in low.graph.node)
        assert narrow
