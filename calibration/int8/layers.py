"""Finds what INT8 makes faster: products with weights, attention, and some residual sums.

What reads the pixels themselves stays in floating point: INT8's steps would be about as wide as a
grey level, and the trace that tells machine-made images apart can be a fraction of one. Softmax,
normalisations and pooling stay in floating point, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from onnx import GraphProto, NodeProto

from ...runtime.bundle.manifest import Backbone, Rest

RESIDUAL_ADD = "residual Add"
ATTENTION = "attention"
_WEIGHTED = ("Conv", "Gemm", "MatMul")
_NO_PIXELS = {*_WEIGHTED, "Shape"}  # their outputs are no pixels, whatever they read
_ACTIVATIONS = ("Relu", "Clip")
_WRAPPERS = ("backbone.", "module.")
# What a value read or written costs in multiply-adds: as on EfficientNet-lite0 and ResNet-50, where
# leaving layers in FP32 was timed with OpenVINO.
_MEMORY = 16

Shapes = Mapping[str, tuple[int, ...]]
"""Of each tensor for a batch of one."""


@dataclass(frozen=True)
class Form:
    """What engines that an INT8 graph is meant for can compute.

    Attributes:
        unsigned: activations that are never negative take 255 steps instead of 127.
        attention: its two products of activations compute in INT8.
    """

    unsigned: bool
    attention: bool


def form_of(rest: Rest) -> Form:
    """Return the form for what is left in a type: FP32 is meant for CPUs, FP16 for GPUs.

    TensorRT has no unsigned INT8, and fuses attention only in floating point.
    """
    return Form(unsigned=rest == "fp32", attention=rest == "fp32")


@dataclass(frozen=True)
class Layer:
    """What is in INT8 or not, as a whole.

    Attributes:
        node: the name of its node; of attention, that of the first product.
        kind: ``Conv``, ``depthwise Conv``, ``MatMul``, ``Gemm``, ``residual Add`` or ``attention``.
        label: the module's name in the trained network, or the node's if the graph has lost it.
        inputs: the activations that are quantised.
        nodes: the names of all its nodes.
        work: what it costs in floating point, in multiply-adds for one view.
    """

    node: str
    kind: str
    label: str
    inputs: tuple[str, ...]
    nodes: tuple[str, ...]
    work: float


def find_layers(graph: GraphProto, backbone: Backbone, form: Form) -> list[Layer]:
    """Find what can be quantised in the graph of a backbone in FP32, in the graph's order."""
    return _Finder(graph, backbone, form).run()


class _Finder:
    def __init__(self, graph: GraphProto, backbone: Backbone, form: Form) -> None:
        self._graph, self._backbone, self._form = graph, backbone, form
        self._weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        self._bias_of = _biases(graph.node, self._weights)
        self._shapes = tensor_shapes(graph)
        self._readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._of_pixels = {tensor.name for tensor in graph.input}

    def run(self) -> list[Layer]:
        found = []
        for node in self._graph.node:
            layer = self._layer(node)
            if layer is not None:
                found.append(layer)
            if node.op_type not in _NO_PIXELS and self._of_pixels.intersection(node.input):
                self._of_pixels.update(node.output)
        return found

    def _layer(self, node: NodeProto) -> Layer | None:
        constant = [name in self._weights for name in node.input]
        if node.op_type in _WEIGHTED and constant[:2] == [False, True]:
            return None if node.input[0] in self._of_pixels else self._product(node)
        if node.op_type == "MatMul" and not any(constant) and self._form.attention:
            return self._attention(node)
        if node.op_type == "Add" and not any(constant) and self._is_rounded_sum(node):
            names = (node.name,)
            work = self._moved([node])
            return Layer(node.name, RESIDUAL_ADD, node.name, tuple(node.input), names, work)
        return None

    def _is_rounded_sum(self, node: NodeProto) -> bool:
        """Whether a residual sum goes to an activation, with which engines fuse it.

        The sum of a ResNet does. Rounding those of an EfficientNet costs time and accuracy.
        """
        readers = self._readers.get(node.output[0], ())
        follows = any(reader.op_type in _ACTIVATIONS for reader in readers)
        return self._backbone.quantise_residuals and follows

    def _product(self, node: NodeProto) -> Layer:
        weight = self._weights[node.input[1]]
        names = [*node.input[1:], self._bias_of.get(node.output[0], "")]
        inputs = (node.input[0],)
        inside = math.prod(weight) / self._outputs(node, weight)
        work = self._size(node.output[0]) * inside
        kind = _kind(node, weight)
        return Layer(
            node.name, kind, _label(names, node), inputs, (node.name,), work + self._moved([node])
        )

    def _outputs(self, node: NodeProto, weight: tuple[int, ...]) -> int:
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        return weight[0] if node.op_type == "Conv" or transposed else weight[-1]

    def _attention(self, first: NodeProto) -> Layer | None:
        """Return the pair of products around a softmax that ``first`` is the first of."""
        second = self._second_product(first.output[0])
        if second is None:
            return None
        nodes = (first, second)
        inside = self._shapes.get(first.input[0], (1,))[-1]
        work = 2.0 * self._size(first.output[0]) * inside + self._moved(nodes)
        inputs = tuple(dict.fromkeys((*first.input, *second.input)))
        names = (first.name, second.name)
        return Layer(first.name, ATTENTION, _attention_label(first), inputs, names, work)

    def _second_product(self, name: str) -> NodeProto | None:
        """Follow one reader after the other from a product, through a softmax, to the next."""
        softmax = False
        while len(readers := self._readers.get(name, [])) == 1:
            (node,) = readers
            if node.op_type == "MatMul":
                both = softmax and not any(each in self._weights for each in node.input)
                return node if both else None
            if node.op_type not in ("Mul", "Div", "Add", "Softmax", "Cast"):
                return None
            softmax |= node.op_type == "Softmax"
            name = node.output[0]
        return None

    def _moved(self, nodes: Iterable[NodeProto]) -> float:
        activations = [
            name
            for node in nodes
            for name in (*node.input, *node.output)
            if name not in self._weights
        ]
        return _MEMORY * sum(map(self._size, activations))

    def _size(self, name: str) -> int:
        return math.prod(self._shapes.get(name, (0,)))


def tensor_shapes(graph: GraphProto) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a graph's tensors for a batch of one; they must have been inferred."""
    infos = (*graph.input, *graph.value_info, *graph.output)
    return {
        info.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else 1
            for dim in info.type.tensor_type.shape.dim
        )
        for info in infos
    }


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


def _attention_label(node: NodeProto) -> str:
    return f"attention at {node.name}"
