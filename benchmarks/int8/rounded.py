"""Counts the products of a graph that are in INT8, whoever quantised it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from onnx import GraphProto, NodeProto

_PRODUCTS = ("Conv", "Gemm", "MatMul")
_FACTORS = 2  # inputs; the third is a bias
# Their outputs are values of their first input.
_PASSING = {
    *("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Slice", "Gather"),
    *("Split", "Expand", "MaxPool"),
}


class Products(NamedTuple):
    """Convolutions and matrix products: all, and those of two factors in INT8."""

    all: int
    in_int8: int


def count_products(graph: GraphProto) -> Products:
    """Count them; a factor is in INT8 if it comes from a ``DequantizeLinear``."""
    makers = {name: node for node in graph.node for name in node.output}
    products = [node for node in graph.node if node.op_type in _PRODUCTS]
    rounded = [
        node
        for node in products
        if all(_is_rounded(name, makers) for name in node.input[:_FACTORS])
    ]
    return Products(len(products), len(rounded))


def _is_rounded(name: str, makers: Mapping[str, NodeProto]) -> bool:
    maker = makers.get(name)
    while maker is not None and maker.op_type in _PASSING:
        maker = makers.get(maker.input[0])
    return maker is not None and maker.op_type == "DequantizeLinear"
