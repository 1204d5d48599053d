"""Gives the channels of a tensor one range, where nothing but sums lies between convolutions.

INT8 rounds a whole tensor with one step, so a channel with small values loses more than others.
Where convolutions make a tensor and convolutions read it, as in the linear bottlenecks of
MobileNets and EfficientNets, a channel may be divided by any number if its readers multiply it by
that again: what the network computes stays the same (M. Nagel et al., Data-Free Quantization
through Weight Equalization and Bias Correction, 2019). Weights have a step for each output, and are
rounded together for their inputs, so here the values' ranges alone choose the numbers. Across
activations nothing is scaled: the limit of a ReLU6 makes ranges equal as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from ...runtime.engines.base import Array, Float32
from .observe import Observer

_WEIGHT, _BIAS = 1, 2  # inputs of a convolution
_LEAST = 1e-3  # of a tensor's range, as which a channel with a smaller one counts


@dataclass(frozen=True)
class Linear:
    """Tensors that differ by sums only, and so must be scaled alike.

    Attributes:
        tensors: those that convolutions read.
        makers: the convolutions that make them or what is added up to them.
        readers: the convolutions that read them.
    """

    tensors: Sequence[str]
    makers: Sequence[NodeProto]
    readers: Sequence[NodeProto]


def with_equal_channels(model: ModelProto, views: Iterable[Array]) -> ModelProto:
    """Return a graph that computes the same, with equal ranges of a tensor's channels.

    Args:
        model: a backbone in FP32 with its weights inside; it is returned itself if no tensor's
            channels can be scaled.
        views: on which ranges are measured, batch by batch.
    """
    if next(find_linear(model.graph), None) is None:
        return model
    scaled = copy.deepcopy(model)
    found = list(find_linear(scaled.graph))
    ranges = _ranges(model, [name for each in found for name in each.tensors], views)
    weights = {tensor.name: tensor for tensor in scaled.graph.initializer}
    for each in found:
        largest = np.max([ranges[name] for name in each.tensors], axis=0)
        if not largest.any():
            continue
        largest = np.maximum(largest, _LEAST * largest.max())
        scales = largest / np.exp(np.log(largest).mean())
        for maker in each.makers:
            _scale(scaled.graph, weights, maker, _WEIGHT, 1 / scales, axis=0)
            if any(maker.input[_BIAS:]):
                _scale(scaled.graph, weights, maker, _BIAS, 1 / scales, axis=0)
        for reader in each.readers:
            _scale(scaled.graph, weights, reader, _WEIGHT, scales, axis=1)
    return scaled


def find_linear(graph: GraphProto) -> Iterator[Linear]:
    """Yield the tensors of a graph whose channels can be scaled."""
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    constants = {tensor.name for tensor in graph.initializer}
    outputs = {output.name for output in graph.output}
    for tensors in _added_up(graph, makers):
        names = sorted(tensors)  # the order of a set is another one in each process
        made = [makers[name] for name in names]
        read = [node for name in names for node in readers.get(name, ())]
        convolutions = [node for node in read if node.op_type == "Conv"]
        others = [node for node in (*made, *read) if not _is_sum(node, tensors)]
        possible = all(_is_constant(node, constants) for node in others)
        whole = all(_groups(node) == 1 for node in convolutions)
        if possible and whole and convolutions and not outputs & tensors:
            yield Linear(
                sorted({node.input[0] for node in convolutions}),
                [node for node in made if node.op_type == "Conv"],
                convolutions,
            )


def _added_up(graph: GraphProto, makers: Mapping[str, NodeProto]) -> Iterator[set[str]]:
    """Yield sets of tensors: what convolutions make, together with what it is added to."""
    of: dict[str, set[str]] = {}
    for node in graph.node:
        if node.op_type == "Conv":
            of[node.output[0]] = {node.output[0]}
        elif node.op_type == "Add" and all(name in makers for name in node.input):
            joined = {node.output[0]}.union(*(of.get(name, {name}) for name in node.input))
            of.update(dict.fromkeys(joined, joined))
    yield from {id(each): each for each in of.values()}.values()


def _is_sum(node: NodeProto, tensors: set[str]) -> bool:
    return node.op_type == "Add" and tensors.issuperset((*node.input, *node.output))


def _is_constant(node: NodeProto, constants: set[str]) -> bool:
    """Whether this is a convolution with weights that are known."""
    return node.op_type == "Conv" and constants.issuperset(filter(None, node.input[_WEIGHT:]))


def _groups(node: NodeProto) -> int:
    return next((each.i for each in node.attribute if each.name == "group"), 1)


def _ranges(
    model: ModelProto, tensors: Sequence[str], views: Iterable[Array]
) -> dict[str, Float32]:
    """Return the largest magnitude of each tensor's channels."""
    observer = Observer(model, tensors)
    largest: dict[str, Float32] = {}
    for batch in views:
        for name, values in observer.run(batch).items():
            found = np.abs(values).max(axis=(0, 2, 3))
            largest[name] = np.maximum(largest.get(name, found), found)
    return largest


def _scale(
    graph: GraphProto,
    weights: dict[str, TensorProto],
    node: NodeProto,
    place: int,
    scales: Float32,
    axis: int,
) -> None:
    """Multiply a convolution's weights or biases along an axis, in a tensor of its own."""
    values = numpy_helper.to_array(weights[node.input[place]])
    shape = [1] * values.ndim
    shape[axis] = -1
    name = f"{node.name}_scaled_{place}"
    made = numpy_helper.from_array((values * scales.reshape(shape)).astype(np.float32), name)
    if name in weights:
        weights[name].CopyFrom(made)
        return
    node.input[place] = name
    graph.initializer.append(made)
    weights[name] = graph.initializer[-1]
