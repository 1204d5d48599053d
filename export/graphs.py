"""Exports PyTorch modules to ONNX graphs that take pixels."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from onnx import GraphProto, ModelProto, NodeProto
from torch import Tensor, nn

from ..calibration.errors import GraphError
from ..runtime.bundle.manifest import Normalisation
from ..runtime.bundle.streams import (
    AGGREGATOR,
    Role,
    Tensors,
    TensorSpec,
    aggregator_tensors,
    stream_tensors,
)
from ..runtime.views.spec import StreamViews
from .detectors.registry import Detector
from .errors import first_line
from .simplify import simplified

OPSET = 20
LARGEST_GRAPH = (2 << 30) - (16 << 20)  # bytes of weights; protobuf ends at 2 GiB, nodes included
_OPERATOR = re.compile(r"target=torch\.ops\.([\w.]+)")


class PixelFront(nn.Module):
    """A network that takes pixels: cast, layout and normalisation are part of the graph.

    ``forward(pixels)`` takes RGB ``(B, p, p, 3)`` in 0..255, uint8 or float32, and returns what the
    network does, for example features ``(B, D)``. The cast comes first because TensorRT accepts
    uint8 only there.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, backbone: nn.Module, normalisation: Normalisation) -> None:
        super().__init__()
        mean = torch.tensor(normalisation.mean).view(3, 1, 1)
        std = torch.tensor(normalisation.std).view(3, 1, 1)
        self.backbone = backbone
        self.register_buffer("scale", 1.0 / (255.0 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, ...]:
        channels_first = pixels.to(torch.float32).permute(0, 3, 1, 2)
        outputs: Tensor | tuple[Tensor, ...]
        outputs = self.backbone(channels_first * self.scale + self.shift)
        return outputs


@dataclass(frozen=True)
class Exported:
    """A graph with its weights inside, and what goes in and out."""

    model: ModelProto
    tensors: Tensors


def make_graphs(
    detector: Detector, views: Mapping[str, StreamViews], normalisation: Normalisation
) -> dict[Role, Exported]:
    """Export the graphs of a detector, checked and shape-inferred.

    Args:
        detector: in eval mode.
        views: of every stream.
        normalisation: of the views; it becomes part of the graphs.

    Raises:
        GraphError: a network is larger than a graph can be, or the exporter or the checker
            refuses a part of the model.
    """
    for name, network in detector.streams.items():
        _check_size(network, name)
    widths = {name: width_of(network, views[name]) for name, network in detector.streams.items()}
    graphs = {}
    for name, network in detector.streams.items():
        module = PixelFront(simplified(network), normalisation).eval()
        tensors = stream_tensors(name, views, widths[name] if detector.aggregator else None)
        graphs[name] = Exported(export_graph(module, *tensors, name), tensors)
    if detector.aggregator is not None:
        joined = detector.aggregator.eval()
        attention = gives_attention(joined, views, widths)
        tensors = aggregator_tensors(views, widths, attention=attention)
        graphs[AGGREGATOR] = Exported(export_graph(joined, *tensors, AGGREGATOR), tensors)
    return graphs


@torch.inference_mode()
def width_of(network: nn.Module, views: StreamViews) -> int:
    """Return how many numbers a network gives for a view, seen on a blank one."""
    outputs = network(torch.zeros(1, 3, views.size, views.size))
    features: Tensor = outputs if isinstance(outputs, Tensor) else outputs[0]
    return int(features.shape[1])


@torch.inference_mode()
def gives_attention(
    aggregator: nn.Module, views: Mapping[str, StreamViews], widths: Mapping[str, int]
) -> bool:
    """Whether an aggregator also says how much each view counts, seen on blank features."""
    blank = (
        torch.zeros(1, 1, widths[name]) if own.several else torch.zeros(1, widths[name])
        for name, own in views.items()
    )
    return not isinstance(aggregator(*blank), Tensor)


def _check_size(backbone: nn.Module, name: str) -> None:
    """Refuse at once what the exporter would refuse after minutes.

    Storing weights beside the graph would lift the limit for FP32 only, because the tools that
    check, lower and calibrate a graph need it whole.
    """
    size = sum(tensor.numel() * 4 for tensor in backbone.state_dict().values())
    if size > LARGEST_GRAPH:
        raise GraphError(
            f"{name} has {size / (1 << 30):.2f} GiB of weights in FP32, and an ONNX graph ends at "
            f"{LARGEST_GRAPH / (1 << 30):.2f} GiB of them: a detector with a smaller network is "
            "needed."
        )


def export_graph(
    module: nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], role: Role
) -> ModelProto:
    """Export one graph, checked and shape-inferred.

    Args:
        module: in eval mode.
        inputs: its tensors, in order; the sizes that are names stay open.
        outputs: what it returns.
        role: the graph's part in the model.

    Raises:
        GraphError: the exporter or the checker refuses a part of the module.
    """
    sizes = {"batch": 2, "crops": 3}  # the exporter would fix dimensions of size 1
    examples = tuple(_example(spec, sizes) for spec in inputs)
    dimensions = {name: torch.export.Dim(name, min=1) for name in sizes}
    shapes = tuple(
        {axis: dimensions[n] for axis, n in enumerate(spec.shape) if isinstance(n, str)}
        for spec in inputs
    )
    try:
        with _quiet_exporter():
            program: Any = torch.onnx.export(
                module,
                examples,
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=shapes,
                input_names=[spec.name for spec in inputs],
                output_names=[spec.name for spec in outputs],
                verbose=False,
            )
        return _cleaned(program.model_proto, role)
    except Exception as error:  # torch.export raises many types
        raise GraphError(f"the {role} graph cannot be exported: {_reason(error)}.") from error


def _reason(error: BaseException) -> str:
    """Return the first line of an error's first cause, and the operator that caused it.

    The exporter's own messages begin with advice for its developers.
    """
    operator = ""
    while error.__cause__ is not None:
        found = _OPERATOR.search(str(error))
        operator = f", at {found[1]}" if found else operator
        error = error.__cause__
    return f"{first_line(error)} ({type(error).__name__}{operator})"


def _example(spec: TensorSpec, sizes: Mapping[str, int]) -> Tensor:
    shape = [sizes[size] if isinstance(size, str) else size for size in spec.shape]
    return torch.zeros(shape, dtype=getattr(torch, spec.dtype))


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Hide the exporter's progress messages and deprecation warnings."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _cleaned(model: ModelProto, role: Role) -> ModelProto:
    """Remove metadata of tracing, which holds source paths; infer shapes; check fully."""
    model.graph.name = f"glass_{role}"
    model.producer_name, model.producer_version = "glass-edge", ""
    graph = model.graph
    for part in (model, graph):
        del part.metadata_props[:]
        part.doc_string = ""
    for items in (graph.node, graph.input, graph.output, graph.initializer, graph.value_info):
        for item in items:
            del item.metadata_props[:]
            item.doc_string = ""
    del graph.value_info[:]
    _cast_first(graph)
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    return model


def _cast_first(graph: GraphProto) -> None:
    """Make the cast the only node that reads the uint8 input.

    The exporter takes the batch size from the input; the cast's output has the same.
    """
    cast = next((node for node in graph.node if node.op_type == "Cast"), None)
    if cast is None or cast.input[0] != graph.input[0].name:
        return
    for node in graph.node:
        if node.op_type == "Shape" and node.input[0] == cast.input[0]:
            node.input[0] = cast.output[0]
    others = [node for node in graph.node if node is not cast]
    ordered = [NodeProto.FromString(node.SerializeToString()) for node in [cast, *others]]
    del graph.node[:]
    graph.node.extend(ordered)
