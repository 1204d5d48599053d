"""What a server's process holds and does while it is under load, and after."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

from ...runtime.machine.errors import EngineError
from ..measuring.usage import cpu_seconds, memory_bytes

if TYPE_CHECKING:
    from typing_extensions import Self

_INTERVAL = 1.0  # seconds; a look takes some 20 ms
_LOOK = 0.5  # seconds
_AT_REST = 0.05  # share of one CPU
_REST_TIMEOUT = 300.0


class MemoryCurve:
    """Notes the memory of a process and its children every second while a block runs.

    Attributes:
        held: bytes; the first are those at the block's start, the last those at its end. Empty
            where they are not known.
    """

    def __init__(self, pid: int) -> None:
        self.held: list[int] = []
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._ended.wait(_INTERVAL):
            self._look()

    def _look(self) -> None:
        if (held := memory_bytes(self._pid)) is not None:
            self.held.append(held)


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
