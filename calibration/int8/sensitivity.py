"""Measures how much each layer in INT8 moves the margin: all layers in one pass of the graph.

One view goes through the graph in FP32. At each layer a second result, of that layer alone in INT8,
is appended to the batch as another row, which the rest of the graph then carries to the features.
So row ``k`` ends as the features of a network that has only layer ``k`` in INT8, nothing before a
layer is computed again, and one graph is compiled instead of one for each layer.

The batch may lie along any axis, and a network may divide each view into windows or heads that lie
along it, one view's after the other's. Wherever a row is taken, there must be such an axis.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper

from ...runtime.engines.base import Array, Float32
from ..errors import CalibrationError
from ..judging.graphs import open_session
from .fitting import FittedWeight
from .grid import Grids
from .layers import Layer

_CLEAN = -1  # the row that no layer has changed
_BATCH = 10_007  # a prime, of which no other size is a multiple
_Rows = tuple[int, ...]  # which layer each row of a tensor has in INT8


def layer_features(
    model: ModelProto,
    layers: Sequence[Layer],
    grids: Grids,
    fitted: Mapping[str, FittedWeight],
) -> LayerFeatures:
    """Prepare the one pass; see the module.

    Args:
        model: a backbone in FP32 with its weights inside.
        layers: of :func:`.layers.find_layers`.
        grids: of the layers' inputs.
        fitted: rounded weights by node.

    Raises:
        CalibrationError: a layer of the graph has its batch along no axis of its own.
    """
    return LayerFeatures(_Carrier(model, layers, grids, fitted).run(), len(layers))


class LayerFeatures:
    """Runs views through a backbone once in FP32 and once with each layer alone in INT8."""

    def __init__(self, model: ModelProto, layers: int) -> None:
        with _in_a_sentence():
            # Not OpenVINO, which runs graphs that a batch of this size does not fit, and reads past
            # the ends of tensors.
            self._session = open_session(model.SerializeToString())
        self._source = self._session.get_inputs()[0].name
        self._layers = layers

    def of(self, view: Array) -> Float32:
        """Run one view ``(1, p, p, 3)``; return ``(1 + layers, D)``, FP32's features first.

        Raises:
            CalibrationError: the engine cannot carry more than one row through the graph.
        """
        with _in_a_sentence():
            features: Float32 = self._session.run(None, {self._source: view})[0]
        if len(features) != 1 + self._layers:
            raise _unmeasurable("it mixes the views of a batch")
        return features


@contextmanager
def _in_a_sentence() -> Iterator[None]:
    """Say what an engine's error means."""
    try:
        yield
    except Exception as error:  # engines' exceptions have no common base but Exception
        raise _unmeasurable("it does not take a batch of any size") from error


def _unmeasurable(why: str) -> CalibrationError:
    return CalibrationError(
        f"which layers of the graph to keep cannot be measured, because {why}: quantise all of "
        "them with --int8-budget 0."
    )


class _Batch(NamedTuple):
    """The axis that views lie along, and how many of its entries belong to each."""

    axis: int
    windows: int


@dataclass(frozen=True)
class _Made:
    """A node to be changed: its layer's number, and what is rounded."""

    number: int
    layer: Layer


class _Carrier:
    """Rewrites a graph so that rows are appended and carried along."""

    def __init__(
        self,
        model: ModelProto,
        layers: Sequence[Layer],
        grids: Grids,
        fitted: Mapping[str, FittedWeight],
    ) -> None:
        self._model = copy.deepcopy(model)
        self._graph = self._model.graph
        self._grids, self._fitted = grids, fitted
        self._layer_of = {
            name: _Made(number, layer)
            for number, layer in enumerate(layers)
            for name in layer.nodes
        }
        self._layers = len(layers)
        self._batches = _batch_axes(model)
        self._rows: dict[str, _Rows] = {tensor.name: (_CLEAN,) for tensor in self._graph.input}
        self._nodes: list[NodeProto] = []

    def run(self) -> ModelProto:
        for node in self._graph.node:
            self._carry(node)
        (output,) = self._graph.output
        wanted = (_CLEAN, *range(self._layers))
        self._emit("Identity", [self._aligned(output.name, wanted)], "carried_features")
        output.name = "carried_features"
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        del self._graph.value_info[:]
        return self._model

    def _carry(self, node: NodeProto) -> None:
        """Emit a node on the rows of its inputs; if it belongs to a layer, append that one's."""
        rows = self._union([name for name in node.input if name in self._rows])
        made = self._layer_of.get(node.name)
        if made is None:
            self._emit_on(node, rows, node.output[0])
            self._rows.update(dict.fromkeys(node.output, rows))
            return
        unchanged = tuple(row for row in rows if row != made.number)
        name = node.output[0]
        axis = self._batch(name).axis
        self._emit_on(node, unchanged, f"{name}_kept")
        changed = (made.number,) if made.number in rows else (_CLEAN,)
        self._emit_rounded(node, made.layer, changed, f"{name}_rounded")
        self._emit("Concat", [f"{name}_kept", f"{name}_rounded"], name, axis=axis)
        self._rows[name] = (*unchanged, made.number)

    def _union(self, names: Sequence[str]) -> _Rows:
        return tuple(dict.fromkeys(row for name in names for row in self._rows[name]))

    def _emit_on(self, node: NodeProto, rows: _Rows, output: str) -> None:
        copied = copy.deepcopy(node)
        for index, name in enumerate(node.input):
            if name in self._rows and not _tells_shapes(node, index):
                copied.input[index] = self._aligned(name, rows)
        copied.output[0] = output
        self._nodes.append(copied)

    def _aligned(self, name: str, rows: _Rows) -> str:
        """Return a tensor with these rows; one that has no row of a layer has the clean one's."""
        found = self._rows[name]
        if found == rows:
            return name
        places = [found.index(row) if row in found else found.index(_CLEAN) for row in rows]
        aligned = self._fresh(f"{name}_rows")
        axis, windows = self._batch(name)
        each = np.array(places, np.int64)[:, np.newaxis] * windows + np.arange(windows)
        indices = self._constant(f"{aligned}_at", each.ravel())
        self._emit("Gather", [name, indices], aligned, axis=axis)
        return aligned

    def _batch(self, name: str) -> _Batch:
        """Return where the views lie in a tensor.

        Raises:
            CalibrationError: along no axis of their own.
        """
        if name not in self._batches:
            raise _unmeasurable(f"the batch is not an axis of {name}")
        return self._batches[name]

    def _emit_rounded(self, node: NodeProto, layer: Layer, rows: _Rows, output: str) -> None:
        """Emit the layer's node on one row, with rounded inputs, weights and bias."""
        copied = copy.deepcopy(node)
        copied.name = f"{node.name}_rounded"
        for index, name in enumerate(node.input):
            if name in self._rows:
                one = self._aligned(name, rows)
                copied.input[index] = self._rounded(one, name) if name in layer.inputs else one
        copied.output[0] = output
        fitted = self._fitted.get(node.name)
        if fitted is None:
            self._nodes.append(copied)
            return
        copied.input[1] = self._constant(f"{output}_weight", fitted.values)
        self._place_bias(copied, node, fitted)

    def _place_bias(self, copied: NodeProto, node: NodeProto, fitted: FittedWeight) -> None:
        """Correct the bias: in the node, or before the Add that follows it on all rows."""
        if fitted.bias is None:
            self._nodes.append(copied)
            return
        output = copied.output[0]
        if fitted.bias_reader == node.name:
            bias = self._constant(f"{output}_bias", fitted.bias)
            copied.input[2:] = [bias]
            self._nodes.append(copied)
            return
        copied.output[0] = f"{output}_biased"
        self._nodes.append(copied)
        moved = self._constant(f"{output}_bias", fitted.bias - self._bias(fitted.bias_reader))
        self._emit("Add", [f"{output}_biased", moved], output)

    def _bias(self, reader: str) -> Float32:
        """Return the bias that an Add adds in FP32."""
        (name,) = (node.input[-1] for node in self._graph.node if node.name == reader)
        (tensor,) = (each for each in self._graph.initializer if each.name == name)
        bias: Float32 = numpy_helper.to_array(tensor)
        return bias

    def _rounded(self, name: str, activation: str) -> str:
        """Round and clip one row of an activation."""
        grid = self._grids[activation]
        rounded = self._fresh(f"{activation}_rounded")
        zero = np.uint8(0) if grid.unsigned else np.int8(0)
        parameters = [
            self._constant(f"{rounded}_scale", np.array(grid.scale or 1, np.float32)),
            self._constant(f"{rounded}_zero", np.array(zero)),
        ]
        self._emit("QuantizeLinear", [name, *parameters], f"{rounded}_steps")
        self._emit("DequantizeLinear", [f"{rounded}_steps", *parameters], rounded)
        return rounded

    def _fresh(self, name: str) -> str:
        return f"{name}_{len(self._nodes)}"

    def _constant(self, name: str, values: npt.NDArray[np.generic]) -> str:
        self._graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def _emit(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        made = helper.make_node(operator, inputs, [output], f"carry_{output}", **attributes)
        self._nodes.append(made)


def _batch_axes(model: ModelProto) -> dict[str, _Batch]:
    """Return where the views lie in each tensor of which that is known."""
    sized = copy.deepcopy(model)
    del sized.graph.value_info[:]
    for tensor in (*sized.graph.input, *sized.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = _BATCH
    graph = onnx.shape_inference.infer_shapes(sized, data_prop=True).graph
    return {
        info.name: _Batch(axis, dim.dim_value // _BATCH)
        for info in (*graph.input, *graph.value_info, *graph.output)
        for axis, dim in enumerate(info.type.tensor_type.shape.dim)
        if dim.dim_value and dim.dim_value % _BATCH == 0
    }


def _tells_shapes(node: NodeProto, index: int) -> bool:
    """Whether an input is a shape, computed from another tensor's, and has no rows of its own."""
    return node.op_type in ("Reshape", "Expand") and index == 1
