"""Where a call's time goes on a GPU, seen by CUPTI through PyTorch's profiler.

CUPTI watches the whole process, so that TensorRT and ONNX Runtime are measured by the same
instrument as PyTorch. The parts are trtexec's: enqueue is the host's time in launching and
copying calls; H2D, compute and D2H are the device's, and may overlap.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

PARTS = ("enqueue", "H2D", "compute", "D2H")
_WAITING = "Synchronize"
_MICROSECOND = 1e-6


def time_parts(call: Callable[[], object], calls: int) -> dict[str, tuple[float, ...]]:
    """Return the seconds of each part in each of ``calls`` calls; nothing without a GPU."""
    if not torch.cuda.is_available():
        return {}
    call()
    found = [_one(call) for _ in range(calls)]
    return {part: tuple(each[part] for each in found) for part in PARTS}


def _one(call: Callable[[], object]) -> dict[str, float]:
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        call()
        torch.cuda.synchronize()
    parts = dict.fromkeys(PARTS, 0.0)
    for event in profiled.key_averages():
        if event.device_type.name == "CUDA":
            parts[_device_part(event.key)] += event.self_device_time_total * _MICROSECOND
        elif event.key.startswith("cu") and _WAITING not in event.key:
            parts["enqueue"] += event.self_cpu_time_total * _MICROSECOND
    return parts


def _device_part(name: str) -> str:
    if name.startswith("Memcpy HtoD"):
        return "H2D"
    return "D2H" if name.startswith("Memcpy DtoH") else "compute"
