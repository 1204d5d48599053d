"""Finds what INT8 makes faster: products with weights, and the residual adds between them.

Attention's products of two activations, softmax, normalisations and pooling stay in floating
point, as TensorRT recommends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onnx import GraphProto, NodeProto

from ...runtime.bundle.manifest import Backbone

RESIDUAL_ADD = "residual Add"
_WEIGHTED = ("Conv", "Gemm", "MatMul")
_WRAPPERS = ("backbone.", "module.")


@dataclass(frozen=True)
class Layer:
    """A node to quantise.

    Attributes:
        node: the node's name in the graph.
        kind: ``Conv``, ``depthwise Conv``, ``MatMul``, ``Gemm`` or ``residual Add``.
        label: the module's name in the trained network, or the node's if the graph has lost it.
        inputs: the activations that are quantised.
    """

    node: str
    kind: str
    label: str
    inputs: tuple[str, ...]


def find_layers(graph: GraphProto, backbone: Backbone) -> list[Layer]:
    """Find what can be quantised in the graph of a backbone in FP32, in the graph's order."""
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    bias_of = _biases(graph.node, weights)
    found = []
    for node in graph.node:
        constant = [name in weights for name in node.input]
        if node.op_type in _WEIGHTED and constant[:2] == [False, True]:
            kind = _kind(node, weights[node.input[1]])
            names = [*node.input[1:], bias_of.get(node.output[0], "")]
            found.append(Layer(node.name, kind, _label(names, node), (node.input[0],)))
        elif node.op_type == "Add" and backbone.quantise_residuals and not any(constant):
            found.append(Layer(node.name, RESIDUAL_ADD, node.name, tuple(node.input)))
    return found


def _kind(node: NodeProto, weight: tuple[int, ...]) -> str:
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    depthwise = node.op_type == "Conv" and groups > 1 and weight[1] == 1
    return "depthwise Conv" if depthwise else node.op_type


def _biases(nodes: Iterable[NodeProto], weights: Iterable[str]) -> dict[str, str]:
    """Map a tensor to the constant that is added to it."""
    known = set(weights)
    return {
        node.input[0]: node.input[1]
        for node in nodes
        if node.op_type == "Add" and node.input[1] in known
    }


def _label(names: Iterable[str], node: NodeProto) -> str:
    """Name a layer after its parameters, or after its node if the exporter renamed them."""
    for name in names:
        for wrapper in _WRAPPERS:
            name = name.removeprefix(wrapper)  # noqa: PLW2901
        if "." in name:
            return name.rpartition(".")[0]
    return node.name
