"""Rewrites FP32 graphs to FP16 or BF16, with the type of every tensor in the graph.

Products, convolutions and the operators between them compute in the low type. Normalisation,
softmax and reductions sum many values and stay in FP32, with a Cast on either side; so does every
operator whose values exceed the low type's range on real views. The first layers stay in FP32,
too, if the verdicts need it: a fraction of a grey level may be what tells machine-made images
apart. Inputs and outputs keep their types. INT8 layers stay INT8, and are rounded from and to the
types around them.

docs/precision.md compares this with NVIDIA ModelOpt's AutoCast and ONNX Runtime's ``float16``.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import onnx.version_converter
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

LowType = Literal["fp16", "bf16"]

_ONNX_TYPES: Mapping[LowType, int] = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
_NUMPY_TYPES: Mapping[int, npt.DTypeLike] = {
    TensorProto.FLOAT16: np.float16,
    TensorProto.BFLOAT16: ml_dtypes.bfloat16,
}
BF16_OPSET = 22  # the first with BF16 convolutions
_PRODUCTS = ("Conv", "MatMul", "Gemm")
_TO_INT8, _FROM_INT8 = "QuantizeLinear", "DequantizeLinear"
_ROUNDINGS = {_TO_INT8, _FROM_INT8}
# Largest finite values.
LARGEST: Mapping[LowType, float] = {"fp16": 65504.0, "bf16": 3.3895e38}
# By what factor activations may exceed what was seen: other views reach further than the few that
# were tried. A floating type loses no digits by it.
_HEADROOM = 2.0

_SUMMING = {
    *("LayerNormalization", "GroupNormalization", "InstanceNormalization", "RMSNormalization"),
    *("BatchNormalization", "LpNormalization", "MeanVarianceNormalization"),
    *("Softmax", "LogSoftmax", "GlobalAveragePool", "AveragePool"),
    *("ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL2", "ReduceLogSumExp", "CumSum"),
    *("Pow", "Sqrt", "Reciprocal", "Exp", "Log"),  # normalisations that were taken apart
}
_NO_BF16 = {"HardSwish"}  # TensorRT has it in FP32, FP16 and INT8 only


@dataclass(frozen=True)
class Plan:
    """What decides which nodes compute in the low type.

    Attributes:
        precision: the low type.
        largest: the largest magnitude of each inner tensor, seen on real views.
        front: how many of the first products (convolutions, matrix products) stay in FP32.
    """

    precision: LowType
    largest: Mapping[str, float]
    front: int = 0


def lowered(model: ModelProto, plan: Plan) -> ModelProto:
    """Return a copy of a backbone's graph in a low type.

    Args:
        model: in FP32, or FP32 and INT8, with its weights inside.
        plan: which nodes compute in the low type.
    """
    result = copy.deepcopy(model)
    if plan.precision == "bf16":
        result = onnx.version_converter.convert_version(result, BF16_OPSET)
    graph = result.graph
    _Rewriter(graph, _ONNX_TYPES[plan.precision], _low_nodes(graph, plan)).run()
    del graph.value_info[:]
    result = onnx.shape_inference.infer_shapes(result, check_type=True, strict_mode=True)
    onnx.checker.check_model(result, full_check=True)
    return result


def kept_nodes(model: ModelProto, plan: Plan) -> tuple[str, ...]:
    """Name the nodes that stay in FP32 because of their range or place, not their kind."""
    graph = model.graph
    kept = _low_nodes(graph, Plan(plan.precision, {})) - _low_nodes(graph, plan)
    return tuple(node.name for node in graph.node if node.name in kept)


def float_tensors(model: ModelProto) -> list[str]:
    """Name the float32 outputs of a graph's nodes; its shapes must be inferred."""
    return [
        info.name
        for info in (*model.graph.value_info, *model.graph.output)
        if info.type.tensor_type.elem_type == TensorProto.FLOAT
    ]


def _low_nodes(graph: GraphProto, plan: Plan) -> frozenset[str]:
    """Choose the nodes that compute in the low type."""
    front = _front(graph, plan.front)
    limit = LARGEST[plan.precision]
    weights = {tensor.name: tensor for tensor in graph.initializer}

    def fits(name: str) -> bool:
        if name in weights and weights[name].data_type == TensorProto.FLOAT:
            return float(np.abs(numpy_helper.to_array(weights[name])).max(initial=0.0)) <= limit
        return _HEADROOM * plan.largest.get(name, 0.0) <= limit

    high = _SUMMING | _NO_BF16 if plan.precision == "bf16" else _SUMMING
    return frozenset(
        node.name
        for node in graph.node
        if node.op_type not in high | _ROUNDINGS
        and node.name not in front
        and all(map(fits, (*node.input, *node.output)))
    )


def _front(graph: GraphProto, products: int) -> frozenset[str]:
    """Name the nodes before product number ``products + 1``.

    Those that normalise pixels are always among them: near 255, FP16's steps are an eighth of a
    grey level.
    """
    names = []
    for node in graph.node:
        if node.op_type in _ROUNDINGS:  # those of weights come before all other nodes
            continue
        if node.op_type in _PRODUCTS:
            products -= 1
        if products < 0:
            break
        names.append(node.name)
    return frozenset(names)


class _Rewriter:
    """Gives every node of a graph its type and puts Casts where types meet."""

    def __init__(self, graph: GraphProto, low_type: int, low_nodes: Collection[str]) -> None:
        self._graph = graph
        self._low_type = low_type
        self._low_nodes = low_nodes
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        infos = (*graph.input, *graph.output, *graph.value_info)
        self._types = {info.name: info.type.tensor_type.elem_type for info in infos}
        self._types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
        self._from_int8 = {x.output[0]: x for x in graph.node if x.op_type == _FROM_INT8}
        self._made: dict[tuple[str, int], str] = {}
        self._nodes: list[NodeProto] = []

    def run(self) -> None:
        outputs = {output.name for output in self._graph.output}
        for node in self._graph.node:
            if node.op_type == _FROM_INT8:
                continue  # a copy is made for each type in which it is read
            wanted = self._wanted(node)
            renamed = [self._typed(name, wanted) for name in node.input]
            del node.input[:]
            node.input.extend(renamed)
            self._nodes.append(node)
            if wanted == self._low_type:
                self._lower_outputs(node, outputs)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        self._drop_unused_weights()

    def _wanted(self, node: NodeProto) -> int:
        """Return the type that a node computes in; a rounding to INT8 reads any type."""
        if node.op_type == _TO_INT8:
            found: int = self._types[node.input[0]]
            return found
        return self._low_type if node.name in self._low_nodes else TensorProto.FLOAT

    def _typed(self, name: str, wanted: int) -> str:
        """Return the name under which a tensor can be read in the type wanted."""
        rounded, found = name in self._from_int8, self._types.get(name)
        if not rounded and (found == wanted or found not in (TensorProto.FLOAT, self._low_type)):
            return name
        if (name, wanted) not in self._made:
            target = f"{name}_{TensorProto.DataType.Name(wanted).lower()}"
            if rounded:
                self._add_rounding(name, target, wanted)
            elif name in self._weights:
                self._add_weight(name, target)
            else:
                self._add_cast(name, target, wanted)
            self._made[name, wanted] = target
        return self._made[name, wanted]

    def _add_weight(self, name: str, target: str) -> None:
        values = numpy_helper.to_array(self._weights[name])
        narrow = values.astype(_NUMPY_TYPES[self._low_type])
        self._graph.initializer.append(numpy_helper.from_array(narrow, target))

    def _add_rounding(self, name: str, target: str, wanted: int) -> None:
        """Dequantise to this type: a Cast in between would keep engines from fusing a product."""
        node = copy.deepcopy(self._from_int8[name])
        node.name, node.output[0] = f"read_{target}", target
        node.input[1] = self._typed(node.input[1], wanted)
        self._nodes.append(node)

    def _add_cast(self, name: str, target: str, wanted: int) -> None:
        cast = onnx.helper.make_node("Cast", [name], [target], f"cast_{target}", to=wanted)
        self._nodes.append(cast)

    def _lower_outputs(self, node: NodeProto, graph_outputs: Collection[str]) -> None:
        """Record the types of a low node's outputs; the graph's own outputs stay float32."""
        for index, name in enumerate(node.output):
            if self._types.get(name) != TensorProto.FLOAT:
                continue
            if name in graph_outputs:
                node.output[index] = f"{name}_low"
                self._add_cast(node.output[index], name, TensorProto.FLOAT)
            else:
                self._types[name] = self._low_type

    def _drop_unused_weights(self) -> None:
        used = set(_inputs(self._nodes))
        kept = [tensor for tensor in self._graph.initializer if tensor.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)


def _inputs(nodes: Collection[NodeProto]) -> Iterator[str]:
    for node in nodes:
        yield from node.input
