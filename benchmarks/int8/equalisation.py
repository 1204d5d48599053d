"""Equalises weights across layers, and leaves what a network in FP32 computes as it is.

Between two convolutions, a channel may be divided by any positive number if the second multiplies
it by that again: a ReLU in between lets it pass, and the limit of a ReLU6 is divided, too, so that
each channel has its own. The numbers are chosen so that a channel's largest weight is the same on
both sides (M. Nagel et al., Data-Free Quantization through Weight Equalization and Bias Correction,
2019). That paper drops the limits of ReLU6, and afterwards moves large biases to the next layer;
neither is done here. Other activations let no number pass, so nothing is equalised across them.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from ...runtime.engines.base import Float32

_SWEEPS = 20
_SETTLED = 0.01  # a sweep that changes no channel by more than this share is the last
_WEIGHT, _BIAS = 1, 2  # inputs of a convolution
_LOWER, _UPPER = 1, 2  # inputs of a Clip

_Scales = npt.NDArray[np.float32]  # one number for each channel


def equalise(model: ModelProto) -> tuple[ModelProto, int]:
    """Return a copy of a backbone in FP32 with equalised weights, and how many pairs have them."""
    equalised = copy.deepcopy(model)
    graph = equalised.graph
    pairs = list(_Finder(graph).pairs())
    for _ in range(_SWEEPS):
        if max((pair.equalise() for pair in pairs), default=0.0) < _SETTLED:
            break
    for convolution in {id(each): each for pair in pairs for each in pair.both}.values():
        convolution.write(graph)
    for pair in pairs:
        if pair.limit is not None:
            pair.limit.write(graph)
    return equalised, len(pairs)


@dataclass
class _Convolution:
    """The weights of a convolution, ``(outputs, inputs of a group, …)``, while they change."""

    node: NodeProto
    weight: Float32
    bias: Float32 | None
    groups: int

    def by_output(self) -> Float32:
        """Return the largest magnitude for each output channel."""
        largest: Float32 = np.abs(self.weight).reshape(len(self.weight), -1).max(axis=1)
        return largest

    def by_input(self) -> Float32:
        """Return the largest magnitude for each input channel, those of all groups in turn."""
        largest: Float32 = np.abs(self._grouped()).max(axis=(1, 3)).ravel()
        return largest

    def divide_outputs(self, scales: _Scales) -> None:
        self.weight = self.weight / _along(scales, 0, self.weight.ndim)
        if self.bias is not None:
            self.bias = self.bias / scales

    def multiply_inputs(self, scales: _Scales) -> None:
        grouped = self._grouped() * scales.reshape(self.groups, 1, -1, 1)
        self.weight = grouped.reshape(self.weight.shape)

    def write(self, graph: GraphProto) -> None:
        """Give the node tensors of its own, because equal ones are stored once for all readers."""
        for place, values in ((_WEIGHT, self.weight), (_BIAS, self.bias)):
            if values is not None:
                name = f"{self.node.name}_equalised_{place}"
                graph.initializer.append(numpy_helper.from_array(values, name))
                self.node.input[place] = name

    def _grouped(self) -> Float32:
        outputs, inputs = self.weight.shape[:2]
        return self.weight.reshape(self.groups, outputs // self.groups, inputs, -1)


@dataclass
class _Limit:
    """A Clip from 0 up to limits of its channels."""

    node: NodeProto
    values: _Scales

    def write(self, graph: GraphProto) -> None:
        """Make it the least of value and limit, and a Relu; the output keeps its name."""
        place = list(graph.node).index(self.node)
        source, result, name = self.node.input[0], self.node.output[0], self.node.name
        limits = numpy_helper.from_array(_along(self.values, 1, 4), f"{name}_limits")
        graph.initializer.append(limits)
        limited = f"{name}_limited"
        least = helper.make_node("Min", [source, limits.name], [limited], f"{name}_min")
        self.node.CopyFrom(helper.make_node("Relu", [limited], [result], name))
        graph.node.insert(place, least)


@dataclass
class _Pair:
    """Two convolutions, one after the other, and the limit between them."""

    first: _Convolution
    second: _Convolution
    limit: _Limit | None

    @property
    def both(self) -> tuple[_Convolution, _Convolution]:
        return self.first, self.second

    def equalise(self) -> float:
        """Equalise once; return the largest change of a channel, as a share."""
        ours, theirs = self.first.by_output(), self.second.by_input()
        some = (ours > 0) & (theirs > 0)  # channels of zeros may stay as they are
        ratios = np.divide(ours, theirs, out=np.ones_like(ours), where=some)
        scales: _Scales = np.sqrt(ratios).astype(np.float32)
        self.first.divide_outputs(scales)
        self.second.multiply_inputs(scales)
        if self.limit is not None:
            self.limit.values = self.limit.values / scales
        return float(np.abs(scales - 1).max())


class _Finder:
    """Finds the pairs of a graph; a tensor between the two is read by nothing else."""

    def __init__(self, graph: GraphProto) -> None:
        self._graph = graph
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output}
        self._readers = Counter(name for node in graph.node for name in node.input)
        self._readers.update(output.name for output in graph.output)
        self._convolutions: dict[str, _Convolution] = {}

    def pairs(self) -> Iterator[_Pair]:
        for node in self._graph.node:
            second = self._convolution(node)
            if second is None:
                continue
            between, limit = self._only_maker(node.input[0]), None
            if between is not None and between.op_type in ("Relu", "Clip"):
                if not self._is_even(between):
                    continue
                limit = self._limit(between)
                between = self._only_maker(between.input[0])
            first = None if between is None else self._convolution(between)
            if first is None:
                continue
            if limit is not None:
                limit.values = np.repeat(limit.values, len(first.weight))
            yield _Pair(first, second, limit)

    def _only_maker(self, name: str) -> NodeProto | None:
        return self._makers.get(name) if self._readers[name] == 1 else None

    def _convolution(self, node: NodeProto) -> _Convolution | None:
        constants = all(name in self._tensors for name in node.input[_WEIGHT:])
        if node.op_type != "Conv" or not constants:
            return None
        if node.name not in self._convolutions:
            weight, *biases = map(self._values, node.input[_WEIGHT:])
            groups = next((each.i for each in node.attribute if each.name == "group"), 1)
            bias = biases[0] if biases else None
            self._convolutions[node.name] = _Convolution(node, weight, bias, groups)
        return self._convolutions[node.name]

    def _is_even(self, activation: NodeProto) -> bool:
        """Whether scaled inputs give scaled outputs, once its limit is scaled, too."""
        if activation.op_type == "Relu":
            return True
        bounds = [name for name in activation.input[_LOWER:] if name]
        known = all(name in self._tensors for name in bounds)
        return known and self._bound(activation, _LOWER) == 0.0

    def _limit(self, activation: NodeProto) -> _Limit | None:
        limit = self._bound(activation, _UPPER) if activation.op_type == "Clip" else None
        return None if limit is None else _Limit(activation, np.array([limit], np.float32))

    def _bound(self, clip: NodeProto, place: int) -> float | None:
        name = clip.input[place] if len(clip.input) > place else ""
        return float(self._values(name)) if name else None

    def _values(self, name: str) -> Float32:
        values: Float32 = numpy_helper.to_array(self._tensors[name])
        return values


def _along(values: _Scales, axis: int, axes: int) -> Float32:
    """Shape one number for each channel so that they lie along one of some axes."""
    shape = [1] * axes
    shape[axis] = -1
    return values.reshape(shape)
