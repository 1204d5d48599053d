"""Engines by name. Each is imported only when it is asked for."""

from __future__ import annotations

from ..bundle import Bundle
from ..errors import EngineError
from .base import Engine, EngineOptions

ENGINE_NAMES = ("onnxruntime",)
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
    from .onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(bundle, options)
