"""Simulates FP16 and BF16 graphs in FP32, so that every CPU computes them alike.

On x86, engines compute FP16 graphs in FP32 and round nothing between two nodes: a value of a
million between two FP16 products passes there, and is infinite on a GPU. Hardware that has the
type multiplies its values, sums in FP32 and rounds what it stores. A simulated graph does the same
with operators that ONNX Runtime has everywhere. Engines that fuse nodes round less often.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

_LOW_TYPES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def simulated(model: ModelProto) -> ModelProto:
    """Return a copy of a backbone's graph with FP32 operators and the same, rounded, tensors.

    Weights keep their rounded values. Every output in a low type is cast to it and back;
    ONNX Runtime's optimiser does not remove such a pair.

    Args:
        model: in FP16 or BF16, with its weights inside and shapes inferred.
    """
    result = copy.deepcopy(model)
    graph = result.graph
    types = {info.name: info.type.tensor_type.elem_type for info in graph.value_info}
    nodes = [made for node in graph.node for made in _widened(node, types)]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    _widen_weights(graph)
    result = onnx.shape_inference.infer_shapes(result, check_type=True, strict_mode=True)
    onnx.checker.check_model(result, full_check=True)
    return result


def _widened(node: NodeProto, types: Mapping[str, int]) -> Iterator[NodeProto]:
    """Yield the node in FP32, and the Casts that round its outputs in a low type."""
    result = copy.deepcopy(node)
    if node.op_type == "Cast" and types.get(node.output[0]) in _LOW_TYPES:
        result.attribute[0].i = TensorProto.FLOAT
    casts = []
    for index, name in enumerate(node.output):
        if (low := types.get(name)) in _LOW_TYPES:
            wide, stored = f"{name}_wide", f"{name}_stored"
            result.output[index] = wide
            casts += [_cast(wide, stored, low), _cast(stored, name, TensorProto.FLOAT)]
    yield from (result, *casts)


def _cast(source: str, target: str, to: int) -> NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], f"round_{target}", to=to)


def _widen_weights(graph: GraphProto) -> None:
    for tensor in graph.initializer:
        if tensor.data_type in _LOW_TYPES:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
