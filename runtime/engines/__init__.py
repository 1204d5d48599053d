"""Engines by name. Each is imported only when it is asked for."""

from __future__ import annotations

import platform
from dataclasses import replace
from importlib.util import find_spec

from ..bundle.bundle import Bundle
from ..machine.errors import EngineError
from .base import X86, Engine, EngineOptions
from .tensorrt.api import LIBRARY_NAMES

ENGINE_NAMES = ("onnxruntime", "openvino", *LIBRARY_NAMES)
DEVICE_NAMES = ("cpu", "cuda")


def open_engine(bundle: Bundle, name: str, options: EngineOptions) -> Engine:
    """Load a bundle's graphs into the named engine; ``auto`` takes the best installed.

    Raises:
        EngineError: unknown name, or the engine cannot run the bundle as asked.
    """
    if name not in ("auto", *ENGINE_NAMES):
        raise EngineError(f"there is no engine {name!r}: choose auto or {', '.join(ENGINE_NAMES)}.")
    if options.device not in ("auto", *DEVICE_NAMES):
        raise EngineError(
            f"there is no device {options.device!r}: choose auto or {', '.join(DEVICE_NAMES)}."
        )
    if name == "openvino" or (name == "auto" and _prefers_openvino(options)):
        from .openvino import OpenVinoEngine

        return OpenVinoEngine(bundle, options)
    if name in LIBRARY_NAMES:
        from .tensorrt.engine import TensorRtEngine

        return TensorRtEngine(bundle, name, options)
    from .onnxruntime import OnnxRuntimeCudaEngine, OnnxRuntimeEngine, chosen_device

    device = chosen_device(options.device)
    engine = OnnxRuntimeCudaEngine if device == "cuda" else OnnxRuntimeEngine
    return engine(bundle, replace(options, device=device))


def _prefers_openvino(options: EngineOptions) -> bool:
    """OpenVINO has INT8 and BF16 kernels for x86; elsewhere ONNX Runtime is known better."""
    on_cpu = options.device in ("auto", "cpu")
    return on_cpu and platform.machine() in X86 and find_spec("openvino") is not None
