"""Runs a graph that is in no bundle, on the fastest engine of this machine's CPU."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeAlias

import onnxruntime
from onnx import ModelProto

from ...runtime.engines.base import X86, Array, Float32
from ...runtime.engines.onnxruntime import session_options
from ...runtime.engines.openvino import shared_core
from ...runtime.machine.cpus import available_cpus

if TYPE_CHECKING:
    import openvino as ov

BATCH = 8  # views at a time: one of ResNet-50 takes 20 MB in its first layers
Graph: TypeAlias = Callable[[Array], Float32]
"""Takes views ``(n, p, p, 3)`` and gives features ``(n, D)``."""


def open_graph(model: ModelProto) -> Graph:
    """Open a backbone's graph, with its weights inside.

    It runs on OpenVINO where that is installed and the CPU is an x86, because it computes INT8
    faster there; otherwise on ONNX Runtime.
    """
    if platform.machine() in X86 and find_spec("openvino") is not None:
        return _openvino(model)
    session = open_session(model.SerializeToString())
    name = session.get_inputs()[0].name
    return lambda views: session.run(None, {name: views})[0]


def _openvino(model: ModelProto) -> Graph:
    core = shared_core()
    read = core.read_model(model.SerializeToString())
    settings: dict[str, object] = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": available_cpus(),
        "NUM_STREAMS": 1,
    }
    request: ov.InferRequest = core.compile_model(read, "CPU", settings).create_infer_request()

    def run(views: Array) -> Float32:
        request.infer([views], share_inputs=True)
        features: Float32 = request.output_tensors[0].data.copy()
        return features

    return run


def open_session(model: str | bytes) -> onnxruntime.InferenceSession:
    """Open a graph on ONNX Runtime's CPU."""
    settings = session_options(available_cpus())
    return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
