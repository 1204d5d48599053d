"""When a server's process is at rest again."""

from __future__ import annotations

import time

from ...runtime.machine.errors import EngineError
from ..measuring.usage import cpu_seconds

_LOOK = 0.5  # seconds
_AT_REST = 0.05  # share of one CPU
_REST_TIMEOUT = 300.0


def wait_for_rest(name: str, pid: int) -> float:
    """Wait until a process and its children do nothing, and return the seconds that took.

    Raises:
        EngineError: they go on for minutes.
    """
    started, used = time.perf_counter(), cpu_seconds(pid)
    while used is not None:
        if time.perf_counter() - started > _REST_TIMEOUT:
            raise EngineError(f"{name} is still at work {_REST_TIMEOUT:.0f} s after the last load.")
        time.sleep(_LOOK)
        before, used = used, cpu_seconds(pid)
        if used is not None and used - before < _AT_REST * _LOOK:
            break
    return time.perf_counter() - started
