"""Engines by name. Each is imported only when it is asked for."""

from __future__ import annotations

import platform
from importlib.util import find_spec

from ..bundle import Bundle
from ..errors import EngineError
from .base import X86, Engine, EngineOptions

ENGINE_NAMES = ("onnxruntime", "openvino")
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
    from .onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(bundle, options)


def _prefers_openvino(options: EngineOptions) -> bool:
    """OpenVINO has INT8 and BF16 kernels for x86; elsewhere ONNX Runtime is known better."""
    on_cpu = options.device in ("auto", "cpu")
    return on_cpu and platform.machine() in X86 and find_spec("openvino") is not None
