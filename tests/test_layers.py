"""What INT8 computes of each family, and what stays in floating point."""

from __future__ import annotations

import math
from collections import Counter

import onnx
import pytest
from conftest import FAMILIES
from glass_edge.calibration.int8.layers import (
    ATTENTION,
    RESIDUAL_ADD,
    Form,
    Layer,
    find_layers,
    form_of,
    tensor_shapes,
)
from networks import BACKBONES
from onnx import GraphProto, NodeProto

FOR_CPUS, FOR_GPUS = form_of("fp32"), form_of("fp16")
STEMS = {
    "vit": ["conv_proj"],
    "convnext": ["features.0.0"],
    "resnet": ["conv1"],
    "timm": ["conv_stem"],
}


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(params=BACKBONES)
def graph(request, family, export_family) -> GraphProto:
    return onnx.load(export_family(family).graph_path(request.param)).graph


@pytest.fixture
def find(family, export_family):
    """Find the layers of a graph of the family."""
    backbone = export_family(family).manifest.backbone
    return lambda graph, form: find_layers(graph, backbone, form)


def with_weights(graph: GraphProto) -> dict[str, NodeProto]:
    constants = {tensor.name for tensor in graph.initializer}
    return {
        node.name: node
        for node in graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in constants
    }


def work_of_kind(found: list[Layer], kind: str) -> list[float]:
    return [layer.work for layer in found if layer.kind == kind]


def test_the_form_for_gpus_has_neither_attention_nor_unsigned_activations():
    assert form_of("fp32") == Form(unsigned=True, attention=True)
    assert form_of("fp16") == Form(unsigned=False, attention=False)


class TestEveryFamily:
    def test_every_product_with_weights_is_a_layer_but_for_what_reads_pixels(
        self, family, graph, find
    ):
        left = set(with_weights(graph)) - {layer.node for layer in find(graph, FOR_CPUS)}
        weights = [with_weights(graph)[name].input[1] for name in left]
        assert [w.removeprefix("backbone.").removesuffix(".weight") for w in weights] == STEMS[
            family
        ]

    def test_layers_stand_in_the_graphs_order_and_share_no_node(self, graph, find):
        places = {node.name: place for place, node in enumerate(graph.node)}
        found = find(graph, FOR_CPUS)
        nodes = [name for layer in found for name in layer.nodes]
        assert len(nodes) == len(set(nodes))
        firsts = [places[layer.node] for layer in found]
        assert firsts == sorted(firsts)
        assert all(layer.node == layer.nodes[0] for layer in found)

    def test_attention_is_a_layer_of_vits_for_cpus_alone(self, family, graph, find):
        blocks = sum(node.op_type == "Softmax" for node in graph.node)
        assert (blocks > 0) == (family == "vit")
        assert [layer.kind for layer in find(graph, FOR_CPUS)].count(ATTENTION) == blocks
        without = [layer for layer in find(graph, FOR_CPUS) if layer.kind != ATTENTION]
        assert find(graph, FOR_GPUS) == without

    def test_residual_adds_are_layers_where_an_activation_follows(self, family, graph, find):
        kinds = [layer.kind for layer in find(graph, FOR_CPUS)]
        assert kinds.count(RESIDUAL_ADD) == (4 if family == "resnet" else 0)

    def test_inputs_are_the_activations_that_are_read(self, graph, find):
        nodes = {node.name: node for node in graph.node}
        constants = {tensor.name for tensor in graph.initializer}
        for layer in find(graph, FOR_CPUS):
            read = {name for node in layer.nodes for name in nodes[node].input}
            assert set(layer.inputs) == read - constants
            assert len(set(layer.inputs)) == len(layer.inputs)

    def test_work_is_multiply_adds_and_what_they_move(self, graph, find):
        """What is moved is the values read and written, each for a fixed price."""
        sizes = {name: math.prod(shape) for name, shape in tensor_shapes(graph).items()}
        weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        products = with_weights(graph)
        for layer in find(graph, FOR_CPUS):
            if layer.node in products:
                node = products[layer.node]
                shape = weights[node.input[1]]
                outputs = shape[0] if node.op_type == "Conv" else shape[-1]
                products_alone = sizes[node.output[0]] * math.prod(shape) / outputs
                moved = layer.work - products_alone
                assert moved > 0
                assert moved % (sizes[node.input[0]] + sizes[node.output[0]]) == 0
            else:
                assert layer.work > 0


def test_attention_is_both_products_around_a_softmax(export_family):
    bundle = export_family("vit")
    graph = onnx.load(bundle.graph_path("global")).graph
    nodes = {node.name: node for node in graph.node}
    layers = find_layers(graph, bundle.manifest.backbone, FOR_CPUS)
    attention = [layer for layer in layers if layer.kind == ATTENTION]
    for layer in attention:
        first, second = (nodes[name] for name in layer.nodes)
        assert {first.op_type, second.op_type} == {"MatMul"}
        softmax = next(node for node in graph.node if node.output[0] == second.input[0])
        assert softmax.op_type == "Softmax"
        assert set(layer.inputs) == {*first.input, *second.input}
    # All tokens look at all tokens in the first block, and only one does in the last.
    whole, last = (layer.work for layer in attention)
    assert whole > 4 * last


def test_work_grows_with_multiply_adds(export_family):
    """In a ResNet: with the width of a block, and with the size of what a filter sees."""
    bundle = export_family("resnet")
    graph = onnx.load(bundle.graph_path("local")).graph
    layers = find_layers(graph, bundle.manifest.backbone, FOR_CPUS)
    work = {layer.label: layer.work for layer in layers}
    assert work["layer2.0.conv2"] > 1.8 * work["layer2.0.conv1"]  # twice the inputs
    assert work["layer2.0.conv1"] > 4 * work["layer2.0.downsample.0"]  # nine times the filter
    assert max(work_of_kind(layers, RESIDUAL_ADD)) < min(
        work[label] for label in work if label.endswith(("conv1", "conv2"))
    )


def test_depthwise_convolutions_are_told_from_others(export_family):
    bundle = export_family("timm")
    graph = onnx.load(bundle.graph_path("local")).graph
    layers = find_layers(graph, bundle.manifest.backbone, FOR_CPUS)
    kinds = Counter(layer.kind for layer in layers if "conv_dw" in layer.label)
    assert kinds == {"depthwise Conv": 11}
    assert "depthwise Conv" not in {x.kind for x in layers if "conv_pw" in x.label}
