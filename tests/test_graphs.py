"""Graphs are clean and take pixels; test_tensorrt_build compiles them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
import pytest
from conftest import FAMILIES
from networks import ROLES, SMALL

from glass_edge import Bundle

# What a backbone of these families is made of; nothing else may be left by tracing.
OPERATORS = {
    *("Cast", "Transpose", "Mul", "Add", "Sub", "Div", "MatMul", "Gemm", "Conv", "Relu", "Gelu"),
    *("HardSigmoid", "HardSwish", "Clip", "Sigmoid", "Tanh", "Softmax", "LayerNormalization"),
    *("MaxPool", "ReduceMean", "ReduceSum", "Reshape", "Squeeze", "Unsqueeze", "Concat", "Split"),
    *("Gather", "Slice", "Shape", "Expand", "Flatten", "GlobalAveragePool", "Pad"),
}


@pytest.fixture(params=FAMILIES)
def bundle(request, export_family) -> Bundle:
    return export_family(request.param)


def graphs(bundle: Bundle) -> dict[str, onnx.ModelProto]:
    return {role: onnx.load(bundle.graph_path(role)) for role in ROLES}


def test_graphs_pass_the_full_check(bundle):
    for role in ROLES:
        onnx.checker.check_model(str(bundle.graph_path(role)), full_check=True)


def test_inputs_are_pixels_and_the_batch_is_open(bundle):
    for role, element in (("global", onnx.TensorProto.FLOAT), ("local", onnx.TensorProto.UINT8)):
        graph = onnx.load(bundle.graph_path(role)).graph
        (pixels,) = graph.input
        dims = pixels.type.tensor_type.shape.dim
        assert pixels.type.tensor_type.elem_type == element
        assert dims[0].dim_param == "batch"
        assert [d.dim_value for d in dims][1:] == [224, 224, 3]


def test_only_a_cast_reads_the_uint8_pixels(bundle):
    graph = onnx.load(bundle.graph_path("local")).graph
    readers = [node.op_type for node in graph.node if "pixels" in node.input]
    assert readers == ["Cast"]


def test_no_leftovers_of_tracing(bundle):
    for model in graphs(bundle).values():
        graph = model.graph
        assert {node.op_type for node in graph.node} <= OPERATORS
        used = {name for node in graph.node for name in node.input}
        used |= {output.name for output in graph.output}
        made = {name for node in graph.node for name in node.output if name}
        assert made <= used | {o for n in graph.node for o in n.output[1:]}, "dead nodes"
        assert {tensor.name for tensor in graph.initializer} <= used, "dead constants"
        assert not model.metadata_props
        assert not model.functions
        for item in [*graph.node, *graph.input, *graph.output, *graph.value_info]:
            assert not item.metadata_props
            assert not item.doc_string
        known = {value.name for value in [*graph.value_info, *graph.output]}
        assert made <= known, "a shape was not inferred"


def test_nothing_is_cut_out_but_the_class_token_of_a_vits_last_block(bundle):
    """Once where it is normalised and once where it passes by."""
    cuts = {
        role: sum(node.op_type == "Slice" for node in model.graph.node)
        for role, model in graphs(bundle).items()
    }
    backbone = 2 if bundle.manifest.backbone.family == "vit" else 0
    assert cuts == {"global": backbone, "local": backbone, "aggregator": 0}


def test_no_path_of_the_exporting_machine_is_left(bundle):
    for model in graphs(bundle).values():
        for tensor in model.graph.initializer:
            tensor.ClearField("raw_data")  # any three bytes stand somewhere in the weights
        content = model.SerializeToString()
        assert str(Path.home()).encode() not in content
        assert b".py" not in content


def test_shared_weights_are_stored_once_and_only_the_fronts_differ(shared_bundle):
    models = graphs(shared_bundle)
    local, overall = models["local"].graph, models["global"].graph
    assert local.node[0].op_type == "Cast"
    assert [n.op_type for n in local.node[1:]] == [n.op_type for n in overall.node]
    assert [n.attribute for n in local.node[1:]] == [n.attribute for n in overall.node]
    hashes = [
        [hashlib.sha256(t.raw_data).digest() for t in g.initializer] for g in (local, overall)
    ]
    assert hashes[0] == hashes[1]
    files = {path.name: path.stat().st_size for path in shared_bundle.path.iterdir()}
    assert files["local.onnx"] + files["global.onnx"] < 0.02 * files["backbone.bin"]
    weights = sum(weight.numel() for weight in SMALL["resnet"][0]().parameters())
    assert files["backbone.bin"] == pytest.approx(4 * weights, rel=0.02)
