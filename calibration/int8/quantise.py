"""Inserts Q/DQ nodes with the given grids, by means of ONNX Runtime's quantiser.

Quantisation is explicit and its zero-point 0: weights int8 per output channel, activations int8, or
uint8 where the grid is unsigned, biases in float. Inputs of products are quantised; outputs are
not, because engines fuse what follows a product with it, in float.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from ...runtime.engines.base import Float32
from .fitting import FittedWeight
from .grid import Grid, Grids
from .layers import Layer

_BIAS = 2  # which of a convolution's or Gemm's inputs
_OPERATORS = ["Conv", "Gemm", "MatMul", "Add"]


def quantise(
    model: ModelProto,
    layers: Iterable[Layer],
    grids: Grids,
    fitted: Mapping[str, FittedWeight],
) -> ModelProto:
    """Return a copy of a graph in which these layers compute in INT8.

    Args:
        model: an FP32 graph with its weights inside.
        layers: what to quantise, from :func:`.layers.find_layers`.
        grids: for each activation that they read.
        fitted: rounded weights by node; other layers' weights are rounded to the nearest.
    """
    chosen = list(layers)
    if not chosen:  # the quantiser takes an empty list for all nodes
        return copy.deepcopy(model)
    used = {name: grids[name] for layer in chosen for name in layer.inputs}
    nodes = {name for layer in chosen for name in layer.nodes}
    prepared = copy.deepcopy(model)
    scales = _place(prepared.graph, {x.node: fitted[x.node] for x in chosen if x.node in fitted})
    quantizer = QDQQuantizer(
        prepared,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=_tensors_data(used),
        nodes_to_quantize=list(nodes),
        nodes_to_exclude=[],
        op_types_to_quantize=_OPERATORS,
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": _OPERATORS,
            "TensorQuantOverrides": scales | _unsigned(used),
        },
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantised: ModelProto = quantizer.model.model
    _restore_other_readers(quantised.graph, nodes)
    return quantised


def _place(graph: GraphProto, fitted: Mapping[str, FittedWeight]) -> dict[str, list[Any]]:
    """Give products their rounded weights; return the scales in the quantiser's form.

    Each product gets tensors of its own, because exporters store equal ones once for all readers.
    """
    nodes = {node.name: node for node in graph.node}
    scales = {}
    for name, weight in fitted.items():
        placed = _replace(graph, nodes[name], 1, f"{name}_weight", weight.values)
        scales[placed] = [
            {"axis": weight.axis, "scale": scale, "zero_point": np.int8(0)}
            for scale in weight.scales
        ]
        if weight.bias is not None:
            reader = nodes[weight.bias_reader]
            place = _BIAS if reader.name == name else -1
            _replace(graph, reader, place, f"{name}_bias", weight.bias)
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return scales


def _unsigned(grids: Grids) -> dict[str, list[Any]]:
    """Return the overrides, in the quantiser's form, for activations that are never negative."""
    zero = np.array(0, np.uint8)
    return {
        name: [{"quant_type": QuantType.QUInt8, "scale": _step(grid), "zero_point": zero}]
        for name, grid in grids.items()
        if grid.unsigned
    }


def _step(grid: Grid) -> npt.NDArray[np.float32]:
    """Return the size of a step; an activation that is always 0 may have any."""
    return np.array(grid.scale or 1.0, np.float32)


def _replace(graph: GraphProto, node: NodeProto, index: int, name: str, values: Float32) -> str:
    graph.initializer.append(numpy_helper.from_array(values, name))
    if index == len(node.input):
        node.input.append(name)
    node.input[index] = name
    return name


def _restore_other_readers(graph: GraphProto, chosen: Collection[str]) -> None:
    """Give all but the chosen nodes the original activations.

    ONNX Runtime's quantiser gives rounded activations to all readers, which would round the
    residual stream of a transformer, too.
    """
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.name in chosen or node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        for index, name in enumerate(node.input):
            maker = makers.get(name)
            if maker is not None and maker.op_type == "DequantizeLinear":
                node.input[index] = makers[maker.input[0]].input[0]


def _tensors_data(grids: Grids) -> TensorsData:
    return TensorsData(
        CalibrationMethod.MinMax,
        {
            name: TensorData(lowest=np.float32(-grid.limit), highest=np.float32(grid.limit))
            for name, grid in grids.items()
        },
    )
