"""What to say where INT8 does not pay: the user took it to be quick."""

from __future__ import annotations

import platform
from collections.abc import Collection

from ...engines.base import X86
from ...engines.registry import engines

_VNNI = {"avx512_vnni", "avx_vnni", "amx_int8"}  # of which one multiplies and adds int8 at once


def int8_note(engine: str, computed: str, cpu_flags: Collection[str]) -> str | None:
    """Return why an INT8 bundle may be no faster than its FP32 one, or ``None``.

    Args:
        engine: what records say, for example ``onnxruntime 1.24.0 cpu``.
        computed: the type that the engine really computes in.
        cpu_flags: what the processor can do; empty if that is unknown.
    """
    if computed != "int8":
        return f"{engine} computes this int8 bundle in {computed}, no faster than an fp32 one."
    if not engine.endswith(" cpu") or platform.machine() not in X86:
        return None
    if cpu_flags and not _VNNI & set(cpu_flags):
        return "this CPU has no VNNI, so that int8 may be no faster than fp32 here."
    return engines()[engine.partition(" ")[0]].int8_advice
