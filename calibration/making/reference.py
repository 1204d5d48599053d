"""What a changed bundle gives for its reference views, which the runtime's self-test judges."""

from __future__ import annotations

import msgspec

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.manifest import Reference
from ...runtime.bundle.reference import stored_views
from ...runtime.engines.base import EngineOptions, Float32
from ...runtime.engines.onnxruntime import OnnxRuntimeEngine
from ...runtime.machine.cpus import available_cpus


def own_reference(bundle: Bundle) -> Reference:
    """Return the bundle's reference with the logits that its own graphs give on ONNX Runtime.

    Args:
        bundle: in FP32 or INT8, which ONNX Runtime computes as written. For other types, give a
            simulation in FP32.

    Raises:
        EngineError: ONNX Runtime refuses the bundle.
    """
    engine = OnnxRuntimeEngine(bundle, EngineOptions("cpu", available_cpus()))
    logits = engine.judge(stored_views(bundle)).logits
    return msgspec.structs.replace(
        bundle.manifest.reference, logits=logit_rows(logits), source=engine.description
    )


def logit_rows(logits: Float32) -> tuple[tuple[float, float], ...]:
    """Return logits ``(n, 2)`` as the manifest holds them."""
    return tuple((round(float(first), 6), round(float(second), 6)) for first, second in logits)
