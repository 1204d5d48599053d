"""Detectors of one view as graphs: pixels in, logits out, for batches of any size."""

from __future__ import annotations

from pathlib import Path

import detector_files as files
import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from glass_edge.export.graphs import PixelFront, export_graph
from glass_edge.export.simplify import simplified
from glass_edge.runtime.bundle.streams import TensorSpec
from onnx import ModelProto

SIDE = 64
PIXELS = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)


def exported(family: str, folder: Path) -> tuple[ModelProto, PixelFront]:
    path = files.saved(files.FILES[family](), folder / "d.pt")
    source, detector = files.opened(path)
    (network,) = detector.streams.values()
    normalisation = files.preset(source).normalisation
    pixels = TensorSpec("pixels", "uint8", ("batch", SIDE, SIDE, 3))
    logits = TensorSpec("logits", "float32", ("batch", 2))
    front = PixelFront(simplified(network), normalisation).eval()
    graph = export_graph(front, [pixels], [logits], "global")
    return graph, PixelFront(network, normalisation).eval()


FAMILIES = ["npr", "ferretnet", "code"]
PLAIN = {
    *("Add", "Cast", "Concat", "Conv", "Expand", "Gemm", "Max", "MaxPool", "Min", "Mul", "Pad"),
    *("ReduceMean", "Relu", "Reshape", "Resize", "Shape", "Slice", "Sub", "Transpose"),
}
"""Operators that every engine has."""


@pytest.fixture(scope="module", params=FAMILIES)
def graph(request, tmp_path_factory) -> tuple[str, ModelProto, PixelFront]:
    return request.param, *exported(request.param, tmp_path_factory.mktemp("graph"))


def in_onnxruntime(model: ModelProto, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(["logits"], {"pixels": pixels})[0]


def in_openvino(model: ModelProto, pixels: np.ndarray) -> np.ndarray:
    read = openvino.Core().read_model(model.SerializeToString(), b"")
    compiled = openvino.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(pixels)["logits"]


@pytest.mark.parametrize("run", [in_onnxruntime, in_openvino])
def test_engines_give_pytorchs_logits_for_any_batch(run, graph):
    _, model, reference = graph
    for batch in (1, 3):
        found = run(model, PIXELS[:batch])
        expected = reference(torch.from_numpy(PIXELS[:batch])).numpy()
        assert found.shape == (batch, 2)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert np.ptp(found[:, 1]) > 1e-3, "the pixels make no difference"


def test_fronts_are_of_operators_that_every_engine_has(graph):
    family, model, _ = graph
    if family in ("npr", "ferretnet"):
        assert {node.op_type for node in model.graph.node} <= PLAIN
