"""What tests of detectors share: sources, and their graphs in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from glass_edge.export.detectors.reading import recognise
from glass_edge.export.detectors.registry import Detector, Preset, Source, families
from glass_edge.export.errors import CheckpointError
from glass_edge.export.graphs import PixelFront, export_graph
from glass_edge.export.simplify import simplified
from glass_edge.runtime.bundle.manifest import Normalisation
from glass_edge.runtime.bundle.streams import TensorSpec
from glass_edge.runtime.views.spec import ElementType
from torch import Tensor, nn

# What engines other than ONNX Runtime are known to take.
PLAIN_OPERATORS = {
    *("Cast", "Transpose", "Mul", "Add", "Sub", "Div", "MatMul", "Gemm", "Conv", "Relu", "Gelu"),
    *("Clip", "Sigmoid", "Tanh", "Softmax", "LayerNormalization", "MaxPool", "AveragePool", "Pow"),
    *("ReduceMean", "ReduceSum", "ReduceL2", "Sqrt", "Reciprocal", "Neg", "Max", "Reshape"),
    *("Squeeze", "Unsqueeze", "Concat", "Split", "Gather", "Slice", "Shape", "Expand", "Flatten"),
    "Pad",
}


def source(state: Mapping[str, Tensor], **others: Any) -> Source:
    return Source(Path("weights.pth"), dict(state), **others)


def load(name: str, given: Source) -> tuple[Detector, Preset]:
    """Load with the first preset of the family that a user names."""
    family = families()[name]
    preset = family.presets(given)[0]
    assert [views.fault for views in preset.views.values()] == [None] * len(preset.views)
    return family.load(given, preset), preset


def told(given: Source) -> str | None:
    """Return the family that a checkpoint is taken for."""
    try:
        return recognise(given, None).name
    except CheckpointError:
        return None


def pixel_session(
    module: nn.Module, side: int, outputs: Sequence[TensorSpec], dtype: ElementType = "uint8"
) -> onnxruntime.InferenceSession:
    """Export a stream without normalisation, as the product does, and load the graph."""
    pixels = TensorSpec("pixels", dtype, ("batch", side, side, 3))
    unchanged = Normalisation((0, 0, 0), (1, 1, 1), "none")
    return session(PixelFront(simplified(module), unchanged), [pixels], outputs)


def session(
    module: nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> onnxruntime.InferenceSession:
    """Export a module, and load the graph."""
    graph = export_graph(module.eval(), inputs, outputs, "local")
    operators = {node.op_type for node in graph.graph.node}
    assert operators <= PLAIN_OPERATORS, operators - PLAIN_OPERATORS
    return onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def run(graph: onnxruntime.InferenceSession, *inputs: Tensor) -> list[Tensor]:
    names = [each.name for each in graph.get_inputs()]
    found = graph.run(None, {n: t.numpy() for n, t in zip(names, inputs, strict=True)})
    return [torch.from_numpy(np.asarray(each)) for each in found]


def pixels_of(count: int, side: int) -> Tensor:
    """Random pixels ``(count, side, side, 3)``, uint8."""
    generator = torch.Generator().manual_seed(count)
    shape = (count, side, side, 3)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def views_of(pixels: Tensor) -> Tensor:
    """The same as a network takes them: ``(count, 3, side, side)`` in [0, 1]."""
    return pixels.permute(0, 3, 1, 2).float() / 255


def floats(name: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name, "float32", shape)
