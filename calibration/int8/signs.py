"""Finds tensors that are never negative, whatever the image: INT8 then needs no sign."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, NodeProto, numpy_helper

_NEVER_NEGATIVE = {"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Exp", "Abs", "Sqrt", "Softplus"}
# Their outputs are values of their first input, or means or the largest of some.
_KEEPING_THE_SIGN = {
    *("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax"),
    *("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Slice", "Gather"),
}
_LOWER_BOUND = 1  # which input of a Clip

_Constants = Mapping[str, npt.NDArray[np.generic]]


def never_negative(graph: GraphProto) -> frozenset[str]:
    """Name the tensors that the graph's operators keep from being negative."""
    bounds = {
        node.input[_LOWER_BOUND]
        for node in graph.node
        if node.op_type == "Clip" and len(node.input) > _LOWER_BOUND
    }
    constants = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.name in bounds
    }
    found: set[str] = set()
    for node in graph.node:
        if (
            node.op_type in _NEVER_NEGATIVE
            or (node.op_type in _KEEPING_THE_SIGN and node.input[0] in found)
            or _clips_at_zero(node, constants)
        ):
            found.update(node.output)
    return frozenset(found)


def _clips_at_zero(node: NodeProto, constants: _Constants) -> bool:
    if node.op_type != "Clip" or len(node.input) <= _LOWER_BOUND:
        return False
    bound = constants.get(node.input[_LOWER_BOUND])
    return bound is not None and bool(bound.size) and float(bound.min()) >= 0.0
