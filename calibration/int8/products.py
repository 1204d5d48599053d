"""Describes each layer with weights as rows of inputs times a matrix, convolutions included."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

from ...runtime.engines.base import Float32
from .layers import ATTENTION, RESIDUAL_ADD, Layer

_WITHOUT_BIAS = 2  # inputs

Matrices: TypeAlias = npt.NDArray[np.float64]
"""One weight matrix for each group, ``(groups, outputs, inputs)``."""


@dataclass(frozen=True)
class Unfolding:
    """How a product reads its input: along the last axis, or in the windows of a convolution.

    Attributes:
        kernel: the size of a convolution's window. Empty for a matrix product, as are strides,
            pads and dilations.
        strides: the step from one window to the next.
        pads: the zeros before each axis, then those after each.
        dilations: the step from one input of a window to the next.
        groups: the number of groups of channels.
    """

    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    groups: int = 1

    def rows(self, values: Float32, wanted: int, random: np.random.Generator) -> Float32:
        """Return the inputs of ``wanted`` output positions of each view, or of all if fewer.

        Args:
            values: the product's input, ``(views, channels, *size)`` for a convolution,
                else ``(views, …, channels)``.
            wanted: the number of positions.
            random: chooses the positions, which are the same in each view.

        Returns:
            ``(groups, views x positions, inputs)``.
        """
        if not self.kernel:
            places = values.reshape(len(values), -1, values.shape[-1])
            chosen = places[:, _choose(places.shape[1], wanted, random)]
            return chosen.reshape(1, -1, values.shape[-1])
        windows = self._windows(values)
        size = windows.shape[2 : 2 + len(self.kernel)]
        at = np.unravel_index(_choose(math.prod(size), wanted, random), size)
        index: tuple[slice | npt.NDArray[np.int64], ...] = (slice(None), slice(None), *at)
        patches = windows[index]
        views, channels, positions = patches.shape[:3]
        split = patches.reshape(views, self.groups, channels // self.groups, positions, -1)
        grouped: Float32 = split.transpose(1, 0, 3, 2, 4)
        return grouped.reshape(self.groups, views * positions, -1)

    def _windows(self, values: Float32) -> Float32:
        """Return a view ``(views, channels, *positions, *kernel)`` of the padded input."""
        axes = range(len(self.kernel))
        edges = [(self.pads[axis], self.pads[axis + len(self.kernel)]) for axis in axes]
        padded = np.pad(values, [(0, 0), (0, 0), *edges]) if any(self.pads) else values
        spans = [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        windows = np.lib.stride_tricks.sliding_window_view(
            padded, spans, axis=tuple(2 + axis for axis in axes)
        )
        steps = (slice(None, None, step) for step in (*self.strides, *self.dilations))
        index = (slice(None), slice(None), *steps)
        view: Float32 = windows[index]
        return view


@dataclass(frozen=True)
class Product:
    """A layer that multiplies its input by weights.

    Attributes:
        node: the name of its node.
        source: the activation that it reads.
        unfolding: how it reads the activation.
        weight: as the graph stores it.
        axis: the axis of the weight that counts outputs.
        bias: one value for each output, zeros for a convolution without a bias; ``None`` for a
            matrix product without one.
        bias_reader: the node that adds the bias: the product itself, or an Add after it.
    """

    node: str
    source: str
    unfolding: Unfolding
    weight: Float32
    axis: int
    bias: Float32 | None
    bias_reader: str

    def matrices(self) -> Matrices:
        """Return the weights so that outputs are ``rows @ matrix.T`` in each group."""
        outputs_first = np.moveaxis(self.weight, self.axis, 0).astype(np.float64)
        outputs = len(outputs_first) // self.unfolding.groups
        return outputs_first.reshape(self.unfolding.groups, outputs, -1)

    def folded(self, matrices: Matrices) -> Float32:
        """Return matrices in the shape of the graph's weight."""
        shape = np.moveaxis(self.weight, self.axis, 0).shape
        back = np.moveaxis(matrices.reshape(shape), 0, self.axis)
        return np.ascontiguousarray(back, np.float32)


def find_products(graph: GraphProto, layers: Iterable[Layer]) -> list[Product]:
    """Return the layers that multiply by weights, in the same order."""
    nodes = {node.name: node for node in graph.node}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    adds = _adds(graph)
    return [
        _product(nodes[layer.node], adds, weights)
        for layer in layers
        if layer.kind not in (RESIDUAL_ADD, ATTENTION)
    ]


def _product(
    node: NodeProto, adds: Mapping[str, NodeProto], weights: Mapping[str, TensorProto]
) -> Product:
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    weight = numpy_helper.to_array(weights[node.input[1]])
    axis = 0 if node.op_type == "Conv" or attributes.get("transB") else 1
    adder, bias = _bias(node, adds, weights, weight.shape[axis])
    return Product(
        node=node.name,
        source=node.input[0],
        unfolding=_unfolding(node, attributes, weight.shape),
        weight=weight,
        axis=axis,
        bias=bias,
        bias_reader="" if adder is None else adder.name,
    )


def _bias(
    node: NodeProto,
    adds: Mapping[str, NodeProto],
    weights: Mapping[str, TensorProto],
    outputs: int,
) -> tuple[NodeProto | None, Float32 | None]:
    """Return the node that adds a bias to a product's outputs, and the bias.

    Every convolution is given one. It corrects the mean error; and if a quantised convolution has
    none, OpenVINO 2026.4 computes a residual sum that follows it wrongly.
    """
    if node.op_type == "Conv" and len(node.input) == _WITHOUT_BIAS:
        return node, np.zeros(outputs, np.float32)
    adder = node if len(node.input) > _WITHOUT_BIAS else adds.get(node.output[0])
    tensor = None if adder is None else weights.get(adder.input[-1])
    if tensor is None or list(tensor.dims) != [outputs]:
        return None, None
    return adder, numpy_helper.to_array(tensor)


def _adds(graph: GraphProto) -> dict[str, NodeProto]:
    """Map each tensor that an Add alone reads to that Add."""
    readers = Counter(name for node in graph.node for name in node.input)
    return {
        node.input[0]: node
        for node in graph.node
        if node.op_type == "Add" and readers[node.input[0]] == 1
    }


def _unfolding(node: NodeProto, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Unfolding:
    if node.op_type != "Conv":
        return Unfolding()
    kernel = shape[2:]
    ones = (1,) * len(kernel)
    return Unfolding(
        kernel=kernel,
        strides=tuple(attributes.get("strides", ones)),
        pads=tuple(attributes.get("pads", (0, 0) * len(kernel))),
        dilations=tuple(attributes.get("dilations", ones)),
        groups=attributes.get("group", 1),
    )


def _choose(positions: int, wanted: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    return random.choice(positions, min(positions, wanted), replace=False)
